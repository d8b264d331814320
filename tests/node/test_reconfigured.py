"""Another configuration is in the audit trail, the files that it names included."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from importlib import resources
from pathlib import Path

import pytest

from node.config import Settings
from node.config_file import load
from node.init import NewNode, create
from node.migrate import migrate_audit
from node.watch import Watch, watching
from node.wiring.audit import Auditor, open_auditor, trail_folder
from tests.waiting import wait_for

CONFIGURATION = "110131"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A secure node with a policy of its own."""
    config = create(NewNode(tmp_path / "node", plain=False, port_base=0))
    config.write_text(config.read_text() + '\n[policy]\nfile = "policy.toml"\n')
    shipped = resources.files("security.access").joinpath("policy.toml")
    (tmp_path / "node/policy.toml").write_text(shipped.read_text())
    return load(config)


def changes(settings: Settings) -> int:
    """How often the trail tells of another configuration."""
    with closing(sqlite3.connect(trail_folder(settings) / "web-0.db")) as connection:
        messages = connection.execute("SELECT message FROM audit_record").fetchall()
    return sum(f'csd-code="{CONFIGURATION}"'.encode() in one for (one,) in messages)


def auditor_of(settings: Settings, stack: ExitStack) -> Auditor:
    migrate_audit(settings)
    auditor = open_auditor(settings, stack, "web-0")
    assert auditor is not None
    return auditor


@pytest.mark.parametrize("file", ["policy.toml", "codes.toml", "pki/issuer.pem", "pki/crl.pem"])
def test_a_file_that_was_changed_while_a_process_was_away_is_told_of(
    file: str, settings: Settings
) -> None:
    changed = settings.node.data_dir.parent / file
    for text in ("", "", "\n# another", ""):
        changed.write_text(changed.read_text() + text)
        with ExitStack() as stack:
            stack.enter_context(auditor_of(settings, stack).living(settings))
    assert changes(settings) == 1


def test_so_is_one_that_is_taken_over_while_it_serves(settings: Settings) -> None:
    crl = settings.node.data_dir.parent / "pki/crl.pem"
    with ExitStack() as stack:
        auditor = auditor_of(settings, stack)
        stack.enter_context(auditor.living(settings))
        taken: list[str] = []
        watch = Watch("certificates", "A", "B", [crl], lambda: taken.append(crl.read_text()))
        stack.enter_context(watching(watch, then=lambda: auditor.reconfigured(settings)))
        wait_for(lambda: taken)
        assert changes(settings) == 0
        crl.write_text(crl.read_text() + "# another")
        wait_for(lambda: changes(settings))
    assert changes(settings) == 1
