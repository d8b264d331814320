"""Where a benchmark happens: a fresh node in a temporary folder, its processes, their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import insert

from benchmarks.figures import MIB, WrongAnswer
from benchmarks.material import Material
from metadata.affinity_domain import AffinityDomain
from node.config import Settings
from node.config_file import load
from node.init import NewNode, create
from node.migrate import migrate, open_database
from node.wiring.common import affinity_domain
from registry.schema import patient

# A process that does not end by itself after so long is killed.
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running process of the node."""

    process: subprocess.Popen[bytes]
    ports: dict[str, int]

    def url(self, path: str) -> str:
        """The URL of ``path`` on its HTTP port."""
        return f"http://127.0.0.1:{self.ports['http']}{path}"

    def watch_memory(self) -> Memory:
        """Its memory from now on."""
        return Memory(self.process.pid)


class Memory:
    """The growth of a process's resident memory since this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # Makes the peak (VmHWM) begin anew; where that is not allowed, growth over an
        # earlier peak is seen all the same.
        with suppress(OSError):
            (self._folder / "clear_refs").write_text("5")
        self._before = self._kib("VmRSS")

    def growth(self) -> float:
        """The peak beyond what it was at the start, in MiB."""
        return max(0, self._kib("VmHWM") - self._before) * 1024 / MIB

    def _kib(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        [line] = [line for line in lines if line.startswith(f"{name}:")]
        return int(line.split()[1])


class Place:
    """A node in its own folder, its databases made; without TLS unless it is ``secure``.

    ``database`` is the URL of a PostgreSQL database, ``extra`` ends its configuration file.
    Without ``audit`` it keeps no audit trail: what that costs is measured by itself.
    """

    def __init__(
        self,
        folder: Path,
        database: str | None = None,
        extra: str = "",
        *,
        audit: bool = False,
        secure: bool = False,
    ) -> None:
        self.folder = folder
        node = NewNode(folder / "node", plain=not secure, port_base=0, database=database)
        self.config = create(node)
        trail = f"\n[audit]\nenabled = {str(audit).lower()}\n"
        self.config.write_text(self.config.read_text() + extra + trail)
        self.settings: Settings = load(self.config)
        self.settings.node.data_dir.mkdir(exist_ok=True)
        migrate(self.settings)

    @cached_property
    def domain(self) -> AffinityDomain:
        """Its affinity domain."""
        return affinity_domain(self.settings)

    @cached_property
    def material(self) -> Material:
        """What to send it."""
        return Material(self.domain, self.settings.repository.unique_id)

    def announce(self, patients: int) -> None:
        """Make the first ``patients`` patients known; while no process is running."""
        ids = [self.material.patient(number) for number in range(1, patients + 1)]
        known = [{"id": one, "survivor": one} for one in ids]
        with open_database(self.settings.registry, "registry") as database:
            database.write(lambda connection: connection.execute(insert(patient), known).close())

    @contextmanager
    def serve(self, process: str) -> Iterator[Server]:
        """Run its process ``web`` or ``dicom``, logs and metrics written as in service."""
        metrics = self.folder / "metrics"
        metrics.mkdir(exist_ok=True)
        with open(self.folder / f"{process}.log", "wb") as log:
            command = [sys.executable, "-m", "benchmarks.server", process, str(self.config)]
            running = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            )
            with running:
                assert running.stdout is not None
                try:
                    line = running.stdout.readline()
                    if not line:
                        raise WrongAnswer(f"{process} did not start: {_end_of(log.name)}")
                    yield Server(running, json.loads(line))
                finally:
                    _stop(running)


def _end_of(log: str) -> str:
    return Path(log).read_text("utf-8", "replace")[-2000:]


def _stop(running: subprocess.Popen[bytes]) -> None:
    assert running.stdin is not None
    running.stdin.close()
    try:
        running.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()


@contextmanager
def fresh(
    name: str,
    parent: Path | None = None,
    database: str | None = None,
    extra: str = "",
    *,
    audit: bool = False,
    secure: bool = False,
) -> Iterator[Place]:
    """A fresh node, removed afterwards; below ``parent``, or where temporary files go."""
    with tempfile.TemporaryDirectory(prefix=f"kosmos-{name}-", dir=parent) as folder:
        yield Place(Path(folder), database, extra, audit=audit, secure=secure)
