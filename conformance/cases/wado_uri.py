"""Imaging Document Source: WADO-URI, every parameter and every refusal (I02)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from pydicom import dcmread
from pydicom.dataset import Dataset

from conformance.bench import Bench
from conformance.case import Actor, Cases, Stimulus
from conformance.expectation import HttpStatus, Same, any_of
from conformance.images import COLUMNS, ROWS, pixel_digest
from conformance.seen import Compared, Seen
from conformance.source import Source, picture, told
from conformance.web import DICOM, Reply
from metadata.datatypes import new_oid

CASES = Cases(Actor.IMAGING, "wado_uri images")

SPEC = "RAD TF-2 4.55; PS3.18 9.1.2"
JPEG, PNG = "image/jpeg", "image/png"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
BEYOND = 9999

HANDED_OVER = "HTTP 200 and the media type"


def _media(case_id: str, en: str, fr: str, image: int, media: str, **asked: Any) -> None:
    """A case about the media type of an answer for one of the images held."""

    def stimulus(bench: Bench) -> Iterator[Seen]:
        source = Source(bench)
        reply = source.uri(source.held()[image], **asked)
        yield Compared("status and media type", (200, media), told(reply))

    CASES.add(f"I02-{case_id}", en, fr, spec=SPEC, expected=[Same(HANDED_OVER)], stimulus=stimulus)


SINGLE, MULTI = 0, -1

_media(
    "default",
    "No contentType for a single frame",
    "Pas de contentType, une seule trame",
    SINGLE,
    JPEG,
)
_media(
    "default-frames",
    "No contentType for many frames",
    "Pas de contentType, plusieurs trames",
    MULTI,
    DICOM,
)
_media("jpeg", "contentType image/jpeg", "contentType image/jpeg", SINGLE, JPEG, contentType=JPEG)
_media(
    "dicom",
    "contentType application/dicom",
    "contentType application/dicom",
    SINGLE,
    DICOM,
    contentType=DICOM,
)
_media(
    "choice",
    "The first of two content types that can be had",
    "Le premier de deux types de contenu possibles",
    SINGLE,
    JPEG,
    contentType="video/x-kit, image/jpeg",
)
_media(
    "charset",
    "charset beside a picture",
    "charset avec une image",
    SINGLE,
    JPEG,
    contentType=JPEG,
    charset="utf-8",
)
_media(
    "quality",
    "imageQuality of 10",
    "imageQuality de 10",
    SINGLE,
    JPEG,
    contentType=JPEG,
    imageQuality=10,
)
_media(
    "annotation",
    "annotation of patient and technique",
    "annotation patient et technique",
    SINGLE,
    JPEG,
    contentType=JPEG,
    annotation="patient,technique",
)
_media(
    "frame",
    "The second frame as a picture",
    "La deuxième trame en image",
    MULTI,
    JPEG,
    contentType=JPEG,
    frameNumber=2,
)


def _refused(
    case_id: str, en: str, fr: str, *statuses: int, image: int = SINGLE, **asked: Any
) -> None:
    """A case about a request for one of the images held that must be refused."""

    def stimulus(bench: Bench) -> Iterator[Seen]:
        source = Source(bench)
        yield source.uri(source.held()[image], **asked).answer()

    _add_refused(case_id, en, fr, statuses, stimulus)


def _add_refused(
    case_id: str, en: str, fr: str, statuses: tuple[int, ...], stimulus: Stimulus
) -> None:
    options = [HttpStatus(status) for status in statuses]
    expected = any_of(*options) if len(options) > 1 else options[0]
    CASES.add(f"I02-{case_id}", en, fr, spec=SPEC, expected=[expected], stimulus=stimulus)


for _name in ("requestType", "studyUID", "seriesUID", "objectUID"):
    _without: dict[str, Any] = {_name: None}
    _empty: dict[str, Any] = {_name: ""}
    _refused(f"missing-{_name}", f"{_name} is missing", f"{_name} manque", 400, **_without)
    _refused(f"empty-{_name}", f"{_name} is empty", f"{_name} est vide", 400, **_empty)

_refused(
    "unknown-study",
    "An instance said to be in another study",
    "Une instance dite d'un autre examen",
    404,
    studyUID=new_oid(),
)
_refused(
    "unknown-series",
    "An instance said to be in another series",
    "Une instance dite d'une autre série",
    404,
    seriesUID=new_oid(),
)
_refused(
    "unknown-instance",
    "An instance nobody has",
    "Une instance que personne n'a",
    404,
    objectUID=new_oid(),
)
_refused(
    "content-type",
    "A content type that cannot be had",
    "Un type de contenu impossible",
    406,
    contentType="video/x-kit",
)
_refused(
    "frame-beyond",
    "A frame beyond the last",
    "Une trame après la dernière",
    404,
    400,
    image=MULTI,
    contentType=JPEG,
    frameNumber=BEYOND,
)
_refused(
    "frame-nonsense",
    "A frameNumber that is no number",
    "Un frameNumber qui n'est pas un nombre",
    400,
    image=MULTI,
    contentType=JPEG,
    frameNumber="two",
)
_refused("rows-nonsense", "rows of minus one", "rows de moins un", 400, contentType=JPEG, rows=-1)
_refused(
    "window-half",
    "windowCenter without windowWidth",
    "windowCenter sans windowWidth",
    400,
    contentType=JPEG,
    windowCenter=100,
)
_refused(
    "region-nonsense",
    "A region with its corners exchanged",
    "Une région aux coins échangés",
    400,
    contentType=JPEG,
    region="0.9,0.9,0.1,0.1",
)
_refused(
    "anonymize-nonsense",
    "anonymize that is not yes",
    "anonymize qui n'est pas yes",
    400,
    contentType=DICOM,
    anonymize="perhaps",
)


def _twice(name: str) -> Stimulus:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        source = Source(bench)
        image = source.held()[SINGLE]
        asked = [
            ("requestType", "WADO"),
            ("studyUID", image.StudyInstanceUID),
            ("seriesUID", image.SeriesInstanceUID),
            ("objectUID", image.SOPInstanceUID),
            (name, new_oid()),
        ]
        yield source.uri_query(urlencode(asked)).answer()
        yield source.uri_query(urlencode(asked[::-1])).answer()

    return stimulus


for _name in ("studyUID", "objectUID"):
    CASES.add(
        f"I02-twice-{_name}",
        f"{_name} is given twice, once rightly",
        f"{_name} est donné deux fois, une fois juste",
        spec=SPEC,
        expected=[any_of(HttpStatus(400), HttpStatus(404))] * 2,
        stimulus=_twice(_name),
    )


def _compared(
    case_id: str,
    en: str,
    fr: str,
    expected: str,
    see: Callable[[Source, Dataset], tuple[object, object]],
    image: int = SINGLE,
) -> None:
    """A case about the content of an answer: ``see`` gives what it should be and what it is."""

    def stimulus(bench: Bench) -> Iterator[Seen]:
        source = Source(bench)
        should, seen = see(source, source.held()[image])
        yield Compared(expected, should, seen)

    CASES.add(f"I02-{case_id}", en, fr, spec=SPEC, expected=[Same(expected)], stimulus=stimulus)


def _read(reply: Reply) -> Dataset:
    return dcmread(BytesIO(reply.body))


def _same_pixels(source: Source, image: Dataset) -> tuple[object, object]:
    came = _read(source.uri(image, contentType=DICOM))
    should = (str(image.SOPInstanceUID), pixel_digest(image))
    return should, (str(came.SOPInstanceUID), pixel_digest(came))


def _in_syntax(source: Source, image: Dataset) -> tuple[object, object]:
    came = _read(source.uri(image, contentType=DICOM, transferSyntax=EXPLICIT_LITTLE))
    return EXPLICIT_LITTLE, str(came.file_meta.TransferSyntaxUID)


def _scaled(source: Source, image: Dataset) -> tuple[object, object]:
    asked: dict[str, Any] = {"rows": ROWS // 2, "columns": COLUMNS // 2}
    return (COLUMNS // 2, ROWS // 2), picture(source.uri(image, contentType=JPEG, **asked)).size


def _region(source: Source, image: Dataset) -> tuple[object, object]:
    shown = picture(source.uri(image, contentType=JPEG, region="0,0,0.5,1"))
    return (1, ROWS), (round(COLUMNS / 2 / shown.width), shown.height)


def _windows(source: Source, image: Dataset) -> tuple[object, object]:
    """All pixels are far below one window, and far above the other."""
    dark = source.uri(image, contentType=JPEG, windowCenter=50_000, windowWidth=10)
    bright = source.uri(image, contentType=JPEG, windowCenter=-50_000, windowWidth=10)
    shown = [picture(one).convert("L").getextrema() for one in (dark, bright)]
    return ["black", "white"], [_shade(one) for one in shown]


def _shade(extrema: Any) -> str:
    """What a grey picture is as a whole; JPEG may be a little off."""
    darkest, brightest = extrema
    return "black" if brightest < 8 else "white" if darkest > 247 else "neither"


def _frames_differ(source: Source, image: Dataset) -> tuple[object, object]:
    pictures = {
        source.uri(image, contentType=JPEG, frameNumber=number).body for number in (1, 2, 3)
    }
    return 3, len(pictures)


def _anonymous(source: Source, image: Dataset) -> tuple[object, object]:
    came = _read(source.uri(image, contentType=DICOM, anonymize="yes"))
    named = [str(came.get(key, "")) for key in ("PatientName", "PatientID", "AccessionNumber")]
    known = {str(image.PatientName), str(image.PatientID), str(image.AccessionNumber)}
    kept_uid = str(came.SOPInstanceUID) == str(image.SOPInstanceUID)
    return ([], False, pixel_digest(image)), (
        [one for one in named if one in known],
        kept_uid,
        pixel_digest(came),
    )


_compared(
    "pixels",
    "The instance with its pixels",
    "L'instance avec ses pixels",
    "the same instance and pixels",
    _same_pixels,
)
_compared(
    "syntax",
    "A transfer syntax that can be had",
    "Une syntaxe de transfert possible",
    "the transfer syntax asked for",
    _in_syntax,
)
_compared("size", "rows and columns", "rows et columns", "the size asked for", _scaled)
_compared("region", "The left half", "La moitié gauche", "half as wide, as high", _region)
_compared(
    "window", "Two windows", "Deux fenêtres", "black in one window, white in the other", _windows
)
_compared(
    "frames",
    "Each frame by its number",
    "Chaque trame par son numéro",
    "a picture for each frame",
    _frames_differ,
    MULTI,
)
_compared(
    "anonymize",
    "An anonymous instance",
    "Une instance anonyme",
    "no name, no identifier, another UID, the same pixels",
    _anonymous,
)
