"""A node that is started again and again: nothing of its former lives is left to grow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.node.conftest import free_ports
from tests.soak.conftest import descriptors, processes, resident, rounds, serving
from tests.system.conftest import KOSMOS, Nodes, RunningNode, await_
from tests.system.test_fault_points import SERVE, World, acknowledged, made, settled

pytestmark = [
    pytest.mark.timeout(1800),
    # Of pynetdicom, which forgets to close what was refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RESTARTS = 100

# Who outlives the processes that serve.
STAYING = ("supervisor", "forker")

# What one life does: a document is provided, an image stored and its manifest published.
POINTS = ("repository.kept", "imaging.kept")

# An empty log and its index, which are left where who only reads a database is the last to go.
SLACK_FILES = 2
# Connections that are open at one moment and not at another.
SLACK_DESCRIPTORS = 4
# Twice what SQLite lets a write-ahead log have before it is copied back.
LOG_BYTES = 8 * 1024 * 1024
# What may come of a hundred starts in who starts them.
SLACK_KIB = 8 * 1024


class Lives:
    """A node in its folder, started again and again, and what it acknowledged."""

    def __init__(self, folder: Path, temporary: Path, program: Sequence[str] = KOSMOS) -> None:
        self.folder, self.temporary = folder, temporary
        self.nodes = Nodes(folder, free_ports())
        self.nodes.program = program
        (folder / "no_codes.toml").touch()  # any code is good
        self.world = World(self.start(), folder, folder)

    def start(self) -> RunningNode:
        """Serve, with a folder for temporary files of its own."""
        return self.nodes.start(
            TMPDIR=str(self.temporary),
            KOSMOS__AFFINITY_DOMAIN__CODES=str(self.folder / "no_codes.toml"),
        )

    def restart(self) -> None:
        """The next life."""
        self.world.node = self.start()

    def live(self) -> None:
        """Do some of everything, again until it is acknowledged and what follows has come."""
        for point in POINTS:
            flow = await_(partial(made, self.world, point))
            await_(partial(acknowledged, flow))
            await_(partial(settled, flow))
            self.world.ledger.append(flow)

    def remember(self) -> None:
        """Everything that was acknowledged in any life is there."""
        shutil.rmtree(self.folder / "fetched")  # images once more
        for flow in self.world.ledger:
            flow.look(acknowledged=True)
            await_(partial(settled, flow))

    def kill(self) -> None:
        """End all of it at once, as a machine does that loses its power."""
        node = self.world.node
        pids = processes(node)
        node.process.kill()
        await_(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()))

    def stop(self) -> None:
        """End it as an operator does."""
        assert self.world.node.stop() == 0

    def files(self) -> Counter[str]:
        """How many there are in each folder, but for the bytes that were stored."""
        stored = {*self.folder.glob("node/data/*/[0-9a-f][0-9a-f]/*")}
        assert stored
        found = [*(self.folder / "node").rglob("*"), *self.temporary.rglob("*")]
        return Counter(str(path.parent) for path in found if path not in stored)

    def log_bytes(self) -> int:
        """Bytes of the largest write-ahead log."""
        logs = (self.folder / "node").rglob("*.db-wal")
        return max((log.stat().st_size for log in logs), default=0)

    def check(self) -> None:
        """The node's own checks, while nobody serves: they find nothing."""
        self._kosmos("check")
        self._kosmos("audit", "verify")
        found = json.loads(self._kosmos("reconcile", "--grace-hours", "0", "--scrub"))
        assert not found["alarm"], found

    def _kosmos(self, *words: str) -> str:
        command = [*KOSMOS, *words, "--json", "--config", str(self.world.node.config)]
        told = subprocess.run(command, capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout


@pytest.fixture
def lives(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lives]:
    """Of a node that is started by the program given as a parameter."""
    # A socket's path may have 107 bytes: pytest's own folders are too deep.
    with tempfile.TemporaryDirectory() as temporary:
        lives = Lives(tmp_path, Path(temporary), getattr(request, "param", KOSMOS))
        yield lives
        lives.world.client.close()
        lives.nodes.close()


def grown(before: Counter[str], after: Counter[str], slack: int) -> dict[str, tuple[int, int]]:
    """What there is more of than there was."""
    return {
        name: (before[name], count) for name, count in after.items() if count > before[name] + slack
    }


def test_a_node_that_is_started_a_hundred_times_keeps_nothing_of_its_former_lives(
    lives: Lives, tell: Callable[[str], None]
) -> None:
    """Every second life ends by SIGKILL, the others as an operator ends them.

    Neither files nor write-ahead logs nor open descriptors grow, everything that was acknowledged
    is there, and the node's checks of itself find nothing.
    """
    lives.live()
    opened = descriptors(processes(lives.world.node))
    lives.stop()
    files, longest = lives.files(), 0
    for number in rounds(RESTARTS):
        lives.restart()
        lives.live()
        assert not grown(opened, descriptors(processes(lives.world.node)), SLACK_DESCRIPTORS)
        longest = max(longest, lives.log_bytes())
        if number % 2:
            lives.kill()
            continue
        lives.stop()
        assert lives.log_bytes() == 0
        assert not grown(files, lives.files(), SLACK_FILES)
    lives.restart()
    lives.remember()
    now = descriptors(processes(lives.world.node))
    lives.stop()
    lives.check()
    tell(
        f"{number} restarts; descriptors {dict(opened)}, then {dict(now)}; files {files.total()},"
        f" then {lives.files().total()}; longest write-ahead log {longest // 1024} KiB"
    )
    assert longest <= LOG_BYTES


@pytest.mark.parametrize("lives", [(sys.executable, "-c", SERVE)], indirect=True, ids=[""])
def test_processes_that_die_a_hundred_times_cost_who_starts_them_again_nothing(
    lives: Lives, tell: Callable[[str], None]
) -> None:
    """The processes that serve die in turn by SIGKILL; who supervises and who forks them stay.

    Neither has more descriptors open or more memory afterwards, nothing of those who died stays
    behind but what they have counted, and everything that was acknowledged is there.
    """
    lives.live()
    node, pids = lives.world.node, processes(lives.world.node)
    opened, memory, files = descriptors(pids), resident(pids), lives.files()
    for number in rounds(RESTARTS):
        name = ("web-0", "dicom")[number % 2]
        os.kill(gone := serving(node)[name], signal.SIGKILL)
        await_(partial(is_back, node, name, gone))
        lives.live()
    lives.remember()
    now = processes(node)
    assert {name: now[name] for name in STAYING} == {name: pids[name] for name in STAYING}
    tell(
        f"{number} deaths; descriptors {dict(opened)}, then {dict(descriptors(now))};"
        f" KiB {dict(memory)}, then {dict(resident(now))}"
    )
    assert not grown(opened, descriptors(now), SLACK_DESCRIPTORS)
    assert not grown(keep(memory), keep(resident(now)), SLACK_KIB)
    counted = {str(path) for path in lives.temporary.iterdir()}
    left = grown(files, lives.files(), SLACK_FILES)
    assert left.keys() <= counted
    lives.stop()
    assert not [*lives.temporary.iterdir()]
    lives.check()


def is_back(node: RunningNode, name: str, gone: int) -> bool:
    """Whether another process serves in place of one that is gone."""
    return serving(node)[name] not in (0, gone)


def keep(figures: Counter[str]) -> Counter[str]:
    """The figures of those who stay."""
    return Counter({name: figures[name] for name in STAYING})
