"""Promises that take minutes to prove, each at its full length; see ``make soak``.

``KOSMOS_SOAK_SECONDS`` makes them shorter. Nobody plays them by accident: they are collected where
this folder is named, and not below ``tests``.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from storage.sqlite import CACHE_KIB
from tests.system.conftest import RunningNode

_ASKED = float(os.environ.get("KOSMOS_SOAK_SECONDS") or "inf")
_FEWEST_ROUNDS = 3


def at_most(seconds: float) -> float:
    """The length of a promise in seconds, or what was asked for, if that is less."""
    return min(seconds, _ASKED)


def rounds(most: int) -> Iterator[int]:
    """Counts from 1 to ``most``, or until the seconds that were asked for are over."""
    ends = time.monotonic() + _ASKED
    for number in count(1):
        if number > most or (number > _FEWEST_ROUNDS and time.monotonic() > ends):
            return
        yield number


def serving(node: RunningNode) -> dict[str, int]:
    """The node's processes by name: those that serve, and who watches them."""
    run = node.config.parent / "data" / "run"
    return {file.stem: int(file.read_text() or 0) for file in run.glob("*.pid")}


def processes(node: RunningNode) -> dict[str, int]:
    """The same, and the one that they are forked from; while all of them live."""
    found = serving(node)
    return {**found, "forker": _status(found["web-0"], "PPid")}


def _status(pid: int, name: str) -> int:
    """A figure of the kernel's about a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    [figure] = re.findall(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(figure)


def descriptors(pids: Mapping[str, int]) -> Counter[str]:
    """Open descriptors of each process."""
    return Counter({name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()})


def resident(pids: Mapping[str, int]) -> Counter[str]:
    """KiB of memory that each process has, what it shares included."""
    return Counter({name: _status(pid, "VmRSS") for name, pid in pids.items()})


def own(pids: Mapping[str, int]) -> Counter[str]:
    """KiB of memory that are each process's own, less what SQLite keeps of the databases that it
    writes: that is as much as they have, up to a bound."""
    return Counter({name: _status(pid, "RssAnon") - _cached(pid) for name, pid in pids.items()})


def _cached(pid: int) -> int:
    open_for_writing = {
        path
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if (path := _target(link)).suffix == ".db" and _is_writable(pid, link.name)
    }
    return sum(min(path.stat().st_size // 1024, CACHE_KIB) for path in open_for_writing)


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except FileNotFoundError:  # closed meanwhile
        return Path()


def _is_writable(pid: int, descriptor: str) -> bool:
    try:
        info = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
    except FileNotFoundError:
        return False
    [flags] = re.findall(r"^flags:\s+([0-7]+)", info, re.MULTILINE)
    return bool(int(flags, 8) & os.O_RDWR)


def threads(pids: Mapping[str, int]) -> Counter[str]:
    """How many threads each process has."""
    return Counter({name: _status(pid, "Threads") for name, pid in pids.items()})


@pytest.fixture
def tell(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], None]:
    """Tells what was measured to the person who waits, whether the test fails or not."""

    def tell(figures: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{request.node.name}: {figures}\n")

    return tell
