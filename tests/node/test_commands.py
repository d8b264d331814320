"""What a command does as a client of other nodes is in an audit trail, and sent on."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lxml import etree

from consumer.applications import Application
from consumer.errors import NoAnswer
from consumer.files import Allowance, PartialFile
from consumer.plan import Wanted
from consumer.ways import Answer, Arrival, Desk, WayName
from node.cli.exits import Exit
from node.config import Settings
from node.config_file import load
from node.operator import operator_name
from node.wiring.audit import OPERATOR, acting
from node.wiring.client import consumer
from node.wiring.commands import commanding
from storage.space import LowWaterMark

Kosmos = Callable[..., subprocess.CompletedProcess[str]]
NOBODY = "http://127.0.0.1:9/registry"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.3"
MESSAGE = b"MSH|^~\\&|A|B|C|D|2026||ADT^A04|7|P|2.3.1\rPID|||4711^^^&1.2.3&ISO\r"


def records(settings: Settings, trail: str = "client-0") -> list[etree._Element]:
    """The messages of a command's trail."""
    assert settings.audit.folder is not None
    with closing(sqlite3.connect(settings.audit.folder / f"{trail}.db")) as connection:
        query = "SELECT message FROM audit_record ORDER BY number"
        return [etree.fromstring(message) for (message,) in connection.execute(query)]


def outcomes(found: list[etree._Element]) -> list[tuple[str, str]]:
    """Event type and outcome of each record."""
    attributes = ("EventTypeCode/@csd-code", "@EventOutcomeIndicator")
    asked = [f"string(EventIdentification/{one})" for one in attributes]
    return [(str(one.xpath(asked[0])), str(one.xpath(asked[1]))) for one in found]


def test_a_query_that_nobody_answers_is_recorded_with_who_asked(
    plain_node: Path, kosmos: Kosmos
) -> None:
    asked = kosmos("find", "4711", "--registry", NOBODY, "--config", plain_node)
    assert asked.returncode == Exit.UNREACHABLE
    [record] = records(load(plain_node))
    assert outcomes([record]) == [("ITI-18", "12")]
    participants = {one.get("UserID"): one for one in record.iter("ActiveParticipant")}
    assert participants[operator_name()].get("UserIsRequestor") == "true"
    assert participants[NOBODY].get("UserIsRequestor") == "false"
    told = json.loads(kosmos("audit", "find", "--json", "--config", plain_node).stdout)
    assert "client-0" in {one["trail"] for one in told}
    assert kosmos("audit", "verify", "--config", plain_node).returncode == 0


def before_an_archive(config: Path, url: str) -> None:
    """Have the node fetch from an archive at the DICOMweb address."""
    keys = f'[imaging_source]\narchives = [{{ title = "PACS", url = "{url}" }}]'
    config.write_text(config.read_text().replace("[imaging_source]", keys))


def test_an_operator_who_asks_an_archive_is_recorded(plain_node: Path, kosmos: Kosmos) -> None:
    before_an_archive(plain_node, NOBODY)
    assert kosmos("migrate", "--config", plain_node).returncode == 0
    assert kosmos("archives", "--config", plain_node).returncode != 0
    [record] = records(load(plain_node))
    assert outcomes([record]) == [("RAD-129", "8")]
    participants = {one.get("UserID"): one for one in record.iter("ActiveParticipant")}
    asks = {name: one.get("UserIsRequestor") for name, one in participants.items()}
    assert asks == {operator_name(): "true", "KOSMOS": "true", "PACS": "false"}


def test_commands_at_the_same_time_have_a_trail_each(plain_node: Path) -> None:
    settings = load(plain_node)
    for _ in range(2):
        with commanding(settings, "jo") as one, commanding(settings, "al") as other:
            assert one is not None
            assert other is not None
            for each in (one, other):
                each.feeding("adt.test:2575", lambda message: message)(MESSAGE)
            sources = [each.auditor.trail.source.rpartition("/")[2] for each in (one, other)]
        assert sources == ["client-0", "client-1"]


def test_where_nothing_can_be_recorded_nothing_is_asked(
    plain_node: Path, kosmos: Kosmos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        settings = load(plain_node)
        with commanding(settings, "jo") as commanded:
            assert commanded is not None
            full = LowWaterMark(2**62)
            monkeypatch.setattr(commanded.auditor.trail, "_low_water", full)
            monkeypatch.setattr("node.wiring.audit.LowWaterMark", lambda _bytes: full)
        url = f"http://{host}:{port}/registry"
        before_an_archive(plain_node, url)
        assert kosmos("migrate", "--config", plain_node).returncode == 0
        for command in (("find", "4711", "--registry", url), ("archives",)):
            assert kosmos(*command, "--config", plain_node).returncode == 1
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_without_an_audit_trail_commands_work_all_the_same(
    plain_node: Path, kosmos: Kosmos
) -> None:
    asked = kosmos(
        "find", "4711", "--registry", NOBODY, "--config", plain_node, KOSMOS__AUDIT__ENABLED="false"
    )
    assert asked.returncode == Exit.UNREACHABLE
    assert not (plain_node.parent / "data" / "audit").exists()


def test_what_is_recorded_is_sent_on_at_the_end_and_later_what_did_not_get_there(
    plain_node: Path, kosmos: Kosmos
) -> None:
    def find() -> None:
        target = f'["tcp://127.0.0.1:{port}"]'
        question = ("find", "4711", "--registry", NOBODY, "--config", plain_node)
        kosmos(*question, KOSMOS__AUDIT__SEND_TO=target)

    with socket.create_server(("127.0.0.1", 0)) as repository:
        port = repository.getsockname()[1]
    find()  # nobody takes it
    got = bytearray()

    def take() -> None:
        connection, _ = repository.accept()
        with connection:
            while piece := connection.recv(65536):
                got.extend(piece)

    with socket.create_server(("127.0.0.1", port)) as repository:
        taking = threading.Thread(target=take)
        taking.start()
        find()
        taking.join(10)
    assert got.count(b"<AuditMessage") == 2


def test_what_operators_do_is_sent_on_by_the_node_that_serves(
    plain_node: Path, kosmos: Kosmos, serve: Callable[[Path], object]
) -> None:
    assert kosmos("audit", "verify", "--config", plain_node).returncode == 0
    got, found = bytearray(), threading.Event()

    def take() -> None:
        while not found.is_set():
            connection, _ = repository.accept()  # one for each trail
            with connection:
                while piece := connection.recv(65536):
                    got.extend(piece)
                    if b"Audit Log Used" in got:
                        found.set()

    with socket.create_server(("127.0.0.1", 0)) as repository:
        target = f"tcp://127.0.0.1:{repository.getsockname()[1]}"
        plain_node.write_text(plain_node.read_text() + f'\n[audit]\nsend_to = ["{target}"]\n')
        taking = threading.Thread(target=take)
        taking.start()
        serve(plain_node)
        assert found.wait(30)
        taking.join(10)
    assert operator_name().encode() in got


def test_an_operator_waits_for_the_command_of_another(
    plain_node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, first = load(plain_node), ExitStack()
    before = first.enter_context(acting(settings))
    assert before is not None
    before.looked("jo")
    monkeypatch.setattr("node.wiring.audit.time.sleep", lambda _seconds: first.close())
    with acting(settings) as auditor:
        assert auditor is not None
        auditor.looked("al")
    users = [one.xpath("string(ActiveParticipant/@UserID)") for one in records(settings, OPERATOR)]
    assert users == ["jo", "al"]


def test_an_operator_is_told_who_is_in_the_way_for_too_long(
    plain_node: Path, kosmos: Kosmos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.wiring.audit.PATIENCE_SECONDS", 0.0)
    with acting(load(plain_node)):
        refused = kosmos("--lang", "fr", "audit", "find", "--config", plain_node)
    assert refused.returncode == Exit.FAILED
    assert "un autre processus écrit le journal d'audit operator" in refused.stderr


def test_a_message_of_an_identity_source_is_recorded_as_it_was_answered(
    plain_node: Path,
) -> None:
    settings = load(plain_node)
    answers = [b"MSH|^~\\&|C|D|A|B|2026||ACK|8|P|2.3.1\rMSA|%s|7\r" % one for one in (b"AA", b"AE")]

    def gone(_message: bytes) -> bytes:
        raise ConnectionError

    with commanding(settings, "jo") as commanded:
        assert commanded is not None
        for answer in answers:
            commanded.feeding("adt.test:2575", {MESSAGE: answer}.__getitem__)(MESSAGE)
        with pytest.raises(ConnectionError):
            commanded.feeding("adt.test:2575", gone)(MESSAGE)
        commanded.feeding("adt.test:2575", lambda _: answers[1])(b"nothing that HL7 knows")
    found = records(settings)
    assert outcomes(found) == [("ITI-8", code) for code in ("0", "8", "12", "8")]
    assert found[0].xpath("string(//@ParticipantObjectID)") == "4711^^^&1.2.3&ISO"
    assert {one.get("UserID") for one in found[0].iter("ActiveParticipant")} == {
        "B|A", "adt.test:2575", "jo",
    }  # fmt: skip


@dataclass
class Half:
    """A way that brings the first instance it is asked for, and then breaks."""

    folder: Path
    name: WayName = WayName.CGET

    def serves(self, wanted: Wanted) -> bool:
        return True

    def batches(self, wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
        yield wanted

    def fetch(self, batch: Sequence[Wanted], desk: Desk) -> Generator[Answer, None, None]:
        yield Arrival(batch[0].sop_instance_uid, PartialFile(self.folder, Allowance()).finish())
        raise NoAnswer("gone")

    def close(self) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize(
    ("way", "number", "source"),
    [(WayName.CGET, "RAD-16", "PACS"), (WayName.WADO, "RAD-107", "http://pacs.test/dicomweb")],
)
def test_images_are_recorded_by_portion_those_that_came_and_those_that_did_not(
    plain_node: Path, tmp_path: Path, way: WayName, number: str, source: str
) -> None:
    settings = load(plain_node)
    wanted = [
        Wanted("1.9", "1.2.3.1", f"1.2.3.1.{one}", tmp_path, CT, STUDY, "", "PACS", 3)
        for one in range(3)
    ]
    with commanding(settings, "jo") as commanded:
        assert commanded is not None
        made = replace(
            consumer(settings, "jo"),
            dicom={"1.9": Application("PACS", "pacs.test", 104)},
            dicomweb={"1.9": "http://pacs.test/dicomweb"},
        )
        watched = commanded.watching(made).watched(Half(tmp_path, way))
        desk = Desk(lambda: PartialFile(tmp_path, Allowance()), Allowance(), threading.Event())
        with pytest.raises(NoAnswer):
            list(watched.fetch(wanted, desk))
    found = records(settings)
    assert outcomes(found) == [(number, "0"), (number, "8")]
    counts = [one.xpath("string(//SOPClass/@NumberOfInstances)") for one in found]
    assert counts == ["1", "2"]
    for one in found:
        assert one.xpath("string(//@ParticipantObjectID)") == STUDY
        assert source in {end.get("UserID") for end in one.iter("ActiveParticipant")}
