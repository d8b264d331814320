"""WADO-RS, the client's side of PS3.18 10.4 (RAD-107): one instance with each request.

The address is the configured base of the source, else the Retrieve URL of the manifest's series,
if that is at a host we know: a manifest does not choose whom we call, and show our certificate.
An answer of one part that has an ETag and takes ranges is continued where it broke off (RFC 9110
14.2). Redirections are not followed: a source is where the manifest or the configuration says.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from consumer.errors import NoAnswer, TooLarge
from consumer.files import CompleteFile, HalfFile, PartialFile
from consumer.plan import Wanted
from consumer.report import Fault
from consumer.ways import Answer, Arrival, Desk, Loss, WayName
from security.assertions.http import authorization_at
from soap.client import connections
from soap.faults import MessageError
from soap.media import MULTIPART, parse_media_type
from soap.multipart import MultipartParser, PartBegin, PartData, PartEnd

# Instances that one thread fetches before it takes the next portion: few, so that all threads
# end together, and enough that making their names durable is done for several at once.
BATCH = 8

# Bytes asked of the socket at once.
_PIECE = 256 * 1024

# A connection that breaks is taken up again so many times, as long as it brings something.
ATTEMPTS = 3

# Seconds for a connection; seconds without a byte.
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0

DICOM = "application/dicom"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class _Lost(Exception):
    """The answer to one request is of no use; ``broken`` when it began well and broke off."""

    def __init__(self, fault: Fault, reason: str, *, broken: bool = False) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.broken = broken


@dataclass(frozen=True, slots=True)
class _Half:
    """What is there of an instance already."""

    size: int
    etag: str


class WebWay:
    """``bases`` are DICOMweb addresses by Retrieve Location UID; ``hosts`` those where the URLs of
    manifests are followed. ``token`` gives an assertion of who asks (ITI-40), or nothing."""

    name = WayName.WADO

    def __init__(
        self,
        bases: Mapping[str, str],
        transfer_syntaxes: Sequence[str],
        *,
        hosts: Collection[str],
        any_syntax: bool,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = READ_SECONDS,
        token: Callable[[], str] = str,
    ) -> None:
        self._token = token
        self._bases = bases
        self._hosts = hosts
        self._accept = _accept(["*"] if any_syntax else transfer_syntaxes)
        self._pool = connections(
            ssl_context,
            maxsize=BATCH,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=timeout),
            retries=False,
        )

    def serves(self, wanted: Wanted) -> bool:
        """Whether there is a DICOMweb address for the instance."""
        return self._address(wanted) is not None

    def batches(self, wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
        """Few instances of one source each."""
        sources: dict[str, list[Wanted]] = {}
        for one in wanted:
            sources.setdefault(one.source, []).append(one)
        for instances in sources.values():
            for start in range(0, len(instances), BATCH):
                yield instances[start : start + BATCH]

    def fetch(self, batch: Sequence[Wanted], desk: Desk) -> Generator[Answer, None, None]:
        """One request for each instance. Raises ConsumerError."""
        for one in batch:
            yield from self._fetch_one(one, desk)

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.clear()

    def _address(self, one: Wanted) -> str | None:
        base = self._bases.get(one.source)
        if base is not None:
            study = f"{base.rstrip('/')}/studies/{one.study_instance_uid}"
            series = f"{study}/series/{one.series_instance_uid}"
        elif self._is_known(one.series_url):
            series = one.series_url.rstrip("/")
        else:
            return None
        return f"{series}/instances/{one.sop_instance_uid}"

    def _is_known(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.hostname in self._hosts

    def _fetch_one(self, one: Wanted, desk: Desk) -> Iterator[Answer]:
        """Ask until the instance is whole, or the source is no help; later parts come too."""
        had = -1
        for _ in range(ATTEMPTS):
            half = _half(one)
            try:
                yield from self._ask(one, half, desk)
                return
            except _Lost as lost:
                loss = Loss(one.sop_instance_uid, lost.fault, lost.reason)
                now = _half(one)
                if not lost.broken or now is None or now.size <= had:
                    break
                had = now.size
            except TooLarge as error:
                loss = Loss(one.sop_instance_uid, Fault.TOO_LARGE, str(error))
                HalfFile.forget(one.target)
                break
        yield loss

    def _ask(self, one: Wanted, half: _Half | None, desk: Desk) -> Iterator[Answer]:
        address = self._address(one)
        assert address is not None  # ``serves`` was asked before
        headers = {
            "Accept": self._accept,
            "Accept-Encoding": "identity",
            **authorization_at(address, self._token),
        }
        if half is not None:
            headers |= {"Range": f"bytes={half.size}-", "If-Range": half.etag}
        with self._answer(address, headers) as answer:
            media = parse_media_type(answer.headers.get("content-type", ""))
            if media.name == MULTIPART and answer.status == 200:
                boundary = media.parameters.get("boundary", "")
                for file in _parts(answer, boundary, desk):
                    yield Arrival(one.sop_instance_uid, file)
            elif media.name == DICOM and answer.status in (200, 206):
                spool = _spool(one, answer, half, desk)
                yield Arrival(one.sop_instance_uid, _spooled(answer, spool))
            else:
                raise _useless(answer, media.name)

    @contextmanager
    def _answer(self, address: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer, its connection kept when it was read to its end.

        Raises NoAnswer when none came, and _Lost for one that breaks off.
        """
        try:
            answer = self._pool.request(
                "GET", address, headers=headers, redirect=False, preload_content=False
            )
        except (HTTPError, OSError, ValueError) as error:
            parts = urlsplit(address)
            place = f"{parts.scheme}://{parts.hostname}"
            raise NoAnswer(f"WADO-RS brought no answer from {place}") from error
        try:
            yield answer
            answer.drain_conn()
            answer.release_conn()
        except (HTTPError, OSError) as error:
            raise _Lost(Fault.BROKEN_ANSWER, "the answer broke off", broken=True) from error
        except MessageError as error:
            raise _Lost(Fault.BROKEN_ANSWER, f"the answer is broken: {error}") from error
        finally:
            answer.close()


def _accept(syntaxes: Sequence[str]) -> str:
    """One part rather than many, for its ranges; either in one of ``syntaxes``."""
    single = [f"{DICOM}; transfer-syntax={one}" for one in syntaxes]
    many = [f'{MULTIPART}; type="{DICOM}"; transfer-syntax={one}; q=0.9' for one in syntaxes]
    return ", ".join([*single, *many])


def _half(one: Wanted) -> _Half | None:
    found = HalfFile.of(one.target)
    return _Half(*found) if found is not None and found[0] > 0 else None


def _useless(answer: urllib3.BaseHTTPResponse, media: str) -> _Lost:
    status = answer.status
    if 300 <= status < 400:
        return _Lost(Fault.REDIRECTED, f"the source redirects (HTTP {status}), not followed")
    if status not in (200, 206):
        return _Lost(Fault.REFUSED, f"HTTP {status}")
    return _Lost(Fault.BROKEN_ANSWER, f"the source sent {media[:80]!r} and no instance")


def _spool(
    one: Wanted, answer: urllib3.BaseHTTPResponse, half: _Half | None, desk: Desk
) -> PartialFile:
    """Where the body goes: behind what is there, or from the start."""
    resumed = False
    if answer.status == 206:
        place = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        resumed = half is not None and place is not None and int(place[1]) == half.size
        if not resumed:
            HalfFile.forget(one.target)
            raise _Lost(Fault.BROKEN_ANSWER, "the source sent another range than was asked for")
    etag = answer.headers.get("etag", "")
    if not resumed and not _resumable(answer, etag):
        return desk.spool()
    if half is not None and resumed:
        etag = half.etag
    return HalfFile(one.target, etag, resume=resumed, allowance=desk.allowance)


def _resumable(answer: urllib3.BaseHTTPResponse, etag: str) -> bool:
    """Whether the rest could be asked for later: a weak ETag says nothing about bytes."""
    return answer.headers.get("accept-ranges") == "bytes" and etag.startswith('"')


def _spooled(answer: urllib3.BaseHTTPResponse, spool: PartialFile) -> CompleteFile:
    try:
        while piece := answer.read1(_PIECE, decode_content=False):
            spool.write(piece)
        return spool.finish()
    except BaseException:
        spool.abort()
        raise


def _parts(answer: urllib3.BaseHTTPResponse, boundary: str, desk: Desk) -> Iterator[CompleteFile]:
    """Each part as a file. Raises MessageError for what is no multipart."""
    parser = MultipartParser(boundary)
    spool: PartialFile | None = None
    try:
        while True:
            piece = answer.read1(_PIECE, decode_content=False)
            for event in parser.feed(piece) if piece else parser.close():
                match event:
                    case PartBegin():
                        spool = desk.spool()
                    case PartData(data) if spool is not None:
                        spool.write(data)
                    case PartEnd() if spool is not None:
                        complete, spool = spool.finish(), None
                        yield complete
            if not piece:
                return
    finally:
        if spool is not None:
            spool.abort()
