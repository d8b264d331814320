"""WADO-URI, rendered resources, ZIP and transcoded WADO-RS, over the wire."""

import io
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import urllib3
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from sqlalchemy import insert, update
from urllib3.response import BaseHTTPResponse

from imaging_source.dicomweb import DicomWeb
from imaging_source.dicomweb.wado_uri import WadoUri
from imaging_source.media import entries, write_folder
from imaging_source.schema import CORRECTION, INSTANCE
from imaging_source.syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
)
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]
SR = "1.2.840.10008.5.1.4.1.1.88.11"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.fixture
def base(database: Database, blobs: BlobStore, workers: Workers, tmp_path: Path) -> Iterator[str]:
    variants = Variants(tmp_path / "transcoded", workers, 10**9)
    with ThreadPoolExecutor(4) as pool:
        web = DicomWeb(database, blobs, pool, variants=variants)
        uri = WadoUri(database, blobs, pool, variants)
        with running_server(Router({}, {"/dicomweb": web, "/wado": uri})) as url:
            yield url


def get(url: str, accept: str = "*/*") -> BaseHTTPResponse:
    return urllib3.request("GET", url, headers={"accept": accept}, retries=False, timeout=30.0)


class Ask:
    """Asks WADO-URI for one instance."""

    def __init__(self, base: str, instance: Dataset) -> None:
        self._base = base
        self._uids = {
            "studyUID": instance.StudyInstanceUID,
            "seriesUID": instance.SeriesInstanceUID,
            "objectUID": instance.SOPInstanceUID,
        }

    def __call__(self, accept: str = "*/*", **parameters: Any) -> BaseHTTPResponse:
        asked = {"requestType": "WADO", **self._uids, **parameters}
        given = {name: value for name, value in asked.items() if value is not None}
        return get(f"{self._base}/wado?{urlencode(given)}", accept)

    def picture(self, **parameters: Any) -> Image.Image:
        answer = self("*/*", contentType="image/png", **parameters)
        assert answer.status == 200, answer.data
        return Image.open(io.BytesIO(answer.data))


@pytest.fixture
def make_image(make_instance: Make) -> Make:
    """A CT image of 64 x 32 pixels: a ramp from left to right."""

    def make(**attributes: Any) -> Dataset:
        frames = int(attributes.get("NumberOfFrames", 1))
        ramp = np.tile(np.arange(64, dtype="<u2") * 10, (frames, 32, 1))
        given = {
            "Rows": 32,
            "Columns": 64,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 12,
            "HighBit": 11,
            "PixelRepresentation": 0,
            "PixelData": ramp.tobytes(),
        }
        return make_instance(**(given | attributes))

    return make


@pytest.fixture
def image(make_image: Make, store: Store) -> Dataset:
    made = make_image()
    assert store(made) == 0
    return made


@pytest.fixture
def report(make_instance: Make, store: Store) -> Dataset:
    def coded(meaning: str) -> Sequence:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", meaning
        return Sequence([code])

    item = Dataset()
    item.ValueType, item.ConceptNameCodeSequence = "TEXT", coded("Finding")
    item.TextValue = "<b>Fracture</b> du fémur"
    made = make_instance(
        SOPClassUID=SR,
        SpecificCharacterSet="ISO_IR 192",
        Modality="SR",
        ConceptNameCodeSequence=coded("Report"),
        ContentSequence=Sequence([item]),
        SeriesInstanceUID="1.2.3.77",
    )
    del made.PixelData
    assert store(made) == 0
    return made


def test_a_picture_is_what_a_browser_gets(base: str, image: Dataset) -> None:
    answer = Ask(base, image)()

    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.data)).size == (64, 32)


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"requestType": None}, 400),
        ({"requestType": "WADO2"}, 400),
        ({"studyUID": ""}, 400),
        ({"seriesUID": ""}, 400),
        ({"objectUID": ""}, 400),
        ({"objectUID": None}, 400),
        ({"objectUID": "../../etc/passwd"}, 400),
        ({"objectUID": "1.2.3.4"}, 404),
        ({"seriesUID": "1.2.3.4"}, 404),
        ({"studyUID": "1.2.3.4"}, 404),
        ({"frameNumber": 2}, 404),
        ({"frameNumber": 0}, 400),
        ({"rows": "many"}, 400),
        ({"rows": 10**9}, 400),
        ({"region": "0.5,0,0.2,1"}, 400),
        ({"windowCenter": 5}, 400),
        ({"windowCenter": "nan", "windowWidth": 5}, 400),
        ({"imageQuality": 101}, 400),
        ({"annotation": "salary"}, 400),
        ({"anonymize": "no"}, 400),
        ({"anonymize": "yes", "annotation": "patient"}, 406),
        ({"contentType": "text/plain"}, 406),
        ({"contentType": "image/png", "accept": "image/jpeg"}, 406),
        ({"presentationUID": "1.2.3"}, 400),
        ({"presentationUID": "1.2.3", "presentationSeriesUID": "1.2.4"}, 404),
    ],
)
def test_what_cannot_be_had_is_refused(
    base: str, image: Dataset, parameters: dict[str, Any], status: int
) -> None:
    answer = Ask(base, image)(**parameters)

    assert answer.status == status, answer.data
    assert b"Traceback" not in answer.data


def test_a_rejected_instance_is_not_there(base: str, image: Dataset, database: Database) -> None:
    statement = update(INSTANCE).values(rejection="113001")
    database.write(lambda connection: connection.execute(statement))

    assert Ask(base, image)().status == 404
    series = f"{base}/dicomweb/studies/{image.StudyInstanceUID}"
    assert get(f"{series}/rendered").status == 404
    assert get(series, "application/zip").status == 404


def test_sizes_regions_windows_and_texts_shape_the_picture(base: str, image: Dataset) -> None:
    ask = Ask(base, image)

    assert ask.picture(columns=32).size == (32, 16)
    assert ask.picture(rows=64, columns=64).size == (64, 32)
    right = np.asarray(ask.picture(region="0.5,0,1,0.5"))
    assert right.shape == (16, 32)
    assert right.min() > 120
    window = np.asarray(ask.picture(windowCenter=320, windowWidth=10))
    assert set(np.unique(window[:, :30])) == {0}
    assert set(np.unique(window[:, 34:])) == {255}
    plain, annotated = ask.picture(), ask.picture(annotation="patient,technique")
    assert plain.tobytes() != annotated.tobytes()
    coarse = ask(contentType="image/jpeg", imageQuality=1)
    assert len(coarse.data) < len(ask(contentType="image/jpeg", imageQuality=100).data)


def test_inverse_greys_are_turned(base: str, make_image: Make, store: Store) -> None:
    made = make_image(PhotometricInterpretation="MONOCHROME1")
    store(made)
    picture = np.asarray(Ask(base, made).picture())
    assert picture[0, 0] > picture[0, -1]


def test_a_presentation_state_sets_the_window(
    base: str, image: Dataset, make_instance: Make, store: Store
) -> None:
    item = Dataset()
    item.WindowCenter, item.WindowWidth = 320, 10
    state = make_instance(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1",
        SeriesInstanceUID="1.2.3.78",
        SoftcopyVOILUTSequence=Sequence([item]),
    )
    del state.PixelData
    store(state)

    uids = {
        "presentationUID": state.SOPInstanceUID,
        "presentationSeriesUID": state.SeriesInstanceUID,
    }
    shown = np.asarray(Ask(base, image).picture(**uids))

    assert shown[0, 20] < 5
    assert shown[0, 40] > 250


def test_an_instance_leaves_in_the_syntax_that_is_named(
    base: str, image: Dataset, encode: Callable[[Dataset], bytes]
) -> None:
    ask = Ask(base, image)

    for named, syntax in (
        (None, EXPLICIT_VR_LITTLE_ENDIAN),
        (RLE_LOSSLESS, RLE_LOSSLESS),
        ("1.2.840.10008.1.2.4.100", EXPLICIT_VR_LITTLE_ENDIAN),
    ):
        answer = ask(contentType="application/dicom", transferSyntax=named)
        assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
        made = dcmread(io.BytesIO(answer.data))
        assert made.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(made.pixel_array[0], np.arange(64) * 10)


def test_a_report_is_read_as_text(base: str, report: Dataset) -> None:
    ask = Ask(base, report)

    page, plain = ask(), ask(contentType="text/plain", charset="iso-8859-1")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;b&gt;Fracture&lt;/b&gt; du fémur" in page.data.decode()
    assert plain.headers["content-type"] == "text/plain; charset=iso-8859-1"
    assert plain.data.decode("iso-8859-1") == "Report\n  Finding: <b>Fracture</b> du fémur\n"
    assert ask("application/text").headers["content-type"].startswith("text/plain")
    assert ask(contentType="image/jpeg").status == 406


def test_an_encapsulated_document_comes_out_as_it_is(
    base: str, make_instance: Make, store: Store
) -> None:
    made = make_instance(
        SOPClassUID=ENCAPSULATED_PDF,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=b"%PDF-1.7 x\0",
        EncapsulatedDocumentLength=10,
    )
    del made.PixelData
    store(made)

    answer = Ask(base, made)()

    assert (answer.headers["content-type"], answer.data) == ("application/pdf", b"%PDF-1.7 x")
    assert "content-security-policy" not in answer.headers  # no browser shows it in a sandbox
    assert answer.headers["cache-control"] == "no-store"


def test_an_anonymous_instance_names_nobody(base: str, make_image: Make, store: Store) -> None:
    private = {"OperatorsName": "Martin^Paul", "DeviceSerialNumber": "SN-Quokka"}
    first, second = (
        make_image(InstitutionName="Hospital", ImageComments="tall, red hair", **private)
        for _ in range(2)
    )
    block = first.private_block(0x0029, "ACME", create=True)
    block.add_new(1, "LO", "Durand again")
    for one in (first, second):
        store(one)
    asked = {"contentType": "application/dicom", "anonymize": "yes"}

    answers = [Ask(base, one)(**asked) for one in (first, second)]

    made = [dcmread(io.BytesIO(answer.data)) for answer in answers]
    for word in (b"Durand", b"Martin", b"Quokka", b"Hospital", b"hair", b"20240115", b"ACME"):
        assert word not in answers[0].data
    assert first.StudyInstanceUID.encode() not in answers[0].data
    assert made[0].StudyInstanceUID == made[1].StudyInstanceUID != first.StudyInstanceUID
    assert made[0].SOPInstanceUID != made[1].SOPInstanceUID
    assert made[0].PatientIdentityRemoved == "YES"
    assert np.array_equal(made[0].pixel_array, first.pixel_array)


def test_names_in_pixels_are_not_called_anonymous(
    base: str, make_image: Make, store: Store
) -> None:
    made = make_image(BurnedInAnnotation="YES")
    store(made)
    assert Ask(base, made)(contentType="application/dicom", anonymize="yes").status == 406


def parts(answer: BaseHTTPResponse) -> list[tuple[str, bytes]]:
    boundary = answer.headers["content-type"].partition('boundary="')[2].strip('"')
    found = []
    for piece in answer.data.split(f"\r\n--{boundary}".encode())[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        found.append((head.decode().partition("Content-Type: ")[2].partition("\r\n")[0], content))
    return found


def test_rendered_resources_of_every_level(
    base: str, image: Dataset, report: Dataset, make_image: Make, store: Store
) -> None:
    cine = make_image(NumberOfFrames=3)
    store(cine)
    study = f"{base}/dicomweb/studies/{image.StudyInstanceUID}"
    instance = f"{study}/series/{cine.SeriesInstanceUID}/instances/{cine.SOPInstanceUID}"

    assert get(f"{instance}/rendered").headers["content-type"] == "image/jpeg"
    loop = Image.open(io.BytesIO(get(f"{instance}/rendered", "image/gif").data))
    assert loop.format == "GIF"
    png = get(f"{instance}/frames/2/rendered?viewport=32,16,0,0,-32,", "image/png")
    mirrored = np.asarray(Image.open(io.BytesIO(png.data)))
    assert mirrored.shape == (16, 16)
    assert mirrored[0, 0] > mirrored[0, -1]
    assert len(parts(get(f"{instance}/frames/1,3/rendered"))) == 2
    assert get(f"{instance}/frames/4/rendered").status == 404
    assert get(f"{instance}/rendered?window=1,0,linear").status == 400
    kinds = [kind for kind, _ in parts(get(f"{study}/rendered"))]
    assert sorted(kinds) == ["image/jpeg", "image/jpeg", "text/html"]
    series = parts(get(f"{study}/series/{cine.SeriesInstanceUID}/rendered", "image/png"))
    assert [kind for kind, _ in series] == ["image/png", "image/png"]
    thumbnail = get(f"{study}/thumbnail", "image/jpeg, text/html;q=0.1")
    assert thumbnail.status == 200
    assert get(f"{instance}/rendered", "video/mp4").status == 406


def test_instances_and_frames_are_transcoded_for_who_asks(
    base: str, make_image: Make, store: Store
) -> None:
    cine = make_image(NumberOfFrames=3)
    store(cine)
    study = f"{base}/dicomweb/studies/{cine.StudyInstanceUID}"
    instance = f"{study}/series/{cine.SeriesInstanceUID}/instances/{cine.SOPInstanceUID}"

    wanted = f'multipart/related; type="application/dicom"; transfer-syntax={RLE_LOSSLESS}'
    ((kind, data),) = parts(get(study, wanted))
    assert kind == f"application/dicom; transfer-syntax={RLE_LOSSLESS}"
    assert np.array_equal(dcmread(io.BytesIO(data)).pixel_array, cine.pixel_array)

    jls = f'multipart/related; type="image/jls"; transfer-syntax={JPEG_LS_LOSSLESS}'
    frames = parts(get(f"{instance}/frames/1,3", jls))
    assert [kind for kind, _ in frames] == [f"image/jls; transfer-syntax={JPEG_LS_LOSSLESS}"] * 2
    assert all(data[:2] == b"\xff\xd8" for _, data in frames)
    never = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.3'
    assert get(study, never).status == 406


def test_a_study_is_a_zip_of_the_very_files(
    base: str, image: Dataset, report: Dataset, blobs: BlobStore, tool: Callable[[str], str]
) -> None:
    study = f"{base}/dicomweb/studies/{image.StudyInstanceUID}"

    for answer in (get(study, "application/zip"), get(f"{study}?accept=application/zip")):
        assert answer.headers["content-type"] == "application/zip"
        assert int(answer.headers["content-length"]) == len(answer.data)
        with zipfile.ZipFile(io.BytesIO(answer.data)) as opened:
            assert opened.testzip() is None
            names = opened.namelist()
            assert names == ["SE000001/IM000001.dcm", "SE000002/IM000002.dcm"]
            uids = {dcmread(io.BytesIO(opened.read(name))).SOPInstanceUID for name in names}
    assert uids == {image.SOPInstanceUID, report.SOPInstanceUID}


def test_implicit_is_made_for_who_knows_nothing_else(base: str, image: Dataset) -> None:
    answer = Ask(base, image)(
        contentType="application/dicom", transferSyntax=IMPLICIT_VR_LITTLE_ENDIAN
    )
    assert dcmread(io.BytesIO(answer.data)).file_meta.TransferSyntaxUID == IMPLICIT_VR_LITTLE_ENDIAN


def test_what_was_corrected_of_the_patient_is_in_everything_that_is_made(
    base: str, image: Dataset, database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    study = str(image.StudyInstanceUID)
    row = {
        "study_instance_uid": study,
        "patient_id": "P7",
        "patient_name": "Martin^Zoe",
        "birth_date": None,
        "sex": None,
        "corrected_at": 0.0,
        "source": "test",
    }
    plain = Ask(base, image).picture(annotation="patient").tobytes()
    database.write(lambda connection: connection.execute(insert(CORRECTION), row).close())

    transcoded = Ask(base, image)(contentType="application/dicom", transferSyntax=RLE_LOSSLESS)
    zipped = get(f"{base}/dicomweb/studies/{study}", "application/zip")
    write_folder(entries(database, blobs, [study]), tmp_path / "cd", lambda: None)

    made = dcmread(io.BytesIO(transcoded.data))
    assert made.file_meta.TransferSyntaxUID == RLE_LOSSLESS
    with zipfile.ZipFile(io.BytesIO(zipped.data)) as opened:
        archived = dcmread(io.BytesIO(opened.read(opened.namelist()[0])))
    exported = dcmread(tmp_path / "cd" / "DICOM" / "ST000001" / "SE000001" / "IM000001")
    for one in (made, archived, exported):
        assert (one.PatientName, one.PatientID) == ("Martin^Zoe", "P7")
        assert np.array_equal(one.pixel_array, image.pixel_array)
    assert Ask(base, image).picture(annotation="patient").tobytes() != plain
