"""WADO-URI: one instance by the parameters of a URL (PS3.18 9; IHE RAD-55).

DICOM instances leave in Explicit VR Little Endian unless another transfer syntax is named and can
be had (9.1.2.2.4.2); pictures and texts are those of ``imaging_source.rendering``. Unknown
instances, and those said to be in another series or study, are 404; parameters missing, empty,
given twice or impossible are 400.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus

from imaging_source.corrections import corrections_of
from imaging_source.dicomweb.accept import Wish, not_acceptable, wishes
from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.dicomweb.exchange import Plan, Service
from imaging_source.dicomweb.media import DICOM, with_syntax
from imaging_source.dicomweb.multipart import Piece, single
from imaging_source.dicomweb.rendered import Renderer
from imaging_source.dicomweb.viewing import uri_options
from imaging_source.dicomweb.wado import Retriever
from imaging_source.header import is_uid
from imaging_source.kinds import JPEG, shown_as
from imaging_source.parts import Part, Row, locate, look_up
from imaging_source.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from imaging_source.variants import NoVariant, Variants
from soap.service import Observe
from storage.blobs import BlobStore
from storage.database import Database

URI_ROOT = "/wado"
URI = "RAD-55"

_REQUIRED = ("studyUID", "seriesUID", "objectUID")
# What the transaction calls them beside what they are (RAD TF-2 4.55.4.1.2).
_ALIASES = {"application/text": "text/plain", "application/html": "text/html"}


class WadoUri(Service):
    """The application."""

    transaction = URI

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        pool: ThreadPoolExecutor,
        variants: Variants,
        *,
        public_url: str | None = None,
        most_in_flight: int = 64,
        observe: Observe | None = None,
    ) -> None:
        super().__init__(
            URI_ROOT, pool, public_url=public_url, most_in_flight=most_in_flight, observe=observe
        )
        self._database = database
        self._blobs = blobs
        self._variants = variants
        self._renderer = Renderer(Retriever(database, self._blobs), variants.workers)
        # New UIDs of anonymous instances hold together as long as this process lives.
        self._key = secrets.token_hex(32)

    def plan(self, request: Request) -> Plan:
        """See ``Service``."""
        if request.path.strip("/"):
            raise Refusal(HTTPStatus.NOT_FOUND, "no such resource")
        return Plan(URI, partial(self._answer, request, _parameters(request)))

    def _answer(self, request: Request, asked: Mapping[str, str]) -> Answer:
        if request.hides(asked["studyuid"]):
            raise _no_such_instance()
        part = self._found(asked["objectuid"], asked["seriesuid"], asked["studyuid"])
        wanted = _wanted(request, asked, part)
        if any(wish.media == DICOM for wish in wanted[:1]):
            return self._instance(request, asked, part)
        options = uri_options(request.query)
        has_texts = "annotation" in options or JPEG not in shown_as(part.row["sop_class_uid"])
        if asked.get("anonymize") and has_texts:
            raise not_acceptable("only instances and pictures without texts can be anonymous")
        if asked.get("presentationuid"):
            options["presentation"] = self._presentation(asked).content.reference()
        kind, body = self._renderer.render(part, wanted, options)
        if kind.startswith("text/"):
            kind = f"{kind}; charset={options.get('encoding', 'utf-8')}"
        return Answer(HTTPStatus.OK, kind, body)

    def _found(self, uid: str, series: str, study: str) -> Part:
        with self._database.read() as connection:
            row = look_up(connection, [uid]).get(uid)
            corrections = corrections_of(connection, [study])
        if row is None or _place_of(row) != (study, series):
            raise _no_such_instance()
        part = locate(self._blobs, row, corrections.get(study))
        if part is None:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the file is not available")
        return part

    def _presentation(self, asked: Mapping[str, str]) -> Part:
        uid, series = asked["presentationuid"], asked.get("presentationseriesuid", "")
        if not is_uid(uid) or not is_uid(series):
            reason = "presentationUID and presentationSeriesUID come together"
            raise Refusal(HTTPStatus.BAD_REQUEST, reason)
        return self._found(uid, series, asked["studyuid"])

    def _instance(self, request: Request, asked: Mapping[str, str], part: Part) -> Answer:
        try:
            if asked.get("anonymize"):
                part = self._variants.anonymous(part, self._key)
            part = self._in_syntax(part, asked.get("transfersyntax", ""))
        except NoVariant as error:
            raise not_acceptable("the instance cannot be had in this way") from error
        content_type = with_syntax(DICOM, part.row["transfer_syntax_uid"])
        ranges = [(0, part.content.size)]
        location = f"{request.root}?{'&'.join(f'{key}={value}' for key, value in _place(part))}"
        return single(request, Piece(part, ranges, content_type, location))

    def _in_syntax(self, part: Part, wanted: str) -> Part:
        """The instance as asked for, else in Explicit VR Little Endian. Raises NoVariant."""
        for syntax in (wanted, EXPLICIT_VR_LITTLE_ENDIAN):
            if part.row["transfer_syntax_uid"] == syntax or wanted == "*":
                return part
            (made,) = self._variants.each([part], {syntax})
            if made is not None:
                return made
        raise NoVariant


def _parameters(request: Request) -> dict[str, str]:
    """The parameters, names in lower case. Raises Refusal (400)."""
    asked = {name.lower(): value.strip() for name, value in request.query}
    if len(asked) < len(request.query):  # one of two values would be another instance's
        raise Refusal(HTTPStatus.BAD_REQUEST, "a parameter is given twice")
    if asked.get("requesttype") != "WADO":
        raise Refusal(HTTPStatus.BAD_REQUEST, "requestType=WADO is required")
    for name in _REQUIRED:
        if not is_uid(asked.get(name.lower(), "")):
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} is required and is a UID")
    if asked.get("anonymize", "yes") != "yes":
        raise Refusal(HTTPStatus.BAD_REQUEST, "anonymize is yes or left out")
    return asked


def _place_of(row: Row) -> tuple[str, str]:
    return row["study_instance_uid"], row["series_instance_uid"]


def _place(part: Part) -> list[tuple[str, str]]:
    row = part.row
    uids = (row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"])
    return [("requestType", "WADO"), *zip(_REQUIRED, uids, strict=True)]


def _wanted(request: Request, asked: Mapping[str, str], part: Part) -> Sequence[Wish]:
    """What may be answered, the preferred first: contentType within Accept (9.1.2.2.1)."""
    offers = _offers(part)
    accepted = _known(wishes(request.headers.get("accept", "")))
    named = _known(wishes(asked.get("contenttype", ""))) if asked.get("contenttype") else []
    for wish in named or accepted:
        for offer in offers:
            if wish.covers(offer) and any(one.covers(offer) for one in accepted):
                return [Wish(offer, False, None, 1.0)]
    raise not_acceptable(f"such an instance is had as {', '.join(offers)}")


def _offers(part: Part) -> tuple[str, ...]:
    """The media types of an instance, its default first: of many frames that is DICOM."""
    shown = shown_as(part.row["sop_class_uid"])
    return (DICOM, *shown) if part.row["number_of_frames"] > 1 else (*shown, DICOM)


def _known(wanted: Sequence[Wish]) -> list[Wish]:
    return [
        Wish(_ALIASES.get(one.media, one.media), False, one.syntax, one.weight) for one in wanted
    ]


def _no_such_instance() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "no such instance in this series of this study")
