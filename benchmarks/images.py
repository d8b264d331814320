"""C-STORE and RAD-69: a study of 300 instances of 512 KiB taken in and handed out.

DCMTK's ``storescu`` sends over four associations, to the node's receiver and to DCMTK's
``storescp``, with TCP_NODELAY at both ends: without it each response waits for a delayed
acknowledgement. The study is handed out by RAD-69 beside plain HTTP of the same files.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import func, select

from benchmarks.figures import Row, WrongAnswer, growth, interleaved, per_second, throughput
from benchmarks.load import address_of, http_head
from benchmarks.material import retrieval
from benchmarks.peers import are_there
from benchmarks.place import Place, Server, fresh
from benchmarks.transfers import ROOM_BYTES, Moved, Receiver
from imaging_source.intake import Intake
from imaging_source.schema import INSTANCE
from node.migrate import open_database
from node.wiring.blobs import open_images
from node.wiring.common import client_tls
from transactions.iti_43 import DocumentRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

ASSOCIATIONS = 4

# 512 x 512 pixels of 16 bits: the usual CT slice.
_EDGE = 512

# Two UIDs of one length, which stand in the template and are replaced in its bytes.
_STUDY = "1.2.250.1.99.7.100000000000"
_INSTANCE = "1.2.250.1.99.8.100000000000"


@dataclass(frozen=True, slots=True)
class Scale:
    """Instances of the study."""

    instances: int = 300
    rounds: int = 3


QUICK = Scale(instances=8, rounds=1)


class Study:
    """One study of CT slices as files, ``part-N`` for each association."""

    def __init__(self, folder: Path, number: int, instances: int, edge: int = _EDGE) -> None:
        """``edge`` is that of a slice, in pixels."""
        self.uid = _numbered(_STUDY, number)
        self.folders = [folder / f"part-{part}" for part in range(ASSOCIATIONS)]
        self.uids = [_numbered(_INSTANCE, number * 10_000 + one) for one in range(instances)]
        template = _template(edge)
        for place in self.folders:
            place.mkdir(parents=True)
        for one, uid in enumerate(self.uids):
            data = template.replace(_STUDY.encode(), self.uid.encode())
            data = data.replace(_INSTANCE.encode(), uid.encode())
            (self.folders[one % ASSOCIATIONS] / f"{uid}.dcm").write_bytes(data)

    def files(self) -> Iterator[Path]:
        """The file of every instance."""
        for one, uid in enumerate(self.uids):
            yield self.folders[one % ASSOCIATIONS] / f"{uid}.dcm"


def measure_storage(scale: Scale) -> Iterator[Row]:
    """C-STORE beside DCMTK's own receiver."""
    if not are_there("C-STORE beside storescp", "storescu", "storescp"):
        return
    numbers = count(1)
    with fresh("store") as place, place.serve("dicom") as server:

        def study() -> Study:
            number = next(numbers)
            return Study(place.folder / f"study-{number}", number, scale.instances)

        def ours() -> float:
            return scale.instances / send(study(), "KOSMOS", server.ports["dicom"])

        def reference() -> float:
            folder = place.folder / f"storescp-{next(numbers)}"
            with _storescp(folder) as port:
                seconds = send(study(), "STORESCP", port)
            _expect(len(list(folder.iterdir())), scale.instances)
            return scale.instances / seconds

        rates, theirs = interleaved(scale.rounds, ours, reference)
        _expect(_stored(place), scale.instances * scale.rounds)
    work = f"C-STORE {scale.instances} x 512 KiB, {ASSOCIATIONS} associations"
    yield per_second(work, rates, theirs, 0.25)


def measure_retrieval(scale: Scale) -> Iterator[Row]:
    """RAD-69 beside plain HTTP, and the server's memory."""
    with ExitStack() as stack:
        served = Retrieved(stack, stack.enter_context(fresh("study")), scale.instances)
        retrieved, downloaded = interleaved(scale.rounds, served.fetch, served.fetch_plain)
    work = f"RAD-69 of {scale.instances} x 512 KiB"
    times = [one.seconds for one in retrieved], [one.seconds for one in downloaded]
    yield throughput(work, served.size, *times, 0.6)
    yield growth(f"{work}: memory", [one.growth for one in retrieved], 64)


class Retrieved:
    """A study that a node holds and serves until ``stack`` is closed; ``size`` bytes."""

    def __init__(self, stack: ExitStack, place: Place, instances: int) -> None:
        study = Study(place.folder / "study", 1, instances)
        self._files = list(study.files())
        take_in(place, study, self._files)
        self.size = sum(file.stat().st_size for file in self._files)
        self._server = stack.enter_context(place.serve("web"))
        self._receiver = Receiver(
            address_of(self._server.url("")), self.size + ROOM_BYTES, client_tls(place.settings)
        )
        self._request = request_of(place, self._server, study.uid, study.uids)

    def fetch(self) -> Moved:
        """All of it by RAD-69."""
        return _fetch(self._server, self._receiver, self._request, self._files)

    def fetch_plain(self) -> Moved:
        """The same files by plain HTTP."""
        request = _plain_request(self._server, self._files)
        return _fetch(self._server, self._receiver, request, self._files)


def _template(edge: int) -> bytes:
    """The bytes of a CT slice as a DICOM file."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, _INSTANCE
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _STUDY, f"{_STUDY}.1"
    dataset.PatientID, dataset.PatientName = "123456", "MARTIN^MARIE"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20260102", "093000", "CT"
    dataset.Rows = dataset.Columns = edge
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.SamplesPerPixel, dataset.PixelRepresentation = 15, 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = _pixels(edge)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _pixels(edge: int) -> bytes:
    """A body in air with the noise of a scanner: deflate brings it to a half, as it does CT."""
    across = np.linspace(-1.0, 1.0, edge)
    is_body = across[:, None] ** 2 + across[None, :] ** 2 / 0.6 < 0.7
    noise = np.random.default_rng(1).normal(0.0, 12.0, (edge, edge))
    return bytes((np.where(is_body, 1064, 24) + noise).clip(0, 4095).astype("<u2"))


def _numbered(uid: str, number: int) -> str:
    """``uid`` with its last digits replaced by ``number``, of the same length."""
    digits = str(number)
    return uid[: -len(digits)] + digits


def send(
    study: Study, title: str, port: int, associations: int = ASSOCIATIONS, *, delayed: bool = False
) -> float:
    """Seconds that the senders take together; ``delayed`` ones as DCMTK sends by default."""
    started = time.perf_counter()
    folders = list(map(str, study.folders))
    senders = [
        subprocess.Popen(
            [
                "storescu",
                "-aec",
                title,
                "+sd",
                "127.0.0.1",
                str(port),
                *folders[part::associations],
            ],
            env=os.environ if delayed else os.environ | {"TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for part in range(associations)
    ]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - started
    if any(codes):
        raise WrongAnswer(f"storescu failed: {codes}")
    return seconds


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    """DCMTK's receiver, a process for each association; its port."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = ["storescp", "--fork", "-aet", "STORESCP", "-od", str(folder), str(port)]
    receiver = subprocess.Popen(command, env=os.environ | {"TCP_NODELAY": "1"})
    try:
        _wait_for(port)
        yield port
    finally:
        receiver.terminate()
        receiver.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise WrongAnswer("storescp does not listen")


def _expect(found: int, expected: int) -> None:
    if found != expected:
        raise WrongAnswer(f"{found} instances instead of {expected}")


def _stored(place: Place) -> int:
    source = place.settings.imaging_source
    with (
        open_database(source, "imaging_source", read_only=True) as database,
        database.read() as connection,
    ):
        return connection.execute(select(func.count()).select_from(INSTANCE)).scalar_one()


def take_in(place: Place, study: Study, files: Sequence[Path]) -> None:
    """Store the study as the receiver would, without the wire."""
    source = place.settings.imaging_source
    with open_database(source, "imaging_source") as database:
        intake = Intake(database, open_images(place.settings))
        for uid, file in zip(study.uids, files, strict=True):
            arrival = intake.begin(CTImageStorage, uid, ExplicitVRLittleEndian, "STORESCU")
            arrival.write(memoryview(data_set(file)))
            _expect(arrival.finish().status, 0)


def data_set(file: Path) -> bytes:
    """What follows the preamble and the file meta information (PS3.10 7.1)."""
    data = file.read_bytes()
    # The group length (0002,0000), UL, stands at 140 and counts from byte 144.
    return data[144 + int.from_bytes(data[140:144], "little") :]


def request_of(place: Place, server: Server, study: str, uids: Sequence[str]) -> bytes:
    """RAD-69 of these instances of a study."""
    unique_id = place.settings.imaging_source.unique_id
    documents = tuple(DocumentRequest(unique_id, uid) for uid in uids)
    series = SeriesRequest(f"{study}.1", documents)
    request = RetrieveImagingDocumentSetRequest(
        (StudyRequest(study, (series,)),), (ExplicitVRLittleEndian,)
    )
    return retrieval(server.url("/imaging"), RAD_69, request)


def _plain_request(server: Server, files: Sequence[Path]) -> bytes:
    body = "\n".join(map(str, files)).encode()
    return http_head(server.url("/bare/download"), "text/plain", len(body)) + body


def _fetch(server: Server, receiver: Receiver, request: bytes, files: Sequence[Path]) -> Moved:
    memory = server.watch_memory()
    seconds = receiver.exchange(request)
    moved = Moved(seconds, memory.growth())
    receiver.expect([data_set(file) for file in files])
    return moved
