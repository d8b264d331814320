"""STOW-RS, Store Instances (PS3.18 10.5, IHE RAD-108): DICOM files in by HTTP.

The parts of a multipart/related body are taken in one after the other while they arrive, each
as durable as by C-STORE: its file is synced, then its row is committed, and the answer leaves
after the last commit. Rows are committed in groups. Sent again, what was stored is stored.
Metadata and bulk data in parts of their own (application/dicom+json, +xml) are not taken.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from lxml import etree

from imaging_source.header import is_uid
from imaging_source.index import Arrived, Verdict
from imaging_source.intake import Door, Outcome, Refused, Status, out_of_resources, outcome_of
from imaging_source.ledger import UNKNOWN, About
from imaging_source.part10 import FileArrival, Meta
from soap.asgi import Headers, Receive, Scope, Send, header, peer_of, respond
from soap.faults import MessageError, SoapFault
from soap.intake import Disconnected, Intake, MemoryBudget
from soap.limits import BATCH, MIB, Limits
from soap.media import MULTIPART, parse_media_type
from soap.multipart import Event, MultipartParser, PartBegin, PartData
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

_NATIVE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
DICOM, JSON, XML = "application/dicom", "application/dicom+json", "application/dicom+xml"

# Instances whose rows are committed together: more would only delay the first of them.
GROUP = 64

# Files of one request that are synced while the next ones arrive: a disk takes several syncs in
# the time of one, and more than four at a time only queue up there.
AHEAD = 4
_keepers = ThreadPoolExecutor(AHEAD, "keep")

# Bodies in memory at once, over all requests: each holds up to three batches.
MEMORY = 256 * MIB
MAX_REQUESTS = 32

_RETRY_AFTER = (b"retry-after", b"2")

# Failure Reasons (PS3.18 Table 10.5.3-1, PS3.7 Annex C).
_PROCESSING_FAILURE = 0x0110
_DUPLICATE = 0x0111
_OTHER_STUDY = 0xC409  # of those that mean "cannot understand": the study is not that of the URL


@dataclass(slots=True)
class _Result:
    """What became of one part: ``reason`` is 0 for what is stored."""

    meta: Meta | None
    about: About = UNKNOWN
    series: str = ""
    reason: int = 0

    @property
    def study(self) -> str:
        """The study that it is of."""
        return self.about.study_instance_uid


@dataclass(slots=True)
class Storing:
    """One request while its body arrives; not for several threads at once.

    ``study`` is the study of the URL, or empty; to ``taken`` the studies are added of what comes.
    """

    door: Door
    study: str
    sender: str
    taken: set[str] = field(default_factory=set)
    results: list[_Result] = field(default_factory=list)
    _syncing: deque[tuple[_Result, Future[Arrived]]] = field(default_factory=deque)
    _kept: list[tuple[_Result, Arrived]] = field(default_factory=list)
    _part: FileArrival | None = None

    def feed(self, events: Sequence[Event]) -> None:
        """Take the next pieces of the body."""
        for event in events:
            if isinstance(event, PartData):
                if self._part is not None:
                    self._part.write(event.data)
            elif isinstance(event, PartBegin):
                self._begin(event)
            elif self._part is not None:
                part, self._part = self._part, None
                self._end(part)

    def finish(self) -> None:
        """Commit what is not committed yet."""
        while self._syncing:
            self._settle(*self._syncing.popleft())
        self._commit()

    def _commit(self) -> None:
        kept, self._kept = self._kept, []
        if not kept:
            return
        try:
            verdicts = self.door.index([arrived for _, arrived in kept])
        except (StorageError, OSError) as error:
            for result, _ in kept:
                result.reason = out_of_resources(error).status
            return
        for (result, _), verdict in zip(kept, verdicts, strict=True):
            result.reason = _reason(outcome_of(verdict), verdict)

    def abort(self) -> None:
        """The sender is gone: forget the part that was arriving."""
        if self._part is not None:
            self._part.abort()

    def _begin(self, event: PartBegin) -> None:
        media = parse_media_type(event.headers.get("content-type", DICOM)).name
        if media != DICOM:
            raise Unsupported(media)
        self._part = FileArrival(self.door, self.sender)

    def _end(self, part: FileArrival) -> None:
        result = _Result(part.meta)
        self.results.append(result)
        self._syncing.append((result, _keepers.submit(part.keep)))
        if len(self._syncing) > AHEAD:
            self._settle(*self._syncing.popleft())

    def _settle(self, result: _Result, keeping: Future[Arrived]) -> None:
        """Wait until a file is durable, and note it for the next commit."""
        try:
            arrived = keeping.result()
        except Refused as refused:
            result.reason = refused.outcome.status
            return
        result.about = About.of(arrived.header.study)
        result.series = arrived.header.series_instance_uid
        self.taken.add(result.study)
        if self.study and result.study != self.study:
            result.reason = _OTHER_STUDY
            return
        self._kept.append((result, arrived))
        if len(self._kept) >= GROUP:
            self._commit()


class Unsupported(Exception):
    """A part of a media type that is not taken."""


def _reason(outcome: Outcome, verdict: Verdict) -> int:
    """Why an instance is not among the stored: what is in quarantine nobody can retrieve."""
    if outcome.status == Status.SUCCESS:
        return 0
    return _DUPLICATE if verdict is Verdict.OTHER_BYTES else _PROCESSING_FAILURE


def status_of(results: Sequence[_Result]) -> HTTPStatus:
    """The status of an answer (PS3.18 Table 10.5.3-1)."""
    if all(one.reason == 0 for one in results):
        return HTTPStatus.OK
    if any(one.reason == 0 for one in results):
        return HTTPStatus.ACCEPTED
    if all(one.reason == Status.OUT_OF_RESOURCES for one in results):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.CONFLICT


def response(results: Sequence[_Result], root: str, study: str) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18 I.2) in DICOM JSON."""
    studies = {one.study for one in results if one.reason == 0}
    url = f"{root}/studies/{study or next(iter(studies), '')}" if len(studies) == 1 else ""
    stored = [_reference(one, root) for one in results if one.reason == 0]
    failed = [_reference(one, root) for one in results if one.reason and one.meta]
    others = [_failure(one) for one in results if one.reason and not one.meta]
    sequences = {"00081198": failed, "00081199": stored, "0008119A": others}
    found: dict[str, Any] = {"00081190": {"vr": "UR", "Value": [url]}} if url else {}
    found |= {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    return dict(sorted(found.items()))


def _reference(result: _Result, root: str) -> dict[str, Any]:
    assert result.meta is not None  # of a file whose head was read
    uid = result.meta.sop_instance_uid
    item: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": [result.meta.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [uid]},
    }
    if result.reason:
        return item | _failure(result)
    url = f"{root}/studies/{result.study}/series/{result.series}/instances/{uid}"
    return item | {"00081190": {"vr": "UR", "Value": [url]}}


def _failure(result: _Result) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [result.reason]}}


def native_model(data: dict[str, Any]) -> bytes:
    """The same as XML (PS3.19 A.1), for values that are texts, numbers and items."""
    root = etree.fromstring(f'<NativeDicomModel xmlns="{_NATIVE}"/>')
    _fill(root, data)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _fill(parent: etree._Element, data: dict[str, Any]) -> None:
    for tag, element in data.items():
        attribute = etree.SubElement(
            parent, f"{{{_NATIVE}}}DicomAttribute", tag=tag, vr=element["vr"]
        )
        for number, value in enumerate(element["Value"], 1):
            if isinstance(value, dict):
                _fill(etree.SubElement(attribute, f"{{{_NATIVE}}}Item", number=str(number)), value)
            else:
                place = etree.SubElement(attribute, f"{{{_NATIVE}}}Value", number=str(number))
                place.text = str(value)


class Stow:
    """The ASGI application for POST at ``/studies`` and ``/studies/{uid}`` below ``root``.

    ``public`` is the URL of ``root`` where a proxy hides it.
    """

    def __init__(
        self,
        door: Door,
        pool: ThreadPoolExecutor,
        limits: Limits,
        root: str = "/dicomweb",
        public: str | None = None,
    ) -> None:
        self._door = door
        self._pool = pool
        self._limits = limits
        self._root = root
        self._public = public
        self._budget = MemoryBudget(MEMORY)
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        intake = Intake(scope, receive, self._limits, self._budget)
        self._requests += 1
        try:
            await self._serve(scope, intake, send)
        except Disconnected:
            return
        except _HttpError as error:
            await self._refuse(intake, send, error)
        finally:
            self._requests -= 1
            intake.hold(0)

    async def _serve(self, scope: Scope, intake: Intake, send: Send) -> None:
        study = self._study(scope["path"])
        parser = self._parser(scope)
        write = self._writer(scope)
        sender = f"STOW-RS {peer_of(scope)}".strip()
        storing = Storing(self._door, study, sender, scope.get("taken", set()))
        try:
            await self._receive(intake, parser, storing)
        except BaseException:
            await self._work(storing.abort)
            raise
        if not storing.results:
            raise _HttpError(HTTPStatus.BAD_REQUEST, "the body holds no DICOM file")
        status = status_of(storing.results)
        data = response(storing.results, self._url(scope), study)
        kind, body = write(data)
        extra: Headers = [_RETRY_AFTER] if status == HTTPStatus.SERVICE_UNAVAILABLE else []
        await respond(send, status, body, content_type=kind, headers=extra)

    async def _receive(self, intake: Intake, parser: MultipartParser, storing: Storing) -> None:
        """Feed the body to the parts: one batch is written while the next arrives."""
        try:
            batch = await intake.batch()
            while intake.more:
                writing = asyncio.ensure_future(self._work(_feed, parser, storing, batch))
                try:
                    intake.hold(3 * BATCH)
                    batch = await intake.batch()
                finally:
                    await writing
            await self._work(_feed, parser, storing, batch, True)
        except (MessageError, Unsupported) as error:
            unsupported = isinstance(error, Unsupported)
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE if unsupported else HTTPStatus.BAD_REQUEST
            text = f"parts are {DICOM}, not {error!s:.80}" if unsupported else str(error)
            raise _HttpError(status, text) from error
        except SoapFault as error:  # the common deadlines and limits of bodies
            raise _HttpError(HTTPStatus(error.status), str(error)) from error

    async def _work(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _study(self, path: str) -> str:
        rest = path.removeprefix(self._root).strip("/").split("/")
        if rest[0] != "studies" or len(rest) > 2 or not all(map(is_uid, rest[1:])):
            raise _HttpError(HTTPStatus.NOT_FOUND, "instances are stored at /studies[/{uid}]")
        return "".join(rest[1:])

    def _parser(self, scope: Scope) -> MultipartParser:
        if self._requests > MAX_REQUESTS:
            raise _HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once")
        media = parse_media_type(header(scope, b"content-type"))
        if media.name != MULTIPART or media.parameters.get("type", DICOM).lower() != DICOM:
            text = f'expected {MULTIPART}; type="{DICOM}"'
            raise _HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        coding = header(scope, b"content-encoding").strip().lower()
        if coding not in ("", "identity"):
            text = "bodies in a content coding are not taken"
            raise _HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        declared = header(scope, b"content-length")
        if declared.isdecimal() and int(declared) > self._limits.message:
            raise _HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        try:
            return MultipartParser(media.parameters.get("boundary", ""))
        except MessageError as error:
            raise _HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _writer(self, scope: Scope) -> Any:
        """How the answer is written: as the client likes it."""
        accept = header(scope, b"accept").lower() or "*/*"
        for wish in accept.split(","):
            media = wish.partition(";")[0].strip()
            if media in (JSON, "application/json", "*/*", "application/*"):
                return lambda data: (JSON, json.dumps(data).encode())
            if media in (XML, "text/xml", "application/xml"):
                return lambda data: (XML, native_model(data))
        raise _HttpError(HTTPStatus.NOT_ACCEPTABLE, f"offered: {JSON}, {XML}")

    def _url(self, scope: Scope) -> str:
        return self._public or f"{scope['scheme']}://{header(scope, b'host')}{self._root}"

    async def _refuse(self, intake: Intake, send: Send, error: _HttpError) -> None:
        extra: Headers = []
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            extra.append(_RETRY_AFTER)
        if intake.more:
            extra.append((b"connection", b"close"))
            await intake.drain()
        await respond(send, error.status, str(error).encode(), headers=extra)


class _HttpError(Exception):
    """The request as a whole is refused."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def _feed(
    parser: MultipartParser, storing: Storing, batch: Sequence[bytes], last: bool = False
) -> None:
    for piece in batch:
        storing.feed(parser.feed(piece))
    if last:
        storing.feed(parser.close())
        storing.finish()
