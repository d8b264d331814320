"""Where a benchmark happens: a fresh node in a temporary folder, its processes, their memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
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
from soap.server import listen

# A process that does not end by itself after so long is killed.
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """Running processes of the node that share their ports, mostly one."""

    processes: Sequence[subprocess.Popen[bytes]]
    ports: dict[str, int]
    secure: bool = False

    def url(self, path: str) -> str:
        """The URL of ``path`` on its HTTP port."""
        scheme = "https" if self.secure else "http"
        return f"{scheme}://127.0.0.1:{self.ports['http']}{path}"

    def watch_memory(self) -> Memory:
        """Their memory from now on."""
        return Memory([process.pid for process in self.processes])


class Memory:
    """The growth of some processes' resident memory since this was made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._folders = [Path(f"/proc/{pid}") for pid in pids]
        # Makes the peak (VmHWM) begin anew; where that is not allowed, growth over an
        # earlier peak is seen all the same.
        for folder in self._folders:
            with suppress(OSError):
                (folder / "clear_refs").write_text("5")
        self._before = self._kib("VmRSS")

    def growth(self) -> float:
        """The peaks beyond what they were at the start, in MiB."""
        return max(0, self._kib("VmHWM") - self._before) * 1024 / MIB

    def _kib(self, name: str) -> int:
        text = "".join((folder / "status").read_text() for folder in self._folders)
        lines = [line for line in text.splitlines() if line.startswith(f"{name}:")]
        return sum(int(line.split()[1]) for line in lines)


class Place:
    """A node in its own folder, its databases made; without TLS, unless it is ``secure``.

    ``database`` is the URL of a PostgreSQL database, which ``web_processes`` share; ``extra`` ends
    its configuration file.
    Without ``audit`` it keeps no audit trail: what that costs is measured by itself.
    """

    def __init__(
        self,
        folder: Path,
        database: str | None = None,
        extra: str = "",
        *,
        web_processes: int = 1,
        audit: bool = False,
        secure: bool = False,
    ) -> None:
        self.folder = folder
        node = NewNode(folder / "node", plain=not secure, port_base=0, database=database)
        self.config = create(node)
        trail = f"\n[audit]\nenabled = {str(audit).lower()}\n"
        text = self.config.read_text().replace(
            "[node]\n", f"[node]\nweb_processes = {web_processes}\n"
        )
        self.config.write_text(text + extra + trail)
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
        """Run its processes ``web``, or its process ``dicom``; logs and metrics as in service."""
        (self.folder / "metrics").mkdir(exist_ok=True)
        with ExitStack() as stack:
            if process == "web":
                http = stack.enter_context(listen("127.0.0.1", 0))
                names = [f"web-{number}" for number in range(self.settings.node.web_processes)]
                begun = [stack.enter_context(self._running(name, http)) for name in names]
            else:
                begun = [stack.enter_context(self._running(process))]
            ports = dict(chain.from_iterable(ports.items() for _, ports in begun))
            yield Server([running for running, _ in begun], ports, self.settings.tls.enabled)

    @contextmanager
    def _running(
        self, process: str, http: socket.socket | None = None
    ) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
        """One process and its ports; ``http`` is the socket it accepts from."""
        given = [] if http is None else [http.fileno()]
        command = [sys.executable, "-m", "benchmarks.server", process, str(self.config)]
        with open(self.folder / f"{process}.log", "wb") as log:
            running = subprocess.Popen(
                [*command, *map(str, given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics")},
                pass_fds=given,
            )
            with running:
                assert running.stdout is not None
                try:
                    line = running.stdout.readline()
                    if not line:
                        raise WrongAnswer(f"{process} did not start: {_end_of(log.name)}")
                    yield running, json.loads(line)
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
    web_processes: int = 1,
    audit: bool = False,
    secure: bool = False,
) -> Iterator[Place]:
    """A fresh node, removed afterwards; below ``parent``, or where temporary files go."""
    with tempfile.TemporaryDirectory(prefix=f"kosmos-{name}-", dir=parent) as folder:
        yield Place(
            Path(folder),
            database,
            extra,
            web_processes=web_processes,
            audit=audit,
            secure=secure,
        )
