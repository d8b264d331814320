"""DICOMweb: a study, its metadata and queries, beside Orthanc and nginx with the same images.

Orthanc runs with its DICOMweb plug-in and its defaults, over SQLite as the node does; nginx sends
one file of the study's size, plain and by TLS. Where a program is not installed, its rows are left
out, which standard error tells.
"""

from __future__ import annotations

import http.client
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
from benchmarks.nginx import nginx
from benchmarks.orthanc import orthanc as orthanc_in
from benchmarks.peers import are_there
from benchmarks.place import Place, fresh
from benchmarks.transfers import ROOM_BYTES, Moved, Receiver
from imaging_source.description.worker import Describer
from imaging_source.intake import Intake
from node.config import Settings
from node.migrate import open_database
from node.wiring.blobs import open_images
from node.wiring.common import client_tls

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'

# Who asks is measured by itself.
_UNASKED = "\n[assertions]\nenabled = false\n"

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
    yield from _by_tls(scale)
    with fresh("dicomweb") as place, ExitStack() as stack:
        served = _Served(stack, place, scale)
        yield from _beside_others(served, scale, stack)
        small = _small_studies(place, served.files[0], scale.studies)
        if are_there("DICOMweb beside Orthanc", "Orthanc", PLUGIN):
            url = stack.enter_context(orthanc(place.folder / "orthanc", [*served.files, *small]))
            yield from _beside_orthanc(f"{served.server.url('')}/dicomweb", url, served, scale)


class _Served:
    """A study that a node holds and serves until ``stack`` is closed."""

    def __init__(self, stack: ExitStack, place: Place, scale: Scale) -> None:
        self.place = place
        self.study = Study(place.folder / "study", 1, scale.instances)
        self.files = list(self.study.files())
        take_in(place, self.study, self.files)
        self.size = sum(file.stat().st_size for file in self.files)
        self.server = stack.enter_context(place.serve("web"))
        self._tls = client_tls(place.settings)
        self.receiver = self.receiver_of(self.server.url(""))
        url = f"{self.server.url('')}/dicomweb/studies/{self.study.uid}"
        self._asked = get(url, ACCEPT)

    def receiver_of(self, url: str) -> Receiver:
        """What takes the study from a server."""
        return Receiver(address_of(url), self.size + ROOM_BYTES, self._tls)

    def fetch(self) -> Moved:
        """All of it by WADO-RS."""
        memory = self.server.watch_memory()
        moved = Moved(self.receiver.exchange(self._asked), memory.growth())
        self.receiver.expect([data_set(file) for file in self.files])
        return moved

    def beside_nginx(self, rounds: int, secure: Settings | None = None) -> list[list[float]]:
        """Seconds of WADO-RS, and of nginx for one file of these bytes."""
        whole = self.place.folder / "www" / "whole"
        whole.parent.mkdir()
        whole.write_bytes(b"".join(file.read_bytes() for file in self.files))
        with nginx(whole.parent, self.place.folder / "nginx", secure) as url:
            receiver, request = self.receiver_of(url), get(f"{url}/whole", "*/*")
            return interleaved(
                rounds, lambda: self.fetch().seconds, lambda: receiver.exchange(request)
            )


def _by_tls(scale: Scale) -> Iterator[Row]:
    """The study by WADO-RS beside one file by nginx, both by TLS."""
    work = f"WADO-RS of {scale.instances} x 512 KiB by TLS, beside one file by nginx"
    if not are_there(work, "nginx"):
        return
    with fresh("secure", extra=_UNASKED, secure=True) as place, ExitStack() as stack:
        served = _Served(stack, place, scale)
        ours, theirs = served.beside_nginx(scale.rounds, place.settings)
        yield throughput(work, served.size, ours, theirs, 0.8)


def _beside_others(served: _Served, scale: Scale, stack: ExitStack) -> Iterator[Row]:
    """RAD-69 beside WADO-RS, and the study by WADO-RS beside one file by nginx."""
    study = served.study
    soap = request_of(served.place, served.server, study.uid, study.uids)

    def rad_69() -> Moved:
        return Moved(served.receiver.exchange(soap), 0.0)

    times, by_soap = interleaved(scale.rounds, served.fetch, rad_69)
    seconds, soap_seconds = ([one.seconds for one in runs] for runs in (times, by_soap))
    yield throughput("RAD-69 beside own WADO-RS", served.size, soap_seconds, seconds, 0.9)
    work = f"WADO-RS of {scale.instances} x 512 KiB"
    yield growth(f"{work}: memory", [one.growth for one in times], 32)
    if are_there(f"{work}, beside one file by nginx", "nginx"):
        ours, theirs = served.beside_nginx(scale.rounds)
        yield throughput(f"{work}, beside one file by nginx", served.size, ours, theirs, 0.5)


def _beside_orthanc(ours: str, theirs: str, served: _Served, scale: Scale) -> Iterator[Row]:
    whole = f"/studies/{served.study.uid}"

    def fetched(path: str, accept: str) -> list[list[float]]:
        roots = (partial(_fetched, root, path, accept) for root in (ours, theirs))
        return interleaved(scale.rounds, *roots)

    work = f"WADO-RS of {scale.instances} x 512 KiB, beside Orthanc"
    mine, other = fetched(whole, ACCEPT)
    yield throughput(work, served.size, mine, other, 1.0)
    work = f"metadata of {scale.instances} instances, beside Orthanc"
    seconds = fetched(f"{whole}/metadata", "application/json")
    mine, other = ([1 / one for one in each] for each in seconds)
    yield per_second(work, mine, other, 10.0)
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
    """Seconds that an answer takes."""
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
    return seconds


def _rate(root: str, keys: Sequence[str], count: int) -> float:
    """Queries a second of one client."""
    requests = (
        get(f"{root}/studies?{keys[number * 7 % len(keys)]}", "application/dicom+json")
        for number in range(count)
    )
    return drive(address_of(root), requests, 1, lambda answer: b"0020000D" in answer).rate


def get(url: str, accept: str) -> bytes:
    """The HTTP request for what is at ``url``."""
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
