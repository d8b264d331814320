"""Nodes whose code is read already when they begin: forked, not started anew.

To read the code of a node takes longer than all else that a short test does to it, and it is read
twice: by the command, and by the process from which those of the node are forked
(``node.preload``). So one process of the tests reads it once, and is forked for each node. What the
command does, it does here as well, in processes, an environment and output of its own. Nodes that a
fault is planned for are started as a person starts them, and so is whatever a command line is
proved with.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import thread
from contextlib import suppress
from functools import cache
from itertools import pairwise
from multiprocessing import forkserver, util
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[1]
# What a request may have: arguments and environment of one process.
_REQUEST_BYTES = 1 << 20
_NUMBER = struct.Struct("i")

# What libraries have no public words for: how a process is started, and what an end waits for.
_OF_MULTIPROCESSING: Any = util
_OF_EXECUTORS: Any = thread
_SPAWN: Callable[[str, list[str], list[int]], int] = _OF_MULTIPROCESSING.spawnv_passfds


class Process:
    """The command ``kosmos`` with these arguments; as much of ``subprocess.Popen`` as tests use.

    ``stdout`` is what it says; what it says on standard error goes to ``stderr``, or the same way.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] = os.environ,
        stderr: IO[str] | None = None,
    ) -> None:
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, encoding="utf-8")
        self.returncode: int | None = None
        self._end, told = socket.socketpair()
        request = pickle.dumps((list(arguments), dict(environment)))
        said = [writing, stderr.fileno() if stderr else writing, told.fileno()]
        socket.send_fds(_nursery(), [request], said)
        os.close(writing)
        told.close()
        self.pid = self._number()

    def poll(self) -> int | None:
        """Its exit code once it has ended, that of a signal negative; None before."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code when it ends; raises subprocess.TimeoutExpired after so many seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("kosmos", timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """What it still says until it ends; nothing more when asked again."""
        self.wait(timeout)
        if self.stdout.closed:
            return "", None
        with self.stdout as rest:
            return rest.read(), None

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._end.settimeout(timeout)
            try:
                self.returncode = self._number()
            except (BlockingIOError, TimeoutError):
                return None
            self._end.close()
        return self.returncode

    def _number(self) -> int:
        number: int = _NUMBER.unpack(self._end.recv(_NUMBER.size))[0]
        return number


@cache
def _nursery() -> socket.socket:
    """The line to the process that is forked; it ends with the line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
    command = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
    nursery = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=_ROOT)
    theirs.close()
    atexit.register(nursery.wait)
    atexit.register(ours.close)
    return ours


def main() -> None:
    """Read the code, then fork for each request until the line ends."""
    with tempfile.TemporaryDirectory("-nursery") as metrics:
        # Whether metrics are those of several processes is decided when their code is read.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        importlib.import_module("node.preload")
        _serve(socket.socket(fileno=int(sys.argv[1])))


def _serve(line: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who wait for a node are nobody's concern
    while True:
        request, files, _, _ = socket.recv_fds(line, _REQUEST_BYTES, 3)
        if not request:
            return
        if not os.fork():
            line.close()
            _tend(*pickle.loads(request), *files)
        for file in files:
            os.close(file)


def _tend(arguments: list[str], environment: dict[str, str], *files: int) -> None:
    """Fork the node, tell its process id, and its exit code once it has ended."""
    out, err, told = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        os.close(out)
        os.close(err)
        with suppress(BrokenPipeError):  # nobody wants to know
            os.write(told, _NUMBER.pack(child))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.write(told, _NUMBER.pack(code))
        os._exit(0)
    os.close(told)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # found out for the metrics, and not from this environment
    _be(arguments)


def _be(arguments: list[str]) -> None:
    """Be the command; whatever happens, nothing of the nursery's goes on in this process."""
    code = 1
    try:
        gc.enable()  # off since node.preload
        _OF_MULTIPROCESSING.spawnv_passfds = _fork_instead
        sys.argv = ["kosmos", *arguments]
        from node.cli import main

        main(arguments)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - told as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        _OF_MULTIPROCESSING._exit_function()
        os._exit(code)


def _fork_instead(path: str, arguments: list[str], files: list[int]) -> int:
    """Start what ``multiprocessing`` starts: the process that others are forked from as a fork."""
    command = arguments[-1]
    if "forkserver" not in command:
        return _SPAWN(path, arguments, files)
    if child := os.fork():
        return child
    try:
        # As one that has just begun: it handles no signal, waits for no thread, holds no lock.
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
        _OF_EXECUTORS._threads_queues.clear()
        forkserver._forkserver.__init__()  # type: ignore[misc]
        _keep_only(files)
        exec(command, {"__name__": "__main__"})  # the words of the library
    finally:
        os._exit(0)


def _keep_only(files: list[int]) -> None:
    """Close all others but the standard three."""
    kept = [2, *sorted(files), os.sysconf("SC_OPEN_MAX")]
    for before, after in pairwise(kept):
        os.closerange(before + 1, after)


if __name__ == "__main__":
    main()
