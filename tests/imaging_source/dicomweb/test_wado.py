"""WADO-RS over HTTP: what comes out is what was stored, or a status that says why not."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID
from sqlalchemy import insert, select, update

from imaging_source.intake import Intake
from imaging_source.schema import CORRECTION, INSTANCE
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LS = "1.2.840.10008.1.2.4.80"
DICOM = 'multipart/related; type="application/dicom"'


@pytest.fixture(params=["described", "not yet described"])
def known(request: pytest.FixtureRequest, describe_all: Callable[[], int]) -> Callable[[], object]:
    """Brings the index to one of the two states in which a request may meet it."""
    return describe_all if request.param == "described" else lambda: None


def path(instance: Dataset, level: str = "instance") -> str:
    parts = f"/studies/{instance.StudyInstanceUID}"
    if level != "study":
        parts += f"/series/{instance.SeriesInstanceUID}"
    return parts if level != "instance" else f"{parts}/instances/{instance.SOPInstanceUID}"


def stored(database: Database, blobs: BlobStore, instance: Dataset) -> bytes:
    query = select(INSTANCE.c.sha256).where(INSTANCE.c.sop_instance_uid == instance.SOPInstanceUID)
    with database.read() as connection:
        return blobs.open(connection.execute(query).scalar_one()).path.read_bytes()


def store_encapsulated(intake: Intake, instance: Dataset, syntax: str = JPEG_LS) -> None:
    """Take in a data set whose pixels are encapsulated already."""
    instance["PixelData"].VR = "OB"
    instance["PixelData"].is_undefined_length = True
    file = DicomBytesIO()
    instance.file_meta.TransferSyntaxUID = UID(syntax)
    instance.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    start = 144 + int.from_bytes(data[140:144], "little")
    arrival = intake.begin(instance.SOPClassUID, instance.SOPInstanceUID, syntax, "MODALITY")
    arrival.write(memoryview(data[start:]))
    assert arrival.finish().status == 0


def test_a_study_comes_out_as_it_was_stored_in_order(
    web: Any, make_instance: Make, store: Store, database: Database, blobs: BlobStore
) -> None:
    instances = [make_instance(InstanceNumber=number) for number in (3, 1, 2)]
    for instance in instances:
        store(instance)
    for level in ("study", "series"):
        answer = web.get(path(instances[0], level), accept=DICOM)
        assert answer.status == 200
        assert int(answer.headers["content-length"]) == len(answer.body)
        contents = [content for _, content in answer.parts()]
        assert contents == [stored(database, blobs, instances[at]) for at in (1, 2, 0)]
    head, _ = answer.parts()[0]
    assert head["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert head["content-location"] == f"{web.root}{path(instances[1])}"


def test_no_answer_is_left_for_whoever_uses_the_browser_next_nor_run_in_it(
    web: Any, make_instance: Make, store: Store
) -> None:
    store(make_instance())
    for asked in ("/studies", path(make_instance(), "study"), "/studies/1.2.3"):
        headers = web.get(asked).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_one_instance_comes_alone_or_in_a_multipart(
    web: Any, make_instance: Make, store: Store, database: Database, blobs: BlobStore
) -> None:
    instance = make_instance()
    store(instance)
    data = stored(database, blobs, instance)
    alone = web.get(path(instance), accept="application/dicom")
    assert (alone.status, alone.body) == (200, data)
    assert alone.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    for accept in (DICOM, "*/*", f"text/html, {DICOM};q=0.1"):
        [(_, content)] = web.get(path(instance), accept=accept).parts()
        assert content == data
    [(_, content)] = web.get(f"{path(instance)}?accept=multipart/related", accept="x/y").parts()
    assert content == data


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/dicom; transfer-syntax=*", 200),
        (f"application/dicom; transfer-syntax={EXPLICIT}", 200),
        (f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_LS}', 406),
        (f"{DICOM}; transfer-syntax={JPEG_LS}, {DICOM}; transfer-syntax={EXPLICIT}", 200),
        ("image/jpeg", 406),
        ("application/dicom; q=0", 406),
        ("application/dicom; q=2", 400),
        ("nonsense", 400),
    ],
)
def test_what_the_client_accepts_decides(
    web: Any, make_instance: Make, store: Store, accept: str, status: int
) -> None:
    instance = make_instance()
    store(instance)
    assert web.get(path(instance), accept=accept).status == status


def test_a_study_is_never_a_single_part(web: Any, make_instance: Make, store: Store) -> None:
    instance = make_instance()
    store(instance)
    assert web.get(path(instance, "study"), accept="application/dicom").status == 406


def test_of_a_study_in_two_syntaxes_the_accepted_part_is_handed_over(
    web: Any, make_instance: Make, store: Store, intake: Intake
) -> None:
    plain, other = make_instance(), make_instance(PixelData=encapsulate([b"\1" * 10]))
    store(plain)
    store_encapsulated(intake, other)
    answer = web.get(path(plain, "study"), accept=f"{DICOM}; transfer-syntax={EXPLICIT}")
    assert answer.status == 206
    assert "1 of 2" in answer.headers["warning"]
    assert len(answer.parts()) == 1
    assert len(web.get(path(plain, "study"), accept=f"{DICOM}; transfer-syntax=*").parts()) == 2


def test_what_is_not_here_or_rejected_is_not_found(
    web: Any, make_instance: Make, store: Store, database: Database
) -> None:
    instance = make_instance()
    assert web.get(path(instance)).status == 404
    store(instance)
    other = path(instance).replace(instance.SeriesInstanceUID, "1.2.3")
    assert web.get(other).status == 404
    statement = update(INSTANCE).values(rejection="113001")
    database.write(lambda connection: connection.execute(statement))
    for what in ("", "/metadata", "/bulkdata", "/bulkdata/7FE00010", "/frames/1"):
        assert web.get(f"{path(instance)}{what}").status == 404
    assert web.get(path(instance, "study")).status == 404


def test_a_file_that_is_gone_is_told_before_the_answer_begins(
    web: Any, make_instance: Make, store: Store, database: Database, blobs: BlobStore
) -> None:
    gone, whole = make_instance(), make_instance()
    store(gone)
    store(whole)
    query = select(INSTANCE.c.sha256).where(INSTANCE.c.sop_instance_uid == gone.SOPInstanceUID)
    with database.read() as connection:
        blobs.open(connection.execute(query).scalar_one()).path.unlink()
    answer = web.get(path(gone, "study"), accept=DICOM)
    assert (answer.status, len(answer.parts())) == (206, 1)
    assert web.get(path(gone), accept=DICOM).status == 500
    assert b"/" not in web.get(path(gone), accept=DICOM).body


def test_ranges_of_an_instance_resume_a_download(
    web: Any, make_instance: Make, store: Store, database: Database, blobs: BlobStore
) -> None:
    instance = make_instance()
    store(instance)
    data = stored(database, blobs, instance)
    accept = {"accept": "application/dicom"}
    whole = web.get(path(instance), **accept)
    tag = whole.headers["etag"]
    first = web.get(path(instance), range="bytes=0-99", **accept)
    rest = web.get(path(instance), range="bytes=100-", if_range=tag, **accept)
    assert (first.status, rest.status) == (206, 206)
    assert first.body + rest.body == data
    assert rest.headers["content-range"] == f"bytes 100-{len(data) - 1}/{len(data)}"
    assert web.get(path(instance), range="bytes=-10", **accept).body == data[-10:]
    changed = web.get(path(instance), range="bytes=100-", if_range='"other"', **accept)
    assert (changed.status, changed.body) == (200, data)
    beyond = web.get(path(instance), range=f"bytes={len(data)}-", **accept)
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    for unread in ("bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=a-b"):
        assert web.get(path(instance), range=unread, **accept).status == 200
    unchanged = web.get(path(instance), if_none_match=tag, **accept)
    assert (unchanged.status, unchanged.body) == (304, b"")


def test_metadata_have_every_attribute_and_where_the_bulk_data_is(
    web: Any, make_instance: Make, store: Store, known: Callable[[], object]
) -> None:
    item = Dataset()
    item.CodeMeaning = "Thorax"
    instance = make_instance(PatientSize=1.5, ProcedureCodeSequence=[item], InstanceNumber=7)
    store(instance)
    known()
    for level in ("study", "series", "instance"):
        [found] = web.get(f"{path(instance, level)}/metadata").json()
        assert found["00101020"] == {"vr": "DS", "Value": [1.5]}
        assert found["00081032"]["Value"][0]["00080104"]["Value"] == ["Thorax"]
        uri = found["7FE00010"]["BulkDataURI"]
        assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": uri}
        assert Dataset.from_json(found, lambda *_: b"").SOPInstanceUID == instance.SOPInstanceUID
    assert uri == f"{web.root}{path(instance)}/bulkdata/7FE00010"
    answer = web.get(uri.removeprefix(web.root), accept="application/octet-stream")
    assert answer.body == instance.PixelData
    part = web.get(uri.removeprefix(web.root), range="bytes=4-7", accept="application/octet-stream")
    assert (part.status, part.body) == (206, instance.PixelData[4:8])


def test_metadata_are_compressed_for_whoever_takes_it(
    web: Any, make_instance: Make, store: Store, known: Callable[[], object]
) -> None:
    for _ in range(4):
        instance = make_instance(PatientComments="x" * 400)
        store(instance)
    known()
    answer = web.get(f"{path(instance, 'study')}/metadata", accept_encoding="gzip, br")
    assert answer.headers["content-encoding"] == "gzip"
    plain = web.get(f"{path(instance, 'study')}/metadata", accept_encoding="gzip;q=0")
    assert gzip.decompress(answer.body) == plain.body
    assert len(plain.json()) == 4
    xml = web.get(
        f"{path(instance)}/metadata", accept='multipart/related; type="application/dicom+xml"'
    )
    assert b'keyword="PatientID"' in xml.body
    assert web.get(f"{path(instance)}/metadata", accept="image/png").status == 406


def test_metadata_of_a_long_study_are_sent_while_they_are_made(
    web: Any, make_instance: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging_source.dicomweb.metadata.PAGE", 2)
    for _ in range(5):
        instance = make_instance()
        store(instance)
    answer = web.get(f"{path(instance, 'study')}/metadata")
    assert "content-length" not in answer.headers
    assert len(answer.json()) == 5


def test_frames_of_uncompressed_pixels(
    web: Any, make_instance: Make, store: Store, known: Callable[[], object]
) -> None:
    frames = [bytes([number]) * 32 for number in (1, 2, 3)]
    instance = make_instance(
        Rows=4, Columns=4, BitsAllocated=16, SamplesPerPixel=1, NumberOfFrames=3
    )
    instance.PixelData = b"".join(frames)
    store(instance)
    known()
    answer = web.get(f"{path(instance)}/frames/3,1")
    assert answer.headers["content-type"].startswith('multipart/related; type="application/octet')
    assert [content for _, content in answer.parts()] == [frames[2], frames[0]]
    assert answer.parts()[0][0]["content-location"] == f"{web.root}{path(instance)}/frames/3"
    one = web.get(f"{path(instance)}/frames/2", accept="application/octet-stream")
    assert one.body == frames[1]
    assert web.get(f"{path(instance)}/frames/4").status == 404
    assert web.get(f"{path(instance)}/frames/0").status == 404
    assert web.get(f"{path(instance)}/frames/1,,2").status == 400
    assert web.get(f"{path(instance)}/frames/1", accept="image/jpeg").status == 406


@pytest.mark.parametrize("table", ["one fragment each", "offset table", "extended", "no table"])
def test_frames_of_compressed_pixels(
    web: Any, make_instance: Make, intake: Intake, known: Callable[[], object], table: str
) -> None:
    frames = [bytes([number]) * 38 + b"\xff\xd9" for number in (1, 2, 3)]
    instance = make_instance(Rows=4, Columns=4, BitsAllocated=8, NumberOfFrames=3)
    if table == "extended":
        instance.PixelData, offsets, lengths = encapsulate_extended(frames)
        instance.ExtendedOffsetTable, instance.ExtendedOffsetTableLengths = offsets, lengths
    else:
        fragments = 1 if table == "one fragment each" else 2
        instance.PixelData = encapsulate(frames, fragments, has_bot=table == "offset table")
    store_encapsulated(intake, instance)
    known()
    answer = web.get(f"{path(instance)}/frames/1,3", accept="image/jls")
    assert answer.status == 406  # two frames are no single part
    answer = web.get(f"{path(instance)}/frames/1,3")
    assert [content for _, content in answer.parts()] == [frames[0], frames[2]]
    assert answer.parts()[0][0]["content-type"] == f"image/jls; transfer-syntax={JPEG_LS}"
    one = web.get(f"{path(instance)}/frames/2", accept="image/jls")
    assert one.body == frames[1]
    part = web.get(f"{path(instance)}/frames/2", accept="image/jls", range="bytes=10-29")
    assert part.body == frames[1][10:30]
    octets = 'multipart/related; type="application/octet-stream"'
    assert web.get(f"{path(instance)}/frames/2", accept=octets).status == 406
    answer = web.get(f"{path(instance)}/frames/2", accept=f"{octets}; transfer-syntax=*")
    assert answer.parts()[0][1] == frames[1]
    everything = web.get(f"{path(instance, 'series')}/bulkdata")
    assert frames == [content for head, content in everything.parts() if "jls" in str(head)]


def test_the_bulk_data_of_a_nested_element_is_reached_by_its_path(
    web: Any, make_instance: Make, store: Store, known: Callable[[], object]
) -> None:
    item = Dataset()
    item.add_new(0x00420011, "OB", b"%PDF" * 600)
    instance = make_instance(ReferencedImageSequence=[Dataset(), item])
    store(instance)
    known()
    [found] = web.get(f"{path(instance)}/metadata").json()
    uri = found["00081140"]["Value"][1]["00420011"]["BulkDataURI"]
    assert uri.endswith("/bulkdata/00081140/2/00420011")
    [(_, content)] = web.get(uri.removeprefix(web.root)).parts()
    assert content == b"%PDF" * 600
    assert web.get(f"{path(instance)}/bulkdata/00081140/1/00420011").status == 404


def test_an_answer_that_fails_on_its_way_breaks_off_and_is_counted(
    web: Any,
    make_instance: Make,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    outcomes: list[str],
) -> None:
    instance = make_instance(PixelData=b"\1" * 4_000_000)
    store(instance)

    def short(*_: object) -> int:
        return 0

    monkeypatch.setattr("soap.outlet.os.sendfile", short)
    with pytest.raises(Exception, match=r"(?i)incomplete|broken|aborted|reset"):
        web.get(path(instance, "study"), accept=DICOM)
    assert outcomes == ["broken"]


def test_errors_tell_nothing_of_the_inside(
    web: Any, make_instance: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_instance()
    store(instance)

    def fail(*_: object) -> None:
        raise ValueError("P1 Durand")

    monkeypatch.setattr("imaging_source.dicomweb.wado.under", fail)
    answer = web.get(path(instance))
    assert answer.status == 500
    assert answer.body.startswith(b"internal error, reference ")
    assert b"Durand" not in answer.body


def test_what_was_corrected_of_the_patient_is_what_leaves(
    web: Any, make_instance: Make, store: Store, database: Database, known: Callable[[], object]
) -> None:
    instance = make_instance(PatientSize=1.5, PixelData=bytes(range(256)) * 2000)
    store(instance)
    known()
    before = web.get(path(instance), accept="application/dicom").headers["etag"]
    row = {"study_instance_uid": instance.StudyInstanceUID, "patient_name": "Martin^Marie"}
    row |= {"corrected_at": 0.0, "source": "test"}
    database.write(lambda connection: connection.execute(insert(CORRECTION), row).close())
    whole = web.get(path(instance), accept="application/dicom")
    found = dcmread(DicomBytesIO(whole.body))
    assert (found.PatientName, found.PixelData) == ("Martin^Marie", instance.PixelData)
    assert whole.headers["etag"] != before
    part = web.get(path(instance), accept="application/dicom", range="bytes=300-300000")
    assert part.body == whole.body[300:300001]
    [(_, content)] = web.get(path(instance, "study"), accept=DICOM).parts()
    assert dcmread(DicomBytesIO(content)).PatientName == "Martin^Marie"
    [said] = web.get(f"{path(instance)}/metadata").json()
    assert said["00100010"]["Value"] == [{"Alphabetic": "Martin^Marie"}]
    assert said["00101020"]["Value"] == [1.5]


def test_an_instance_written_and_read_back_is_a_dicom_file(
    web: Any, make_instance: Make, store: Store
) -> None:
    instance = make_instance()
    store(instance)
    file = DicomBytesIO(web.get(path(instance), accept="application/dicom").body)
    assert dcmread(file).PixelData == instance.PixelData
