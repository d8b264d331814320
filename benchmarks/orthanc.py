"""Orthanc as the imaging server beside which figures are read, with its own defaults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import free_port, running

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
def orthanc(folder: Path, prompt: bool = True, /, **options: object) -> Iterator[Orthanc]:
    """Orthanc with an empty store in ``folder``, until the block ends.

    Unless it is ``prompt``, with the delays of TCP that it has by default.
    """
    folder.mkdir()
    ports = [free_port() for _ in range(2)]
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
    # Without it each response waits for a delayed acknowledgement of TCP.
    environment = {"TCP_NODELAY": "1"} if prompt else {}
    with running(["Orthanc", str(file)], folder / "log", *ports, environment=environment):
        yield Orthanc(*ports)
