from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.faultpoints import POINTS, Fuses, InjectedFault, Plan, UnknownPlan, burnt, set_fuse

ROOT = Path(__file__).parents[2]
PROGRAM = """
from storage import faultpoints
faultpoints.DELAY_SECONDS = 0
faultpoints.reach("keys.sealing")
print("went on")
"""
HERE, THERE = "keys.sealing", "keys.rewrapped"


@pytest.mark.parametrize(
    ("plan", "status", "says"),
    [
        ("", 0, "went on"),
        (f"{THERE}:kill", 0, "went on"),
        (f"{HERE}:delay", 0, "went on"),
        (f"{HERE}:kill@2", 0, "went on"),
        (f"{THERE}:raise,{HERE}:kill", -signal.SIGKILL, ""),
        (f"{HERE}:raise", 1, "InjectedFault"),
        ("key.sealing:kill", 1, "UnknownPlan"),
    ],
)
def test_a_process_fails_where_the_environment_says(plan: str, status: int, says: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": plan},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == status
    assert says in child.stdout + child.stderr


def test_what_is_raised_is_what_a_failing_disk_raises() -> None:
    error = InjectedFault(HERE)
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO


@pytest.mark.parametrize(
    "plan", ["nowhere:kill", f"{HERE}:explode", HERE, f"{HERE}:kill@0", f"{HERE}:kill%2"]
)
def test_a_plan_that_is_not_understood_is_refused(plan: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownPlan):
        Plan(plan)
    with pytest.raises(UnknownPlan):
        set_fuse(tmp_path, "nowhere", "kill")


def test_a_plan_acts_at_one_passage() -> None:
    plan = Plan(f"{HERE}:raise@2")
    assert [plan.action(HERE) for _ in range(3)] == ["", "raise", ""]
    assert plan.action(THERE) == ""


def test_a_plan_acts_by_chance_and_a_seed_repeats_it() -> None:
    first, again, other = (Plan(f"{HERE}:raise%0.5", seed) for seed in ("1", "1", "2"))
    draws = [[plan.action(HERE) for _ in range(64)] for plan in (first, again, other)]
    assert draws[0] == draws[1] != draws[2]
    assert {*draws[0]} == {"", "raise"}


def test_a_fuse_burns_once(tmp_path: Path) -> None:
    fuses = Fuses(tmp_path)
    assert fuses.action(HERE) == ""
    set_fuse(tmp_path, HERE, "raise")
    assert not burnt(tmp_path, HERE)
    assert [fuses.action(HERE), fuses.action(HERE)] == ["raise", ""]
    assert burnt(tmp_path, HERE)
    set_fuse(tmp_path, HERE, "delay")
    assert not burnt(tmp_path, HERE)


def test_every_point_of_the_product_is_registered_and_every_registered_one_is_there() -> None:
    rooms = ["storage", "security", "registry", "repository", "imaging_source", "node", "soap"]
    files = (path for room in rooms for path in (ROOT / room).rglob("*.py"))
    calls = (
        node
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach"
    )
    named = {ast.literal_eval(call.args[0]) for call in calls}
    assert named == POINTS.keys()
