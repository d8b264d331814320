"""DICOMweb: a study, its metadata and queries, beside Orthanc and nginx with the same images.

Orthanc runs with its DICOMweb plug-in and its defaults, over SQLite as the node does; nginx sends
one file of the study's size. Where a program is not installed, its rows are left out.
"""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from pydicom import dcmread
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from benchmarks.figures import MIB, Row, WrongAnswer, growth, interleaved, per_second, throughput
from benchmarks.images import Study, data_set, request_of, take_in
from benchmarks.load import address_of, drive
from benchmarks.orthanc import orthanc as orthanc_in
from benchmarks.peers import free_port, running
from benchmarks.place import Place, Server, fresh
from benchmarks.transfers import ROOM_BYTES, Moved, Receiver
from imaging_source.description.worker import Describer
from imaging_source.intake import Intake
from node.migrate import open_database
from node.wiring.blobs import open_images

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_STUDY_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'

# Studies of a day: what a list of a worklist's width has.
_PER_DAY = 80
_FIRST_YEAR = 2001

# Any answer here is longer than an error would be.
_LEAST_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Scale:
    """Instances of the large study; small studies beside it; queries of each run."""

    instances: int = 300
    studies: int = 2000
    queries: int = 300
    rounds: int = 3


QUICK = Scale(instances=8, studies=100, queries=20, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """Each work beside each program that is there, and the node's memory."""
    with fresh("dicomweb") as place, ExitStack() as stack:
        study = Study(place.folder / "study", 1, scale.instances)
        files = list(study.files())
        take_in(place, study, files)
        small = _small_studies(place, files[0], scale.studies)
        server = stack.enter_context(place.serve("web"))
        yield from _beside_others(place, server, study, files, scale, stack)
        if shutil.which("Orthanc") and PLUGIN.exists():
            url = stack.enter_context(orthanc(place.folder / "orthanc", [*files, *small]))
            yield from _beside_orthanc(f"{server.url('')}/dicomweb", url, study, scale)


def _beside_others(
    place: Place,
    server: Server,
    study: Study,
    files: Sequence[Path],
    scale: Scale,
    stack: ExitStack,
) -> Iterator[Row]:
    """The study by WADO-RS beside one file by nginx, and RAD-69 beside WADO-RS."""
    size = sum(file.stat().st_size for file in files)
    receiver = Receiver(address_of(server.url("")), size + ROOM_BYTES)
    asked = _get(f"{server.url('')}/dicomweb/studies/{study.uid}", _STUDY_ACCEPT)

    def wado() -> Moved:
        memory = server.watch_memory()
        moved = Moved(receiver.exchange(asked), memory.growth())
        receiver.expect([data_set(file) for file in files])
        return moved

    soap = request_of(place, server, study)
    work = f"WADO-RS of {scale.instances} x 512 KiB"

    def rad_69() -> Moved:
        return Moved(receiver.exchange(soap), 0.0)

    times, by_soap = interleaved(scale.rounds, wado, rad_69)
    seconds, soap_seconds = ([one.seconds for one in runs] for runs in (times, by_soap))
    yield throughput("RAD-69 beside own WADO-RS", size, soap_seconds, seconds, 0.9)
    yield growth(f"{work}: memory", [one.growth for one in times], 32)
    if shutil.which("nginx"):
        whole = place.folder / "www" / "whole"
        whole.parent.mkdir()
        whole.write_bytes(b"".join(file.read_bytes() for file in files))
        url = stack.enter_context(_nginx(whole.parent, place.folder / "nginx"))
        plain = Receiver(address_of(url), size + ROOM_BYTES)
        request = _get(f"{url}/whole", "*/*")
        ours, theirs = interleaved(scale.rounds, wado, lambda: Moved(plain.exchange(request), 0.0))
        seconds, plain_seconds = ([one.seconds for one in runs] for runs in (ours, theirs))
        yield throughput(f"{work}, beside one file by nginx", size, seconds, plain_seconds, 0.5)


def _beside_orthanc(ours: str, theirs: str, study: Study, scale: Scale) -> Iterator[Row]:
    whole = f"/studies/{study.uid}"
    works = (
        (f"WADO-RS of {scale.instances} x 512 KiB", whole, _STUDY_ACCEPT, 1.0),
        (f"metadata of {scale.instances} instances", f"{whole}/metadata", "application/json", 10.0),
    )
    for work, path, accept, reach in works:
        mine, other = interleaved(
            scale.rounds,
            partial(_fetched, ours, path, accept),
            partial(_fetched, theirs, path, accept),
        )
        yield per_second(f"{work}, beside Orthanc", mine, other, reach)
    queries = (
        ("by patient", [f"PatientID=Q{number}" for number in range(scale.studies)], 10.0),
        (f"by date, {_PER_DAY} studies", [f"StudyDate={_day(0)}"], 25.0),
    )
    for work, keys, reach in queries:
        mine, other = interleaved(
            scale.rounds,
            partial(_rate, ours, keys, scale.queries),
            partial(_rate, theirs, keys, scale.queries // 10),
        )
        yield per_second(f"QIDO-RS {work} of {scale.studies}, beside Orthanc", mine, other, reach)


def _fetched(root: str, path: str, accept: str) -> float:
    """How often a second an answer could be _fetched, from one."""
    parts = urlsplit(root)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    started = time.perf_counter()
    connection.request("GET", f"{parts.path}{path}", headers={"Accept": accept})
    answer = connection.getresponse()
    buffer = bytearray(MIB)
    size = 0
    while count := answer.readinto(buffer):
        size += count
    seconds = time.perf_counter() - started
    connection.close()
    if answer.status != 200 or size < _LEAST_BYTES:
        raise WrongAnswer(f"{answer.status} and {size} bytes from {root}{path}")
    return 1 / seconds


def _rate(root: str, keys: Sequence[str], count: int) -> float:
    """Queries a second of one client."""
    requests = (
        _get(f"{root}/studies?{keys[number * 7 % len(keys)]}", "application/dicom+json")
        for number in range(count)
    )
    return drive(address_of(root), requests, 1, lambda answer: b"0020000D" in answer).rate


def _get(url: str, accept: str) -> bytes:
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: {accept}\r\n\r\n".encode()


def _day(number: int) -> str:
    """The date of a small study: so many have the same."""
    return f"{_FIRST_YEAR + number // _PER_DAY}0102"


def _small_studies(place: Place, template: Path, count: int) -> list[Path]:
    """Studies of one small instance, each of its patient, taken in and described; their files."""
    folder = place.folder / "small"
    folder.mkdir()
    source = place.settings.imaging_source
    made = []
    with open_database(source, "imaging_source") as database:
        blobs = open_images(place.settings)
        intake = Intake(database, blobs)
        for number in range(count):
            file = folder / f"{number}.dcm"
            _small(template, number, file)
            uid = f"1.2.250.1.99.9.{number}.1.1"
            arrival = intake.begin(CTImageStorage, uid, ExplicitVRLittleEndian, "STORESCU")
            arrival.write(memoryview(data_set(file)))
            if arrival.finish().status != 0:
                raise WrongAnswer("a small study was not taken in")
            made.append(file)
        Describer(database, blobs).sweep()
    return made


def _small(template: Path, number: int, file: Path) -> None:
    dataset = dcmread(template)
    study = f"1.2.250.1.99.9.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{study}.1.1")
    dataset.PatientID, dataset.PatientName = f"Q{number}", f"NAME{number}^ANNE"
    dataset.StudyDate = _day(number)
    dataset.Rows = dataset.Columns = 8
    dataset.PixelData = bytes(128)
    dataset.save_as(file)


@contextmanager
def orthanc(folder: Path, files: Sequence[Path]) -> Iterator[str]:
    """Orthanc with these files; the root of its DICOMweb."""
    options = {
        "RemoteAccessAllowed": False,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True},
    }
    with orthanc_in(folder, **options) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.http)
        for file in files:
            connection.request("POST", "/instances", file.read_bytes())
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise WrongAnswer(f"Orthanc did not take an instance: {answer.status}")
        yield f"http://127.0.0.1:{server.http}/dicom-web"


@contextmanager
def _nginx(www: Path, folder: Path) -> Iterator[str]:
    """nginx serving a folder with its usual settings; its URL."""
    folder.mkdir()
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"user root; events {{}}\nhttp {{ access_log off; sendfile on; tcp_nopush on;\n"
        f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n"
        f"scgi_temp_path {folder}/scgi;\n"
        f"server {{ listen 127.0.0.1:{port}; root {www}; }} }}\n"
    )
    with running(["nginx", "-c", str(folder / "nginx.conf")], folder / "log", port):
        yield f"http://127.0.0.1:{port}"
