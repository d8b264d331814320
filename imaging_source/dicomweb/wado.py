"""WADO-RS: instances, bulk data and frames, as they are stored (PS3.18 10.4; RAD-107).

Everything is looked up and judged before the first byte. Instances, frames and bulk data are
ranges of files. A client that names no transfer syntax gets the stored one, which the part's
Content-Type names; one that names others gets instances and frames transcoded without loss
(``imaging_source.variants``), else 406, or 206 where some of what it asked for could be had (Table
10.4.3-1). A whole study, series or instance is a ZIP for whoever wants that first. Rendered
resources are ``rendered``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus

from sqlalchemy import RowMapping

from imaging_source.corrections import Correction, corrections_of
from imaging_source.description.dataset import Range
from imaging_source.description.describe import describe, unpack_places
from imaging_source.description.frames import Frame
from imaging_source.description.worker import description_of
from imaging_source.dicomweb.accept import Wish, not_acceptable, wishes
from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.dicomweb.described import described
from imaging_source.dicomweb.media import (
    DICOM,
    EXPLICIT_LITTLE_ENDIAN,
    OCTETS,
    frame_media,
    is_native,
    with_syntax,
)
from imaging_source.dicomweb.multipart import Piece, multipart, single
from imaging_source.dicomweb.paths import Retrieval, Scope
from imaging_source.parts import Part, Preflight, Row, locate, preflight, under
from imaging_source.schema import DESCRIPTION
from imaging_source.stored_zip import Entry, archive, length
from imaging_source.syntaxes import DEFLATED, INFLATED, MADE
from imaging_source.variants import NoVariant, Variants
from soap.asgi import Headers
from storage.blobs import BlobStore
from storage.database import Database
from storage.files import FileContent

_PIXEL_PATHS = frozenset({"7FE00010", "7FE00008", "7FE00009"})

ZIP = "application/zip"

# More than the largest objects have.
_MOST_FRAMES = 10_000

Where = tuple[dict[str, list[Range]], tuple[Frame, ...]]


class Retriever:
    """Finds and hands over what is stored; safe for many threads."""

    def __init__(
        self, database: Database, blobs: BlobStore, variants: Variants | None = None
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._variants = variants

    def retrieve(self, asked: Retrieval, request: Request) -> Answer:
        """The answer to a retrieval that is not of metadata. Raises Refusal and StorageError."""
        match asked.what:
            case "frames":
                return self._frames(asked, request)
            case "bulkdata" if asked.rest:
                return self._element(asked, request)
            case "bulkdata":
                return self._all_bulk_data(asked, request)
        return self._instances(asked, request)

    def rows(self, scope: Scope) -> list[RowMapping]:
        """The instances shown in a scope; Refusal (404) where there are none."""
        assert scope.study is not None  # no retrieval is of everything
        with self._database.read() as connection:
            rows = under(connection, scope.study, scope.series, scope.instance)
        if not rows:
            raise nothing_here()
        return rows

    def corrections(self, scope: Scope) -> Mapping[str, Correction]:
        """What was corrected of the patient of a scope's study."""
        with self._database.read() as connection:
            return corrections_of(connection, [scope.study or ""])

    def located(self, scope: Scope) -> Preflight:
        """The files of a scope; Refusal where there are none."""
        found = preflight(self._blobs, self.rows(scope), self.corrections(scope))
        if not found.parts:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the files are not available")
        return found

    # -- instances

    def _instances(self, asked: Retrieval, request: Request) -> Answer:
        found = self.located(asked.scope)
        wanted = wishes(request.accept)
        if wanted[:1] and wanted[0].media == ZIP:
            return zipped(found)
        covering = [wish for wish in wanted if wish.covers(DICOM)]
        if not covering:
            raise not_acceptable(f"instances are {DICOM} or {ZIP}")
        taken = self._in_syntax(found.parts, covering)
        pieces = [_instance_piece(part, request.root) for part in taken if part is not None]
        if not pieces:
            raise not_acceptable("not to be had in a transfer syntax that is asked for")
        if asked.scope.instance is not None and _wants_single(covering[0], DICOM):
            return single(request, pieces[0])
        if all(_wants_single(wish, DICOM) for wish in covering):
            raise not_acceptable("a study or a series is multipart/related")
        return _with_absent(pieces, DICOM, len(found.parts) + len(found.missing))

    def _in_syntax(self, parts: Sequence[Part], covering: Sequence[Wish]) -> list[Part | None]:
        """The parts as the client takes them; None for one that cannot be had so."""
        found = [part if _taken(part, covering) else None for part in parts]
        if self._variants is None or all(found):
            return found
        wanted = {wish.syntax for wish in covering if wish.syntax}
        return self._variants.each(parts, wanted)

    # -- bulk data

    def _where(self, rows: Sequence[RowMapping]) -> Iterator[tuple[RowMapping, Where]]:
        """Where the bulk data and frames of each instance lie, from the index or the file."""
        for page in described(self._database, rows, DESCRIPTION.c.places):
            for row, packed in page:
                yield row, unpack_places(packed) if packed else self._looked_up(row)

    def _looked_up(self, row: RowMapping) -> Where:
        found = description_of(self._blobs, row)
        return found.places, found.frames

    def _placed(self, row: RowMapping, where: Where) -> tuple[Part, Where]:
        """The file of an instance with places in it: of a deflated one it is the inflated variant.

        Raises Refusal.
        """
        part = locate(self._blobs, row)
        if part is None:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the file is not available")
        if row["transfer_syntax_uid"] not in INFLATED:
            return part, where
        try:
            if self._variants is None:
                raise NoVariant(row["transfer_syntax_uid"])
            plain = self._variants.part(part, {EXPLICIT_LITTLE_ENDIAN})
        except NoVariant as error:
            raise not_acceptable("the instance cannot be inflated") from error
        return plain, _places_of(plain)

    def _one(self, scope: Scope) -> tuple[Part, Where]:
        [(row, where)] = self._where(self.rows(scope))
        return self._placed(row, where)

    def _element(self, asked: Retrieval, request: Request) -> Answer:
        part, (places, frames) = self._one(asked.scope)
        path = asked.rest.strip("/")
        if path not in places:
            raise Refusal(HTTPStatus.NOT_FOUND, "the instance has no such bulk data")
        pieces = _bulk_pieces(part, path, places[path], frames, request.root)
        return _chosen(request, pieces, part.row["transfer_syntax_uid"])

    def _all_bulk_data(self, asked: Retrieval, request: Request) -> Answer:
        pieces: list[Piece] = []
        for row, where in self._where(self.rows(asked.scope)):
            part, (places, frames) = self._placed(row, where)
            for path, ranges in places.items():
                pieces += _bulk_pieces(part, path, ranges, frames, request.root)
        if not pieces:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no bulk data")
        covering = wishes(request.accept)
        taken = [piece for piece in pieces if any(_takes_piece(wish, piece) for wish in covering)]
        if not taken:
            raise not_acceptable("the bulk data is of another media type or transfer syntax")
        return _with_absent(taken, taken[0].content_type.partition(";")[0], len(pieces))

    # -- frames

    def _frames(self, asked: Retrieval, request: Request) -> Answer:
        part, (_, frames) = self._one(asked.scope)
        numbers = _numbers(asked.rest)
        if not frames:
            raise Refusal(HTTPStatus.NOT_FOUND, "the instance has no frames that can be told apart")
        if any(not 1 <= number <= len(frames) for number in numbers):
            raise Refusal(HTTPStatus.NOT_FOUND, f"the instance has {len(frames)} frames")
        syntax, root = part.row["transfer_syntax_uid"], request.root
        pieces = [_frame_piece(part, number, frames[number - 1], root) for number in numbers]
        try:
            return _chosen(request, pieces, syntax)
        except Refusal as refusal:
            return self._transcoded_frames(part, numbers, request, refusal)

    def _transcoded_frames(
        self, part: Part, numbers: list[int], request: Request, refusal: Refusal
    ) -> Answer:
        """Frames of the instance in a syntax asked for, else the refusal they had as stored."""
        for wish in wishes(request.accept) if self._variants is not None else ():
            made = [one for one in MADE if wish.syntax in (None, one)]
            wanted = {one for one in made if wish.covers(frame_media(one))} - {DEFLATED}
            with suppress(NoVariant):
                assert self._variants is not None
                other = self._variants.part(part, wanted)
                _, frames = _places_of(other)
                pieces = [
                    _frame_piece(other, number, frames[number - 1], request.root)
                    for number in numbers
                ]
                return _chosen(request, pieces, other.row["transfer_syntax_uid"])
        raise refusal


def _places_of(variant: Part) -> Where:
    """Where bulk data and frames of a variant are, which has no row that tells."""
    assert isinstance(variant.content, FileContent)  # what has places is asked for uncorrected
    found = describe(variant.content, variant.row["transfer_syntax_uid"], {})
    return found.places, found.frames


def zipped(found: Preflight) -> Answer:
    """All instances in a ZIP: a folder for each series, in its order."""
    entries: list[Entry] = []
    series: dict[str, int] = {}
    for part in found.parts:
        number = series.setdefault(part.row["series_instance_uid"], len(series) + 1)
        name = f"SE{number:06}/IM{len(entries) + 1:06}.dcm"
        entries.append(Entry(name, part.content, part.row["received_at"]))
    answer = Answer(HTTPStatus.OK, ZIP, stream=archive(entries), length=length(entries))
    answer.headers.append((b"content-disposition", b'attachment; filename="study.zip"'))
    return answer


def _taken(part: Part, covering: Sequence[Wish]) -> bool:
    return any(_takes(wish, part.row["transfer_syntax_uid"]) for wish in covering)


def _takes(wish: Wish, syntax: str) -> bool:
    return wish.syntax in (None, "*", syntax)


def _takes_piece(wish: Wish, piece: Piece) -> bool:
    """Whether a piece of bulk data may be handed over as it is.

    Compressed pixels are octets only to whoever says so by naming their transfer syntax or any.
    """
    media, _, syntax = piece.content_type.partition("; transfer-syntax=")
    syntax = syntax or EXPLICIT_LITTLE_ENDIAN
    if wish.covers(media):
        return _takes(wish, syntax)
    return wish.covers(OCTETS) and wish.syntax in ("*", syntax)


def _wants_single(wish: Wish, media: str) -> bool:
    """Whether a wish is for one part alone; ``*/*`` is taken for what is the default."""
    return not wish.is_multipart and wish.media == media


def _chosen(request: Request, pieces: Sequence[Piece], syntax: str) -> Answer:
    """Frames or the pieces of one element, by the first wish that takes them."""
    for wish in wishes(request.accept):
        if not _takes_piece(wish, pieces[0]):
            continue
        media = pieces[0].content_type.partition(";")[0]
        if not wish.covers(media):  # compressed pixels asked for as octets
            pieces = [_as_octets(piece, syntax) for piece in pieces]
            media = OCTETS
        if wish.is_multipart or wish.media == "*/*":
            return multipart(pieces, media)
        if len(pieces) == 1:
            return single(request, pieces[0])
    raise not_acceptable(f"stored as {frame_media(syntax)}, transfer syntax {syntax}")


def _as_octets(piece: Piece, syntax: str) -> Piece:
    content_type = with_syntax(OCTETS, syntax)
    return Piece(piece.part, piece.ranges, content_type, piece.location, piece.name)


def _with_absent(pieces: Sequence[Piece], media: str, count: int) -> Answer:
    """A multipart answer; 206 with a warning where not all that was asked for is in it."""
    absent = count - len(pieces)
    if not absent:
        return multipart(pieces, media)
    answer = multipart(pieces, media, HTTPStatus.PARTIAL_CONTENT)
    text = f'299 kosmos "{absent} of {count} are not available or not in an accepted form"'
    warning: Headers = [(b"warning", text.encode())]
    answer.headers += warning
    return answer


def _scope(row: Row) -> Scope:
    return Scope(row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"])


def _instance_piece(part: Part, root: str) -> Piece:
    content_type = with_syntax(DICOM, part.row["transfer_syntax_uid"])
    return Piece(part, [(0, part.content.size)], content_type, _scope(part.row).url(root))


def _bulk_pieces(
    part: Part, path: str, ranges: Sequence[Range], frames: Sequence[Frame], root: str
) -> list[Piece]:
    """One piece, or one for each frame where the pixels are encapsulated."""
    syntax = part.row["transfer_syntax_uid"]
    location = f"{_scope(part.row).url(root)}/bulkdata/{path}"
    if path not in _PIXEL_PATHS:
        return [Piece(part, ranges, OCTETS, location, path)]
    if is_native(syntax) or not frames:
        media = OCTETS if is_native(syntax) else frame_media(syntax)
        content_type = media if is_native(syntax) else with_syntax(media, syntax)
        return [Piece(part, ranges, content_type, location, path)]
    return [
        _frame_piece(part, number, frame, root, location) for number, frame in enumerate(frames, 1)
    ]


def _frame_piece(part: Part, number: int, frame: Frame, root: str, location: str = "") -> Piece:
    syntax = part.row["transfer_syntax_uid"]
    location = location or f"{_scope(part.row).url(root)}/frames/{number}"
    told = EXPLICIT_LITTLE_ENDIAN if is_native(syntax) else syntax
    content_type = with_syntax(frame_media(syntax), told)
    return Piece(part, frame, content_type, location, f"frame-{number}")


def _numbers(text: str) -> list[int]:
    """The frame numbers of a list, in the order asked for. Raises Refusal (400)."""
    parts = text.split(",")
    if len(parts) > _MOST_FRAMES or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise Refusal(HTTPStatus.BAD_REQUEST, "frames are numbers with commas between them")
    return [int(part) for part in parts]


def nothing_here() -> Refusal:
    """What is not there, and what is not there for whoever asks, is told in the same words."""
    return Refusal(HTTPStatus.NOT_FOUND, "nothing of this UID is here")
