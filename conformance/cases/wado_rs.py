"""Imaging Document Source: WADO-RS, every resource and how it is negotiated (I03)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import HttpStatus, Same, any_of
from conformance.images import COLUMNS, ROWS
from conformance.seen import Compared, Seen
from conformance.source import Source, digests, path_of, picture, told, values
from conformance.web import DICOM, JSON, Reply
from metadata.datatypes import new_oid

CASES = Cases(Actor.IMAGING, "dicomweb images")

SPEC = "RAD TF-2 4.107; PS3.18 10.4"
SINGLE, MULTI = 0, -1
OCTETS = "application/octet-stream"
SOP_INSTANCE_UID, PIXEL_DATA = "00080018", "7FE00010"
UNHEARD_OF = "2.25.404"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def many(media: str, **parameters: str) -> str:
    """The Accept header for parts of a media type."""
    more = "".join(f"; {name.replace('_', '-')}={value}" for name, value in parameters.items())
    return f'multipart/related; type="{media}"{more}'


ANY_SYNTAX = many(DICOM, transfer_syntax="*")
Look = Callable[[Source, list[Dataset]], tuple[object, object]]


def _looked(case_id: str, en: str, fr: str, expected: str) -> Callable[[Look], Look]:
    """Add a case: the function gives what an answer should hold and what it holds."""

    def collect(look: Look) -> Look:
        def stimulus(bench: Bench) -> Iterator[Seen]:
            source = Source(bench)
            should, seen = look(source, list(source.held()))
            yield Compared(expected, should, seen)

        CASES.add(f"I03-{case_id}", en, fr, spec=SPEC, expected=[Same(expected)], stimulus=stimulus)
        return look

    return collect


@_looked("study", "A study as it is stored", "Un examen tel qu'il est conservé", "every instance")
def _study(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(path_of(images[0], "study"), ANY_SYNTAX)
    return (200, f"multipart/related, {DICOM}", digests(images)), (
        *told(reply),
        digests(reply.images()),
    )


@_looked(
    "series", "A series as it is stored", "Une série telle qu'elle est conservée", "every instance"
)
def _series(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(path_of(images[0], "series"), ANY_SYNTAX)
    own = [one for one in images if one.SeriesInstanceUID == images[0].SeriesInstanceUID]
    return (200, digests(own)), (reply.status, digests(reply.images()))


@_looked(
    "instance",
    "An instance as it is stored",
    "Une instance telle qu'elle est conservée",
    "the instance alone",
)
def _instance(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(path_of(images[0]), ANY_SYNTAX)
    return (200, digests(images[:1])), (reply.status, digests(reply.images()))


@_looked(
    "single-part",
    "An instance as a body of one part",
    "Une instance en une seule partie",
    "the instance alone",
)
def _single_part(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(path_of(images[0]), f"{DICOM}; transfer-syntax=*")
    return (200, DICOM, digests(images[:1])), (*told(reply), digests(reply.images()))


@_looked(
    "syntax",
    "An instance in a transfer syntax named",
    "Une syntaxe de transfert nommée",
    "the transfer syntax asked for",
)
def _syntax(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(path_of(images[0]), many(DICOM, transfer_syntax=EXPLICIT_LITTLE))
    found = [str(one.file_meta.TransferSyntaxUID) for one in reply.images()]
    named = [part.headers.get("content-type", "") for part in reply.parts()]
    return ([EXPLICIT_LITTLE], [True]), (found, [EXPLICIT_LITTLE in one for one in named])


@_looked(
    "no-accept",
    "A study without an Accept header",
    "Un examen sans en-tête Accept",
    "every instance",
)
def _no_accept(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(path_of(images[0], "study"))
    return (200, sorted(digests(images))), (reply.status, sorted(digests(reply.images())))


def _metadata(level: str, en: str, fr: str) -> None:
    @_looked(f"metadata-{level}", en, fr, "every instance, no pixels within")
    def _look(source: Source, images: list[Dataset]) -> tuple[object, object]:
        reply = source.get(f"{path_of(images[0], level)}/metadata", JSON)
        found = reply.json()
        inline = [one for one in found if "InlineBinary" in one.get(PIXEL_DATA, {})]
        return (200, JSON, _under(images, level), []), (
            *told(reply),
            values(found, SOP_INSTANCE_UID),
            inline,
        )


def _under(images: list[Dataset], level: str) -> list[str]:
    """The UIDs of what lies below the first image's study, series or itself."""
    keyword = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}.get(
        level, "SOPInstanceUID"
    )
    return sorted(str(one.SOPInstanceUID) for one in images if one[keyword] == images[0][keyword])


_metadata("study", "Metadata of a study", "Métadonnées d'un examen")
_metadata("series", "Metadata of a series", "Métadonnées d'une série")
_metadata("instance", "Metadata of an instance", "Métadonnées d'une instance")


@_looked(
    "bulkdata",
    "The pixels where the metadata say that they are",
    "Les pixels là où les métadonnées les disent",
    "the pixels, whole",
)
def _bulk_data(source: Source, images: list[Dataset]) -> tuple[object, object]:
    [found] = source.get(f"{path_of(images[0])}/metadata", JSON).json()
    reply = source.web.get(found[PIXEL_DATA]["BulkDataURI"], many(OCTETS))
    return [bytes(images[0].PixelData)], [part.content for part in reply.parts()]


@_looked(
    "frames",
    "Two frames in the order asked for",
    "Deux trames dans l'ordre demandé",
    "those frames, in order",
)
def _frames(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(f"{path_of(images[MULTI])}/frames/3,1", many(OCTETS))
    pixels, size = bytes(images[MULTI].PixelData), ROWS * COLUMNS
    wanted = [pixels[2 * size : 3 * size], pixels[:size]]
    return wanted, [part.content for part in reply.parts()]


@_looked("rendered", "A rendered instance", "Une instance rendue", "a picture of its size")
def _rendered(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(f"{path_of(images[0])}/rendered", "image/jpeg")
    return (200, "image/jpeg", (COLUMNS, ROWS)), (*told(reply), picture(reply).size)


@_looked(
    "rendered-png",
    "A rendered instance as PNG",
    "Une instance rendue en PNG",
    "a picture of its size",
)
def _rendered_png(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(f"{path_of(images[0])}/rendered", "image/png")
    return (200, "image/png", (COLUMNS, ROWS)), (*told(reply), picture(reply).size)


@_looked(
    "rendered-viewport",
    "A rendered instance, half as large",
    "Une instance rendue, deux fois plus petite",
    "the size asked for",
)
def _viewport(source: Source, images: list[Dataset]) -> tuple[object, object]:
    width, height = COLUMNS // 2, ROWS // 2
    place = f"{path_of(images[0])}/rendered?viewport={width},{height}"
    return (width, height), picture(source.get(place, "image/jpeg")).size


@_looked("rendered-frame", "A rendered frame", "Une trame rendue", "a picture of its size")
def _rendered_frame(source: Source, images: list[Dataset]) -> tuple[object, object]:
    reply = source.get(f"{path_of(images[MULTI])}/frames/2/rendered", "image/jpeg")
    return (200, (COLUMNS, ROWS)), (reply.status, picture(reply).size)


# --- Refusals ------------------------------------------------------------------------------------

Place = Callable[[list[Dataset]], str]


def _refused(case_id: str, en: str, fr: str, status: int, place: Place, accept: str) -> None:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        source = Source(bench)
        reply: Reply = source.get(place(list(source.held())), accept)
        yield reply.answer()

    options = [HttpStatus(status)]
    if status == 404:  # Table 8.5-1 leaves a server that knows it to say that it is gone
        options.append(HttpStatus(410))
    expected = any_of(*options) if len(options) > 1 else options[0]
    CASES.add(f"I03-{case_id}", en, fr, spec=SPEC, expected=[expected], stimulus=stimulus)


def _instead(level: str) -> Place:
    """The path of the first image, with a UID that nobody has at a level."""

    def place(images: list[Dataset]) -> str:
        known = {
            "study": images[0].StudyInstanceUID,
            "series": images[0].SeriesInstanceUID,
            "instance": images[0].SOPInstanceUID,
        }
        return path_of(images[0]).replace(str(known[level]), new_oid())

    return place


def _in_other_series(images: list[Dataset]) -> str:
    return f"{path_of(images[MULTI], 'series')}/instances/{images[0].SOPInstanceUID}"


def _below(image: int, rest: str) -> Place:
    return lambda images: f"{path_of(images[image])}{rest}"


_refused(
    "unknown-study",
    "A study nobody has",
    "Un examen que personne n'a",
    404,
    _instead("study"),
    ANY_SYNTAX,
)
_refused(
    "unknown-series",
    "A series nobody has",
    "Une série que personne n'a",
    404,
    _instead("series"),
    ANY_SYNTAX,
)
_refused(
    "unknown-instance",
    "An instance nobody has",
    "Une instance que personne n'a",
    404,
    _instead("instance"),
    ANY_SYNTAX,
)
_refused(
    "other-series",
    "An instance said to be in another series",
    "Une instance dite d'une autre série",
    404,
    _in_other_series,
    ANY_SYNTAX,
)
_refused(
    "frame-beyond",
    "A frame beyond the last",
    "Une trame après la dernière",
    404,
    _below(MULTI, "/frames/9999"),
    many(OCTETS),
)
_refused(
    "accept-type",
    "A media type that cannot be had",
    "Un type de média impossible",
    406,
    _below(SINGLE, ""),
    "text/x-kit",
)
_refused(
    "accept-syntax",
    "A transfer syntax nobody has",
    "Une syntaxe de transfert inexistante",
    406,
    _below(SINGLE, ""),
    many(DICOM, transfer_syntax=UNHEARD_OF),
)
_refused(
    "accept-rendered",
    "A picture of a kind that cannot be had",
    "Une image d'un genre impossible",
    406,
    _below(SINGLE, "/rendered"),
    "image/x-kit",
)
_refused(
    "accept-study",
    "A study as a body of one part",
    "Un examen en une seule partie",
    406,
    lambda images: path_of(images[0], "study"),
    f"{DICOM}; transfer-syntax=*",
)
_refused(
    "metadata-unknown",
    "Metadata of a study nobody has",
    "Métadonnées d'un examen que personne n'a",
    404,
    lambda images: f"/studies/{new_oid()}/metadata",
    JSON,
)
