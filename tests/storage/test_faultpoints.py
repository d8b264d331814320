from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from storage import faultpoints
faultpoints.DELAY_SECONDS = 0
faultpoints.reach("here")
print("went on")
"""


@pytest.mark.parametrize(
    ("plan", "status", "says"),
    [
        ("", 0, "went on"),
        ("there:kill", 0, "went on"),
        ("here:delay", 0, "went on"),
        ("there:raise,here:kill", -signal.SIGKILL, ""),
        ("here:raise", 1, "InjectedFault: here"),
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
