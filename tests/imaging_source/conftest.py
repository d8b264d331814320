"""An imaging source on loopback, instances to send to it, and peers that send them."""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Protocol

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.receiver import Listening, Receiver
from imaging_source.workers import Workers
from manifest.entry import PublicationPolicy
from manifest.model import KEY_OBJECT_SELECTION
from metadata.datatypes import XON
from metadata.model import Code
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.book import Book
from tests.imaging_source.pacs import Pacs, running_pacs

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema and no rows: migrating once is enough."""
    path = tmp_path_factory.mktemp("schema") / "imaging.db"
    with Database.open(f"sqlite:///{path}") as opened:
        opened.migrate(MIGRATIONS)
    return path


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    shutil.copy(empty_database, tmp_path / "imaging.db")
    with Database.open(f"sqlite:///{tmp_path}/imaging.db") as opened:
        yield opened


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def intake(database: Database, blobs: BlobStore, clock: Clock) -> Intake:
    return Intake(database, blobs, clock)


class StartReceiver(Protocol):
    """Starts a receiver with the given way of listening, and gives its port."""

    def __call__(self, listening: Listening) -> int: ...


@pytest.fixture
def start_receiver(intake: Intake) -> Iterator[StartReceiver]:
    with ExitStack() as running:

        def start(listening: Listening) -> int:
            return running.enter_context(Receiver(intake, listening)).port

        yield start


@pytest.fixture
def port(start_receiver: StartReceiver) -> int:
    return start_receiver(Listening(port=0))


@pytest.fixture(scope="session")
def pacs_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    """Orthanc, for all tests of a session."""
    with running_pacs(tmp_path_factory.mktemp("pacs")) as started:
        yield started


@pytest.fixture
def pacs(pacs_process: Pacs, start_receiver: StartReceiver) -> Iterator[Pacs]:
    """Orthanc with nothing in it, and ourselves where it sends to."""
    start_receiver(Listening(port=pacs_process.sends_to))
    yield pacs_process
    pacs_process.clear()


class MakeInstance(Protocol):
    """Makes a small CT instance; keywords set attributes."""

    def __call__(self, **attributes: object) -> Dataset: ...


@pytest.fixture
def make_instance() -> MakeInstance:
    study_uid, series_uid = generate_uid(), generate_uid()

    def make(**attributes: object) -> Dataset:
        dataset = Dataset()
        dataset.SOPClassUID = CT_IMAGE
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = series_uid
        dataset.PatientID = "P1"
        dataset.PatientName = "Durand^Anne"
        dataset.StudyDate = "20240115"
        dataset.StudyTime = "083000"
        dataset.StudyDescription = "Thorax"
        dataset.Modality = "CT"
        dataset.PixelData = b"\1\2\3\4" * 64
        dataset["PixelData"].VR = "OW"
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        return dataset

    return make


class MakeNote(Protocol):
    """Makes a rejection note titled ``code`` about instances; keywords set attributes."""

    def __call__(self, code: str, *rejected: Dataset, **attributes: object) -> Dataset: ...


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@pytest.fixture
def make_note(make_instance: MakeInstance) -> MakeNote:
    def make(code: str, *rejected: Dataset, **attributes: object) -> Dataset:
        studies = []
        for one in rejected:
            reference = _item(
                ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID
            )
            series = _item(
                SeriesInstanceUID=one.SeriesInstanceUID, ReferencedSOPSequence=[reference]
            )
            studies.append(
                _item(StudyInstanceUID=one.StudyInstanceUID, ReferencedSeriesSequence=[series])
            )
        title = _item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="Rejected")
        note = make_instance(
            SOPClassUID=KEY_OBJECT_SELECTION,
            SeriesInstanceUID=generate_uid(),
            Modality="KO",
            ConceptNameCodeSequence=[title],
            CurrentRequestedProcedureEvidenceSequence=studies,
            **attributes,
        )
        del note.PixelData
        return note

    return make


@pytest.fixture
def encode() -> Callable[[Dataset], bytes]:
    """The data set of an instance without preamble and meta information."""

    def encoded(dataset: Dataset) -> bytes:
        buffer = BytesIO()
        plain = Dataset(dataset)
        dcmwrite(buffer, plain, implicit_vr=False, little_endian=True)
        return buffer.getvalue()

    return encoded


class Store(Protocol):
    """Puts one instance through the intake and gives the status of its response."""

    def __call__(self, dataset: Dataset, sender: str = "MODALITY") -> int: ...


@pytest.fixture
def store(intake: Intake, encode: Callable[[Dataset], bytes]) -> Store:
    def put(dataset: Dataset, sender: str = "MODALITY") -> int:
        arrival = intake.begin(
            dataset.SOPClassUID, dataset.SOPInstanceUID, ExplicitVRLittleEndian, sender
        )
        arrival.write(memoryview(encode(dataset)))
        return int(arrival.finish().status)

    return put


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Processes for work on pixels, one at a time."""
    made = Workers(1)
    yield made
    made.close()


class Send(Protocol):
    """Sends instances over one association and gives the status of each response."""

    def __call__(self, port: int, *datasets: Dataset, called: str = "KOSMOS") -> list[int]: ...


@pytest.fixture
def send() -> Send:
    def sent(port: int, *datasets: Dataset, called: str = "KOSMOS") -> list[int]:
        ae = AE("MODALITY")
        wanted = {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets}
        for abstract, syntax in wanted:
            ae.add_requested_context(abstract, syntax)
        association = ae.associate("127.0.0.1", port, ae_title=called)
        assert association.is_established
        statuses = [int(association.send_c_store(one).Status) for one in datasets]
        association.release()
        return statuses

    return sent


@pytest.fixture
def test_file() -> Callable[[str], Path]:
    """A file of pydicom's own test data."""

    def located(name: str) -> Path:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        return Path(path)

    return located


@pytest.fixture
def dicom_tree() -> list[Path]:
    """The CT, MR and CR images of pydicom's media sample, studies of several patients."""
    root = get_testdata_file("dicomdirtests/DICOMDIR")
    assert isinstance(root, str)
    found = sorted(path for path in Path(root).parent.rglob("*") if path.is_file())
    return [path for path in found if path.name.isdigit()]  # the images have numbers for names


@pytest.fixture
def raw_data_set() -> Callable[[Path], bytes]:
    """The bytes after a file's meta information, exactly as they are in it."""

    def data_set(path: Path) -> bytes:
        data = path.read_bytes()
        (length,) = struct.unpack_from("<I", data, 140)
        return data[144 + length :]

    return data_set


@pytest.fixture
def tool() -> Callable[[str], str]:
    """The path of a foreign program, or a skip that names it."""

    def located(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return located


@pytest.fixture
def association_request() -> bytes:
    """An A-ASSOCIATE-RQ PDU for CT images, as pynetdicom would send it."""
    return encoded_request([(CT_IMAGE, [ExplicitVRLittleEndian])])


@pytest.fixture
def encode_request() -> Callable[[list[tuple[str, list[str]]]], bytes]:
    return encoded_request


def encoded_request(contexts: list[tuple[str, list[str]]], called: str = "KOSMOS") -> bytes:
    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    body = struct.pack(">HH16s16s32s", 1, 0, called.ljust(16).encode(), b"RAW".ljust(16), b"")
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, syntaxes) in enumerate(contexts):
        context = struct.pack(">BBBB", (2 * number + 1) % 256, 0, 0, 0)
        context += item(0x30, abstract.encode())
        context += b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        body += item(0x20, context)
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4")
    body += item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


class RawPeer:
    """A peer that sends any bytes and reads PDUs."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_pdu(self) -> tuple[int, bytes]:
        """Type and content of the next PDU; type 0 when the connection was closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._exactly(length)

    def is_closed(self) -> bool:
        """Whether the other side closes without sending anything more."""
        return self._exactly(1) == b""

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        try:
            while len(data) < count and (piece := self.socket.recv(count - len(data))):
                data += piece
        except ConnectionResetError:
            pass
        return data


@pytest.fixture
def connect() -> Iterator[Callable[[int], RawPeer]]:
    peers: list[RawPeer] = []

    def connected(port: int) -> RawPeer:
        peers.append(RawPeer(port))
        return peers[-1]

    yield connected
    for peer in peers:
        peer.close()


@pytest.fixture
def read_file() -> Callable[[Path], Dataset]:
    return dcmread


@pytest.fixture
def policy() -> PublicationPolicy:
    code = Code("1", "1.2.3.5")
    return PublicationPolicy(
        source_id="1.2.3.6",
        assigning_authority="1.2.3.4",
        class_code=code,
        type_code=code,
        content_type_code=code,
        healthcare_facility_type_code=code,
        practice_setting_code=code,
        confidentiality_code=code,
        institution=XON("Hospital"),
    )
