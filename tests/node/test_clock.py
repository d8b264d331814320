"""A clock that is put back between two records of a process is recorded itself, once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from node.migrate import script_location
from node.wiring.audit import Auditor
from node.wiring.clock import CLOCK_STEP, Clock
from security.audit.chain import make_key
from security.audit.trail import Trail
from storage.space import LowWaterMark

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_only_a_step_back_of_more_than_a_minute_is_told(tmp_path: Path) -> None:
    now = [NOON]
    make_key(tmp_path)
    steps = [
        timedelta(hours=1),
        -CLOCK_STEP,
        timedelta(seconds=1),
        -2 * CLOCK_STEP,
        timedelta(seconds=1),
    ]
    with (
        script_location("security") as scripts,
        Trail(tmp_path, "north", "web-0", LowWaterMark(1), scripts) as trail,
    ):
        auditor = Auditor(trail, "north", "", clock=Clock(lambda: now[0]))
        for step in steps:
            now[0] += step
            auditor.at("registry").looked("operator")
    with closing(sqlite3.connect(tmp_path / "web-0.db")) as connection:
        query = "SELECT type, CAST(message AS TEXT) FROM audit_record ORDER BY number"
        records = connection.execute(query).fetchall()
    assert [kind for kind, _ in records] == ["110101"] * 3 + ["110129"] + ["110101"] * 2
    assert (NOON + timedelta(hours=1)).isoformat() in records[3][1]
