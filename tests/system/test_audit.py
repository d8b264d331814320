"""What a node does is in its audit trail: found, proved, sent, and there after a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hl7.client import MllpClosed, MllpUnreachable
from tests.system.conftest import KOSMOS, Nodes, RunningNode, await_
from tests.system.test_crash import PATIENT, images, manifests

__all__ = ["images"]


def kosmos_audit(config: Path, *words: str) -> tuple[int, Any]:
    """Exit code and JSON of ``kosmos audit``."""
    command = [*KOSMOS, "audit", *words, "--json", "--config", str(config)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.returncode, json.loads(ran.stdout)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("audit"))
    yield nodes
    nodes.close()


@pytest.fixture(scope="module")
def stopped(nodes: Nodes, images: Path, tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    """A node that had a study published, found and fetched, and that sent its records to itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    node = nodes.start(
        KOSMOS__AUDIT__LISTEN="true",
        KOSMOS__AUDIT__PORT=str(port),
        KOSMOS__AUDIT__SEND_TO=f'["tcp://127.0.0.1:{port}"]',
    )
    assert node.announce(PATIENT) == "AA"
    assert set(node.store([images])) == {0}
    await_(lambda: len(manifests(node)) == 2)
    us = node.consumer()
    for manifest in manifests(node):
        assert us.fetch_images(manifest, tmp_path_factory.mktemp("fetched")).complete
    received = node.config.parent / "data" / "audit" / "received.db"
    # From the process that answered, and from the one that published.
    await_(lambda: count_of(received, "RAD-69") == count_of(received, "RAD-68") == 2)
    assert node.stop() == 0
    return node


def count_of(trail: Path, kind: str) -> int:
    with closing(sqlite3.connect(f"file:{trail}?mode=ro", uri=True)) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM audit_record WHERE type = ?", (kind,))
    assert isinstance(count, int)
    return count


def found(node: RunningNode, *words: str) -> list[dict[str, Any]]:
    code, records = kosmos_audit(node.config, "find", "--limit", "1000", *words)
    assert code == 0
    return [one for one in records if one["trail"] != "received"]


def test_every_call_of_the_flow_is_recorded_by_whoever_took_part(stopped: RunningNode) -> None:
    recorded = {(one["trail"], one["transaction"], one["action"]) for one in found(stopped)}
    assert recorded >= {
        ("web-0", "ITI-8", "C"),
        ("dicom", "RAD-68", "R"),
        ("web-0", "ITI-41", "C"),
        ("web-0", "ITI-18", "E"),
        ("web-0", "ITI-43", "R"),
        ("web-0", "RAD-69", "R"),
    }


def test_a_patients_records_are_found_by_the_identifier(stopped: RunningNode) -> None:
    about = found(stopped, "--patient", stopped.patient(PATIENT))
    assert {one["transaction"] for one in about} >= {"ITI-8", "RAD-68", "ITI-41", "ITI-18"}
    assert found(stopped, "--patient", stopped.patient("somebody-else")) == []
    [fed] = found(stopped, "--transaction", "ITI-8")
    assert (fed["outcome"], fed["patients"]) == (0, [stopped.patient(PATIENT)])


def test_processes_record_that_they_start_and_stop_and_readers_that_they_read(
    stopped: RunningNode,
) -> None:
    kinds = [(one["trail"], one["transaction"]) for one in found(stopped)]
    for trail in ("web-0", "dicom"):
        assert kinds.count((trail, "110120")) == kinds.count((trail, "110121")) == 1
    assert ("operator", "110101") in kinds


def test_a_repository_has_every_record_it_was_sent(stopped: RunningNode) -> None:
    _, records = kosmos_audit(stopped.config, "find", "--limit", "1000")
    sent = [one["message"] for one in records if one["trail"] in ("web-0", "dicom")]
    received = {one["message"] for one in records if one["trail"] == "received"}
    # What was recorded last of all, that the process stops, waits for its next start.
    assert set(sent) - received <= {one for one in sent if "110121" in one}


def test_the_trail_is_proved_and_one_changed_byte_is_found(stopped: RunningNode) -> None:
    code, proved = kosmos_audit(stopped.config, "verify")
    assert code == 0
    assert {one["fault"] for one in proved} == {None}
    trail = stopped.config.parent / "data" / "audit" / "web-0.db"
    with closing(sqlite3.connect(trail)) as connection, connection:
        [[message]] = connection.execute("SELECT message FROM audit_record WHERE number = 3")
        changed = message.replace(b"127.0.0.1", b"127.0.0.2", 1)
        assert changed != message
        connection.execute("UPDATE audit_record SET message = ? WHERE number = 3", (changed,))
    code, proved = kosmos_audit(stopped.config, "verify")
    with closing(sqlite3.connect(trail)) as connection, connection:
        connection.execute("UPDATE audit_record SET message = ? WHERE number = 3", (message,))
    assert code == 1
    [damaged] = [one for one in proved if one["fault"]]
    assert damaged["trail"].endswith("/web-0")
    assert (damaged["fault"], damaged["record"]) == ("altered", 3)


def test_what_was_acknowledged_before_a_kill_is_recorded(nodes: Nodes) -> None:
    node = nodes.start()
    acknowledged: list[str] = []
    enough = threading.Event()

    def announce(whose: str) -> None:
        with suppress(MllpClosed, MllpUnreachable, OSError):
            for number in count():
                if node.announce(f"{whose}-{number}") == "AA":
                    acknowledged.append(node.patient(f"{whose}-{number}"))
                if len(acknowledged) > 40:
                    enough.set()

    threads = [threading.Thread(target=announce, args=(whose,)) for whose in "abcd"]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    os.kill(int((node.config.parent / "data/run/web-0.pid").read_text()), signal.SIGKILL)
    for thread in threads:
        thread.join()
    node.stop()
    fed = found(node, "--transaction", "ITI-8")
    assert {one for record in fed for one in record["patients"]} >= set(acknowledged)
    code, _ = kosmos_audit(node.config, "verify")
    assert code == 0


@pytest.mark.parametrize("point", ["patients.before_commit", "audit.before_record"])
def test_what_a_kill_cut_off_is_recorded_by_the_next_start(nodes: Nodes, point: str) -> None:
    node = nodes.start(fault=f"{point}:kill")
    with pytest.raises(MllpClosed):
        node.announce(point)
    node.stop()
    node = nodes.start()
    assert node.announce(point) == "AA"
    node.stop()
    fed = found(node, "--patient", node.patient(point))
    assert [(one["transaction"], one["outcome"]) for one in fed] == [("ITI-8", 0), ("ITI-8", 12)]
    assert "interrupted" in fed[1]["message"]
    code, _ = kosmos_audit(node.config, "verify")
    assert code == 0
