"""What a request asks and what an answer is, before either meets the wire."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from imaging_source.shown import Unseen
from soap.asgi import Headers
from soap.message import Piece

JSON = "application/dicom+json"

# Below it a body fits in a packet or two, and compressing it gains nothing.
_WORTH_COMPRESSING = 1024

# Metadata shrink to a sixth at 100 MB/s; higher levels take thrice the time for a tenth less.
_GZIP_LEVEL = 1
_GZIP_WINDOW = 31  # zlib's sign for a gzip header


class Refusal(Exception):
    """The request cannot be served: a status of PS3.18 and a short reason for its sender."""

    def __init__(self, status: HTTPStatus, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or []


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD below the root of the service.

    ``path`` begins with a slash, ``query`` are its parameters, decoded, ``headers`` have names
    in lower case, ``root`` is the URL of the service for its answers. ``unseen`` tells what of the
    index whoever asks may not see; None where nothing is hidden from anybody.
    """

    path: str
    query: Sequence[tuple[str, str]]
    headers: dict[str, str]
    root: str
    unseen: Unseen | None = None

    def hides(self, study: str) -> bool:
        """Whether a study is not there for whoever asks."""
        return self.unseen is not None and study in self.unseen([study])

    @property
    def accept(self) -> str:
        """What media types are wanted: by the parameter, which comes first (PS3.18 8.3.3.1)."""
        asked = [value for name, value in self.query if name.lower() == "accept"]
        return ", ".join(asked) or self.headers.get("accept", "")

    @property
    def takes_gzip(self) -> bool:
        """Whether the answer may be compressed."""
        codings = self.headers.get("accept-encoding", "").lower().split(",")
        return any(
            name.strip() == "gzip" and weight.replace(" ", "") not in ("q=0", "q=0.0")
            for name, _, weight in (coding.partition(";") for coding in codings)
        )


@dataclass(slots=True)
class Answer:
    """Status, headers and a body: bytes at hand, or a stream of ``length`` (None: not known)."""

    status: HTTPStatus
    content_type: str
    body: bytes = b""
    stream: Iterator[Piece] | None = None
    length: int | None = None
    headers: Headers = field(default_factory=list)


def json_answer(
    request: Request, body: bytes, headers: Headers | None = None, content_type: str = JSON
) -> Answer:
    """A document at hand, compressed where the client takes it."""
    answer = Answer(HTTPStatus.OK, content_type, body, headers=headers or [])
    answer.headers.append((b"vary", b"accept, accept-encoding"))
    if request.takes_gzip and len(body) > _WORTH_COMPRESSING:
        answer.body = b"".join(gzipped(iter([body])))
        answer.headers.append((b"content-encoding", b"gzip"))
    return answer


def json_stream(request: Request, pieces: Iterator[bytes], content_type: str = JSON) -> Answer:
    """A document that is sent while it is made."""
    answer = Answer(HTTPStatus.OK, content_type, stream=pieces)
    answer.headers.append((b"vary", b"accept, accept-encoding"))
    if request.takes_gzip:
        answer.stream = gzipped(pieces)
        answer.headers.append((b"content-encoding", b"gzip"))
    return answer


def gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip member."""
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    for piece in pieces:
        if compressed := compressor.compress(piece):
            yield compressed
    yield compressor.flush()
