"""Deflated data sets: taken in as they are, indexed, handed over deflated and inflated."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from sqlalchemy import insert, select

from imaging_source.description.describe import describe
from imaging_source.dicomweb.application import DicomWeb
from imaging_source.intake import Intake
from imaging_source.retrieve import ImagingSource
from imaging_source.schema import CORRECTION, INSTANCE
from imaging_source.syntaxes import DEFLATED, EXPLICIT_VR_LITTLE_ENDIAN, INFLATED
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.dicomweb.conftest import Client
from transactions.iti_43 import DocumentRequest
from transactions.rad_69 import RetrieveImagingDocumentSetRequest, SeriesRequest, StudyRequest

Make = Callable[..., Dataset]
Encode = Callable[[Dataset], bytes]
Keep = Callable[..., int]

HERE = "1.2.250.1.9.9"
PIXELS = bytes(range(256))
ANY = 'application/dicom; transfer-syntax="*"'


def deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = made.compress(data) + made.flush()
    return whole + b"\0" * (len(whole) % 2)


@pytest.fixture
def image(make_instance: Make) -> Dataset:
    """An image whose pixels and another element are bulk data."""
    layout = {"Rows": 8, "Columns": 8, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    more = {"SamplesPerPixel": 1, "PixelRepresentation": 0, "NumberOfFrames": 2}
    data = {"PixelData": PIXELS, "ICCProfile": bytes(5000)}
    return make_instance(**layout, **more, **data, PhotometricInterpretation="MONOCHROME2")


@pytest.fixture
def keep(intake: Intake) -> Keep:
    """Take in these bytes as the deflated data set of an instance: the status."""

    def kept(instance: Dataset, data: bytes, syntax: str = DEFLATED) -> int:
        uids = instance.SOPClassUID, instance.SOPInstanceUID
        arrival = intake.begin(*uids, syntax, "MODALITY")
        for start in range(0, len(data), 1000):
            arrival.write(memoryview(data)[start : start + 1000])
        return int(arrival.finish().status)

    return kept


@pytest.fixture
def variants(tmp_path: Path, workers: Workers) -> Variants:
    return Variants(tmp_path / "variants", workers, limit=10**8)


@pytest.fixture
def client(database: Database, blobs: BlobStore, variants: Variants) -> Iterator[Client]:
    with ThreadPoolExecutor(4) as pool:
        service = DicomWeb(database, blobs, pool, variants=variants)
        with running_server(Router({}, {"/dicomweb": service})) as base:
            yield Client(f"{base}/dicomweb")


def path(instance: Dataset, rest: str = "") -> str:
    study, series = instance.StudyInstanceUID, instance.SeriesInstanceUID
    return f"/studies/{study}/series/{series}/instances/{instance.SOPInstanceUID}{rest}"


def rows(database: Database) -> list[dict[str, object]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(INSTANCE)).mappings()]


def read(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def correct(database: Database, instance: Dataset, name: str) -> None:
    said = {"study_instance_uid": instance.StudyInstanceUID, "patient_name": name}
    row = {**said, "corrected_at": 0.0, "source": "test"}
    database.write(lambda connection: connection.execute(insert(CORRECTION), row).close())


@pytest.mark.parametrize("syntax", INFLATED)
def test_what_is_deflated_is_stored_as_received_and_indexed(
    syntax: str, keep: Keep, image: Dataset, encode: Encode, database: Database, blobs: BlobStore
) -> None:
    sent = deflate(encode(image))

    assert keep(image, sent, syntax) == 0

    (row,) = rows(database)
    assert row["transfer_syntax_uid"] == syntax
    assert row["series_instance_uid"] == image.SeriesInstanceUID
    content = blobs.open(str(row["sha256"])).content
    assert b"".join(content.chunks()).endswith(sent)
    assert describe(content, syntax, {}).attributes["00080060"]["Value"] == ["CT"]


def test_a_modality_sends_it_by_c_store(port: int, image: Dataset, database: Database) -> None:
    ae = AE()
    ae.add_requested_context(image.SOPClassUID, DEFLATED)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    image.file_meta.TransferSyntaxUID = UID(DEFLATED)
    file = BytesIO()
    image.save_as(file, enforce_file_format=True)

    assert association.send_c_store(read(file.getvalue())).Status == 0x0000
    association.release()

    assert [row["transfer_syntax_uid"] for row in rows(database)] == [DEFLATED]


def test_a_bomb_is_refused_and_never_held(
    keep: Keep,
    image: Dataset,
    encode: Encode,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imaging_source.data_sets.INFLATED_LIMIT_BYTES", 1024 * 1024)
    plain = encode(image)

    assert keep(image, deflate(plain + bytes(64 * 1024 * 1024))) == 0xC000
    assert rows(database) == []
    assert keep(image, deflate(plain)) == 0


@pytest.mark.parametrize("spoil", [lambda data: data[:-20], lambda data: b"\xff" + data[1:]])
def test_what_does_not_inflate_to_its_end_is_refused(
    keep: Keep,
    image: Dataset,
    encode: Encode,
    database: Database,
    spoil: Callable[[bytes], bytes],
) -> None:
    assert keep(image, spoil(deflate(encode(image)))) == 0xC000
    assert rows(database) == []


def test_wado_rs_hands_it_over_as_received_and_inflated(
    client: Client, keep: Keep, image: Dataset, encode: Encode
) -> None:
    sent = deflate(encode(image))
    keep(image, sent)

    stored = client.get(path(image), accept=ANY)
    plain = client.get(
        path(image), accept=f'application/dicom; transfer-syntax="{EXPLICIT_VR_LITTLE_ENDIAN}"'
    )

    assert DEFLATED in stored.headers["content-type"]
    assert stored.body.endswith(sent)
    assert read(plain.body).file_meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
    assert read(plain.body).PixelData == read(stored.body).PixelData == image.PixelData


def test_its_metadata_frames_and_bulk_data_are_those_of_the_image(
    client: Client, keep: Keep, image: Dataset, encode: Encode
) -> None:
    keep(image, deflate(encode(image)))

    (metadata,) = client.get(path(image, "/metadata")).json()
    frame = client.get(path(image, "/frames/2"), accept="application/octet-stream")
    profile = client.get(path(image, "/bulkdata/00282000"), accept="application/octet-stream")

    assert metadata["00080060"]["Value"] == ["CT"]
    assert metadata["7FE00010"]["BulkDataURI"].endswith("/bulkdata/7FE00010")
    assert frame.body == PIXELS[128:]
    assert profile.body == bytes(5000)


def test_what_was_corrected_leaves_deflated_and_inflated(
    client: Client, keep: Keep, image: Dataset, encode: Encode, database: Database
) -> None:
    keep(image, deflate(encode(image)))
    before = client.get(path(image), accept=ANY)
    correct(database, image, "Martin^Anne")

    stored = client.get(path(image), accept=ANY)
    part = client.get(path(image), accept=ANY, range="bytes=100-")
    plain = client.get(
        path(image), accept=f'application/dicom; transfer-syntax="{EXPLICIT_VR_LITTLE_ENDIAN}"'
    )

    assert read(before.body).PatientName == "Durand^Anne"
    assert read(stored.body).file_meta.TransferSyntaxUID == DEFLATED
    for one in (read(stored.body), read(plain.body)):
        assert one.PatientName == "Martin^Anne"
        assert one.PixelData == image.PixelData
    assert part.body == stored.body[100:]
    assert stored.headers["etag"] != before.headers["etag"]


def test_rad_69_hands_it_over_in_the_syntax_asked_for(
    database: Database,
    blobs: BlobStore,
    variants: Variants,
    keep: Keep,
    image: Dataset,
    encode: Encode,
) -> None:
    keep(image, deflate(encode(image)))
    source = ImagingSource(database, blobs, HERE, variants)
    series = SeriesRequest(image.SeriesInstanceUID, (DocumentRequest(HERE, image.SOPInstanceUID),))
    study = StudyRequest(image.StudyInstanceUID, (series,))

    for syntax in (DEFLATED, EXPLICIT_VR_LITTLE_ENDIAN):
        answer = source.retrieve(RetrieveImagingDocumentSetRequest((study,), (syntax,)))
        (document,) = answer.documents
        given = read(b"".join(document.content.chunks()))
        assert given.file_meta.TransferSyntaxUID == syntax
        assert given.PixelData == image.PixelData
