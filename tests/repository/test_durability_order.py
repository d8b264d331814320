"""What is durable before what, seen from outside: the system calls of one submission.

Killing a process never finds a missing sync, for the page cache survives it; the order of
the calls does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("provide_once.py")
SYNC = r"(?:fsync|fdatasync)\(\d+<[^>]*%s>\)"

# Each of these must be found after the one before it.
ORDER = [
    ("the document's bytes are synced", SYNC % r"/tmp/[0-9a-f]{32}"),
    ("they get their name", r'rename\("[^"]*/tmp/[0-9a-f]{32}", "[^"]*/[0-9a-f]{64}"\)'),
    ("the name is synced", SYNC % r"/blobs/[0-9a-f]{2}"),
    ("the row is synced", SYNC % r"/repository\.db-wal"),
    ("the registry is told", r"write\(\d+<[^>]*/registered>"),
    ("the registry has it synced", SYNC % "/registered"),
    ("the outcome is synced", SYNC % r"/repository\.db-wal"),
    ("the sender is answered", r'write\(1<[^>]*>, "\[\]'),
]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """The system calls of one successful submission, in the order of their completion."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = tmp_path / "calls"
    # --seccomp-bpf: calls that are not traced run at full speed.
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-o", str(calls)]
    strace += ["-e", "trace=fsync,fdatasync,rename,write"]
    folder = tmp_path / "node"
    folder.mkdir()
    ran = subprocess.run(
        [*strace, sys.executable, str(PROGRAM), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in ran.stderr:
        pytest.skip("this machine does not let strace look at a process")
    assert ran.returncode == 0, ran.stderr
    # Calls that another thread's call interrupted are told in two lines: join them.
    text = calls.read_text()
    return re.sub(r"(\d+ +\w+\([^\n]*) <unfinished \.\.\.>", r"\1)", text)


def test_nothing_is_promised_before_it_is_durable(trace: str) -> None:
    position = 0
    for what, pattern in ORDER:
        found = re.compile(pattern).search(trace, position)
        assert found, f"{what}: not after what must come before it"
        position = found.end()
