"""Orthanc as the imaging server beside which figures are read, with its own defaults."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import WrongAnswer

# It reads its plugins and makes its database before it listens.
_START_SECONDS = 20.0

TITLE = "ORTHANC"


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc: its ports, and the modalities that may query it."""

    dicom: int
    http: int


def is_installed() -> bool:
    """Whether there is an Orthanc on this machine."""
    return shutil.which("Orthanc") is not None


@contextmanager
def orthanc(folder: Path, **options: object) -> Iterator[Orthanc]:
    """Orthanc with an empty store in ``folder``, until the block ends."""
    folder.mkdir()
    ports = [_free_port() for _ in range(2)]
    configuration = {
        "Name": TITLE,
        "DicomAet": TITLE,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomPort": ports[0],
        "HttpPort": ports[1],
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        **options,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    process = subprocess.Popen(
        ["Orthanc", str(file)],
        # Without it each response waits for a delayed acknowledgement of TCP.
        env=os.environ | {"TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for port in ports:
            _wait_for(port)
        yield Orthanc(*ports)
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    raise WrongAnswer("Orthanc does not listen")
