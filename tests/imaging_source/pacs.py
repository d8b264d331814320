"""Orthanc as the archive of a site: it knows us by title and address, and speaks DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
import urllib3
from pydicom.dataset import Dataset

from benchmarks.orthanc import TITLE, is_installed, orthanc
from benchmarks.peers import free_port
from imaging_source.requestor import Peer

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True, slots=True)
class Pacs:
    """A running archive; ``sends_to`` is the port at which it believes KOSMOS to listen."""

    peer: Peer
    http: str
    sends_to: int

    @property
    def web(self) -> str:
        """Its DICOMweb address."""
        if not PLUGIN.exists():
            pytest.skip("Orthanc's DICOMweb is not installed")
        return f"{self.http}/dicom-web"

    def put(self, *instances: Dataset) -> None:
        """Store instances there."""
        for one in instances:
            file = BytesIO()
            one.save_as(file, enforce_file_format=True)
            self._ask("POST", "/instances", file.getvalue())

    def remove(self, instance: Dataset) -> None:
        """Forget an instance."""
        found = self._ask("POST", "/tools/lookup", str(instance.SOPInstanceUID).encode())
        for one in found.json():
            self._ask("DELETE", one["Path"])

    def clear(self) -> None:
        """Forget everything."""
        for study in self._ask("GET", "/studies").json():
            self._ask("DELETE", f"/studies/{study}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        answer = urllib3.request(method, self.http + path, body=body, retries=False)
        assert answer.status == 200
        return answer


@contextmanager
def running_pacs(folder: Path) -> Iterator[Pacs]:
    """Orthanc until the block ends; a skip where there is none."""
    if not is_installed():
        pytest.skip("Orthanc is not installed")
    sends_to = free_port()
    options: dict[str, object] = {"DicomModalities": {"kosmos": ["KOSMOS", "127.0.0.1", sends_to]}}
    if PLUGIN.exists():
        options |= {"Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(folder / "orthanc", **options) as started:
        peer = Peer(TITLE, "127.0.0.1", started.dicom)
        yield Pacs(peer, f"http://127.0.0.1:{started.http}", sends_to)
