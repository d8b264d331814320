"""Programs of others, run beside what is measured until a block ends."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import WrongAnswer

# Orthanc reads its plugins and makes its database before it listens.
_START_SECONDS = 20.0


def are_there(work: str, *needed: str | Path) -> bool:
    """Whether these programs and files are on this machine; else tells what is left out."""
    missing = [
        str(one)
        for one in needed
        if not (one.exists() if isinstance(one, Path) else shutil.which(one))
    ]
    if missing:
        print(f"left out: {work}: no {', '.join(missing)} here", file=sys.stderr, flush=True)
    return not missing


@contextmanager
def running(
    command: Sequence[str], log: Path, *ports: int, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """The program, once it listens at ``ports``; raises WrongAnswer if it never does."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | dict(environment or {})
        )
    try:
        for port in ports:
            _wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise WrongAnswer(f"{process.args!r} does not listen")
