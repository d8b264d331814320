"""``kosmos serve``: the processes of a node, started, watched, restarted, stopped.

The supervisor opens no database and serves nobody. It brings the schemas up to date, binds the
HTTP port (so that restarts never refuse a connection), starts ``web`` and ``dicom``
(docs/architecture.md), prints one line ``ready`` when every listener accepts, restarts what
dies, ever more slowly while it keeps dying, passes SIGHUP on, and ends everything on SIGTERM or
SIGINT.

The processes are forked from one that has imported what they need and does nothing else: that is
read once, is in memory once, and a process that died is soon back.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from multiprocessing import util
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import multiprocess

from node.config import HTTP, PID_FOLDER, Settings
from node.endpoints import Endpoints
from node.lifeline import Listeners
from node.process import enter

log = structlog.get_logger(__name__)

# Opening databases and listeners takes a second; a slow disk may take this many.
START_SECONDS = 60.0
# A clean stop is promised in less than 30 s; the rest is for the kernel after SIGKILL.
STOP_SECONDS = 25.0
# Restarts wait 0.5 s, twice as long each time, 30 s at most ...
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# ... and begin anew for a process that has lived this long.
SETTLED_SECONDS = 60.0
# Connections that wait while a process restarts.
BACKLOG = 1024

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["node.preload"])


def _presence_file(settings: Settings) -> Path:
    """The file that holds the supervisor's process id, locked while it lives."""
    return settings.node.data_dir / PID_FOLDER / "supervisor.pid"


def running(settings: Settings) -> int | None:
    """The process id of the supervisor that serves this node; None when nobody does."""
    try:
        with _presence_file(settings).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        number = _presence_file(settings).read_text().strip()
        return int(number) if number else None  # locked, and not yet written
    except FileNotFoundError:
        return None
    return None


class StartFailed(Exception):
    """A process could not start; ``code`` is its exit code, its words are on standard error."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(name)
        self.name = name
        self.code = code


class Child:
    """One process of the node: ``main`` of a module, with what it is given."""

    def __init__(self, name: str, module: str, config: Path, **given: Any) -> None:
        self.name = name
        self.listeners: Listeners = {}
        self._module = module
        self._config = config
        self._given = given
        self._process: ForkServerProcess | None = None
        self._ended = asyncio.Event()
        self._line: asyncio.StreamWriter | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 before the first start."""
        return (self._process.pid or 0) if self._process else 0

    async def start(self) -> None:
        """Start it and wait until its listeners accept. Raises StartFailed."""
        self.listeners = {}
        ours, theirs = socket.socketpair()
        with theirs:
            given = (self._module, self.name, self._config, theirs, self._given)
            process = _processes.Process(target=enter, args=given, name=self.name)
            # The first one waits until everything is imported.
            await asyncio.to_thread(process.start)
        self._watch_end(process)
        reader, self._line = await asyncio.open_connection(sock=ours)
        try:
            line = await asyncio.wait_for(reader.readline(), START_SECONDS)
        except TimeoutError:
            line = b""
        if not line:
            code = await self.stop()
            raise StartFailed(self.name, code or 1)
        self.listeners = json.loads(line)

    def reload(self) -> None:
        """Tell it to read again what may change; one that is starting is reading anyway."""
        if self.listeners:
            self._signal(signal.SIGHUP)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        await self._ended.wait()
        return self._process.exitcode or 0

    async def stop(self) -> int:
        """End it, politely first, for sure after ``STOP_SECONDS``; its exit code."""
        if self._process is None:
            return 0
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended.wait(), STOP_SECONDS)
        except TimeoutError:
            log.error("process did not stop in time", code="NODE-STOP", child=self.name)
            self._signal(signal.SIGKILL)
        self.forget()
        return await self.wait()

    def forget(self) -> None:
        """Cut the line: should the process live, out of our sight, it stops by itself."""
        if self._line is not None:
            self._line.close()

    def _watch_end(self, process: ForkServerProcess) -> None:
        """Have ``_ended`` set when it ends."""
        self._process, self._ended = process, asyncio.Event()
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(process.sentinel)
            process.join()
            self._ended.set()

        loop.add_reader(process.sentinel, ended)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Supervisor:
    """The processes of one node."""

    def __init__(self, settings: Settings, config: Path) -> None:
        self._settings = settings
        self._config = config.resolve()
        self._children: list[Child] = []
        self._stopping = asyncio.Event()

    async def run(self, announce: Callable[[Endpoints], None]) -> None:
        """Serve until a signal comes. ``announce`` is told the endpoints once all accept.

        Raises StartFailed, and OSError when the HTTP port is taken.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        with (
            self._http_socket() as http,
            self._presence() as alone,
            tempfile.TemporaryDirectory("-kosmos-metrics") as metrics,
            self._remembered(metrics, util.get_temp_dir()) if alone else contextlib.nullcontext(),
        ):
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
            try:
                await self._until_stopped(self._start_all(http))
                if not self._stopping.is_set():
                    announce(self._endpoints())
                    await self._until_stopped(self._watch_all())
            finally:
                # Ends at once what waits for a process that is gone: nobody will answer it.
                http.close()
                await asyncio.gather(*(child.stop() for child in self._children))

    def _reload(self) -> None:
        log.info("reload", code="NODE-RELOAD")
        for child in self._children:
            child.reload()

    @contextlib.contextmanager
    def _presence(self) -> Iterator[bool]:
        """Our process id for operators, under a lock that tells a running node from a memory.

        False where another node on this folder has it; who writes what is settled elsewhere.
        """
        path = _presence_file(self._settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield True

    @contextlib.contextmanager
    def _remembered(self, *folders: str) -> Iterator[None]:
        """Keep links to our temporary folders, in place of those to the last supervisor's.

        Who is killed cannot clear away behind himself: if his are still there, they go.
        """
        run = self._settings.node.data_dir / PID_FOLDER
        links = [run / f"temporary-{number}" for number, _ in enumerate(folders)]
        for link, folder in zip(links, folders, strict=True):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(link.readlink(), ignore_errors=True)
                link.unlink()
            link.symlink_to(folder)
        try:
            yield
        finally:
            for link in links:
                link.unlink(missing_ok=True)

    async def _until_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Run ``work`` to its end, or until a signal comes."""
        tasks = [asyncio.create_task(work), asyncio.create_task(self._stopped())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stopped(self) -> None:
        await self._stopping.wait()

    def _http_socket(self) -> socket.socket:
        host, port = self._settings.node.host, self._settings.port(HTTP)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)

    async def _start_all(self, http: socket.socket) -> None:
        """All at once: who needs another waits for it, as after any restart."""
        for number in range(self._settings.node.web_processes):
            # One process alone has the admin port and the feed.
            primary = number == 0
            name = f"web-{number}"
            given = {"http": http, "primary": primary, "trail": name}
            self._children.append(Child(name, "node.web", self._config, **given))
        if self._settings.imaging_source.enabled:
            port = http.getsockname()[1]
            self._children.append(Child("dicom", "node.dicom", self._config, http_port=port))
        await asyncio.gather(*(self._start(child) for child in self._children))

    async def _start(self, child: Child) -> None:
        await child.start()
        folder = self._settings.node.data_dir / PID_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{child.name}.pid").write_text(f"{child.pid}\n")

    def _endpoints(self) -> Endpoints:
        ports: Listeners = {}
        for child in self._children:
            ports |= child.listeners
        return Endpoints.of(self._settings, ports)

    async def _watch_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._watch(child))

    async def _watch(self, child: Child) -> None:
        """Start ``child`` again whenever it dies, for ever."""
        pause = FIRST_PAUSE
        while True:
            born = time.monotonic()
            code = await child.wait()
            multiprocess.mark_process_dead(child.pid)  # type: ignore[no-untyped-call]  # their gap
            if time.monotonic() - born > SETTLED_SECONDS:
                pause = FIRST_PAUSE
            log.error(
                "process died", code="NODE-DIED", child=child.name, exit_code=code, pause=pause
            )
            child.forget()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            with contextlib.suppress(StartFailed):
                await self._start(child)
