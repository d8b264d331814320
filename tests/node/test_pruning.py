"""``kosmos audit prune``: old records leave, and that they did is a record."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from node.config_file import load
from node.migrate import migrate_audit
from node.wiring.audit import open_auditor

Kosmos = Callable[..., subprocess.CompletedProcess[str]]
LATER = "2100-01-01T00:00:00+00:00"


def looked(config: Path, *names: str) -> None:
    """Trails of processes that are gone, with a record each."""
    migrate_audit(load(config))
    for name in names:
        with ExitStack() as stack:
            auditor = open_auditor(load(config), stack, name)
            assert auditor is not None
            auditor.looked("somebody")


def test_old_records_leave_every_trail_and_who_let_them_go_is_recorded(
    plain_node: Path, kosmos: Kosmos
) -> None:
    looked(plain_node, "web-0", "dicom")
    done = kosmos("audit", "prune", "--before", LATER, "--json", "--config", plain_node)
    assert done.returncode == 0, done.stderr
    left = {one["source"].rpartition("/")[2]: one["records"] for one in json.loads(done.stdout)}
    assert left["web-0"] == left["dicom"] == 1
    proved = json.loads(kosmos("audit", "verify", "--json", "--config", plain_node).stdout)
    told = {one["trail"].rpartition("/")[2]: (one["left"], one["fault"]) for one in proved}
    assert told["web-0"] == told["dicom"] == (1, None)
    found = json.loads(kosmos("audit", "find", "--json", "--config", plain_node).stdout)
    pruned = [one for one in found if "records before 2100-01-01" in one["message"]]
    assert len(pruned) == len(left)


def test_what_is_to_be_kept_is_kept(plain_node: Path, kosmos: Kosmos) -> None:
    command = ("audit", "prune", "--config", plain_node)
    assert "say --before, or set audit.keep_days" in kosmos(*command).stderr
    plain_node.write_text(plain_node.read_text() + "\n[audit]\nkeep_days = 180\n")
    looked(plain_node, "web-0")
    refused = kosmos(*command, "--before", datetime.now(UTC).isoformat())
    assert refused.returncode == 1
    assert "are to be kept (audit.keep_days)" in refused.stderr
    [*_, web] = json.loads(kosmos(*command, "--json").stdout)
    assert web["records"] == 0


def test_a_trail_in_use_is_left_and_said_so(plain_node: Path, kosmos: Kosmos) -> None:
    looked(plain_node, "dicom")
    command = ("--lang", "fr", "audit", "prune", "--config", plain_node)
    with ExitStack() as stack:
        assert open_auditor(load(plain_node), stack, "web-0") is not None
        done = kosmos(*command, "--before", LATER)
    assert done.returncode == 1
    assert "arrêtez d'abord le nœud" in done.stderr
    assert "en service" in done.stdout


def test_nothing_leaves_a_trail_that_is_not_what_was_written(
    plain_node: Path, kosmos: Kosmos
) -> None:
    looked(plain_node, "web-0")
    folder = load(plain_node).audit.folder
    assert folder is not None
    with closing(sqlite3.connect(folder / "web-0.db")) as connection, connection:
        connection.execute("UPDATE audit_record SET message = x'20'")
    refused = kosmos("audit", "prune", "--before", LATER, "--config", plain_node)
    assert refused.returncode == 1
    assert "is not what was written: nothing leaves it" in refused.stderr
