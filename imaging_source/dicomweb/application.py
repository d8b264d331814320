"""The ASGI application of the service: from request to answer, in a pool and within bounds.

GET and HEAD only: storing (STOW-RS) and rendering are other applications. A request is judged and
looked up as a whole before the first byte; what then fails while it is sent breaks the connection
off, is logged and counted, and is never ended as if it were whole. No answer has a stack trace, a
path of this machine or a value of another patient in it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl

from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.dicomweb.metadata import metadata
from imaging_source.dicomweb.paths import Retrieval, Search, resource
from imaging_source.dicomweb.qido import DEFAULT_PAGING, Paging, Searcher
from imaging_source.dicomweb.query import read_query
from imaging_source.dicomweb.search import is_selective
from imaging_source.dicomweb.wado import Retriever
from soap.asgi import Headers, Receive, Scope, Send
from soap.call import describe
from soap.sending import PeerGone, Sending
from soap.service import Outcome
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import DatabaseBusy

logger = logging.getLogger("imaging_source.dicomweb")

ROOT = "/dicomweb"
"""The path below which the application is mounted."""

QIDO, WADO = "RAD-129", "RAD-107"
"""What requests are counted and logged as."""

RETRY_AFTER = b"2"

Observe = Callable[[str, str, float, int, int], None]
"""Told of every request: transaction, outcome, seconds, bytes in (0) and bytes out."""

_HOST = re.compile(r"[A-Za-z0-9.\-_\[\]:]{1,255}")


class DicomWeb:
    """The application; ``public_url`` is how clients reach the node, where that is not the Host
    they name, ``most_in_flight`` the requests that may wait for ``pool`` or be in it.
    """

    def __init__(
        self,
        database: Database,
        root: Path,
        pool: ThreadPoolExecutor,
        *,
        public_url: str | None = None,
        paging: Paging = DEFAULT_PAGING,
        most_in_flight: int = 64,
        observe: Observe | None = None,
    ) -> None:
        blobs = BlobStore(root)
        self.searcher = Searcher(database, paging)
        self.retriever = Retriever(database, blobs)
        self.metadata = partial(metadata, database, blobs)
        self.pool = pool
        self.public_url = public_url
        self.most_in_flight = most_in_flight
        self.in_flight = 0
        self.observe = observe
        # An indexed read of a local file is shorter than a hop to a thread; a network is not.
        self.reads_inline = database.backend == "sqlite"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its answer."""

    def __init__(self, service: DicomWeb, scope: Scope, receive: Receive, send: Send) -> None:
        self._service = service
        self._scope = scope
        self._receive = receive
        self._send = send
        self._transaction = WADO
        self._outcome = Outcome.OK
        self._sent = 0

    async def run(self) -> None:
        """Judge, answer, count."""
        started = time.perf_counter()
        answer = await self._answer()
        try:
            await self._send_answer(answer)
        finally:
            self._report(answer, time.perf_counter() - started)

    # -- from request to answer

    async def _answer(self) -> Answer:
        service = self._service
        try:
            request = self._request()
            target = resource(request.path)
            if isinstance(target, Search):
                self._transaction = QIDO
                query = read_query(request)
                work = partial(service.searcher.answer, target, query, request)
                if service.reads_inline and is_selective(target, query):
                    return work()
            else:
                work = partial(self._retrieve, target, request)
            return await self._in_pool(work)
        except Refusal as refusal:
            self._outcome = Outcome.SENDER if refusal.status < 500 else Outcome.RECEIVER
            if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
                self._outcome = Outcome.BUSY
            return _plain(refusal.status, refusal.reason, refusal.headers)
        except DatabaseBusy:
            self._outcome = Outcome.BUSY
            return _plain(*_BUSY)
        except Exception as error:  # noqa: BLE001 - logged here
            self._outcome = Outcome.RECEIVER
            reference = uuid.uuid4().hex
            facts = {"reference": reference, "error": describe(error)}
            logger.error("request failed", extra=facts)
            text = f"internal error, reference {reference}"
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, text)

    def _retrieve(self, target: Retrieval, request: Request) -> Answer:
        retriever = self._service.retriever
        if target.what == "metadata":
            rows, corrections = retriever.rows(target.scope), retriever.corrections(target.scope)
            return self._service.metadata(rows, corrections, request)
        return retriever.retrieve(target, request)

    async def _in_pool(self, work: Callable[[], Answer]) -> Answer:
        service = self._service
        if service.in_flight >= service.most_in_flight:
            raise Refusal(*_BUSY)
        service.in_flight += 1
        try:
            return await asyncio.wrap_future(service.pool.submit(work))
        finally:
            service.in_flight -= 1

    def _request(self) -> Request:
        scope = self._scope
        if scope["method"] not in ("GET", "HEAD"):
            allow: Headers = [(b"allow", b"GET, HEAD")]
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", allow)
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        path = scope["path"].removeprefix(ROOT)
        return Request(path, query, headers, self._root(headers.get("host", "")))

    def _root(self, host: str) -> str:
        """The URL of the service as this client reaches it."""
        if self._service.public_url:
            return self._service.public_url.rstrip("/") + ROOT
        return f"{self._scope['scheme']}://{host}{ROOT}" if _HOST.fullmatch(host) else ROOT

    # -- from answer to response

    async def _send_answer(self, answer: Answer) -> None:
        headers = list(answer.headers)
        length = len(answer.body) if answer.stream is None else answer.length
        has_body = answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        if answer.content_type:
            headers.append((b"content-type", answer.content_type.encode("latin-1", "replace")))
        if length is not None and has_body:
            headers.append((b"content-length", str(length).encode()))
        start = {"type": "http.response.start", "status": int(answer.status), "headers": headers}
        await self._send(start)
        if answer.stream is None or not has_body or self._scope["method"] == "HEAD":
            self._sent = len(answer.body)
            await self._send({"type": "http.response.body", "body": answer.body})
            return
        sending = Sending(self._scope, self._receive, self._send, self._service.pool.submit)
        try:
            await sending.run(answer.stream, answer.length)
        except PeerGone:
            self._outcome = Outcome.ABORTED
        except Exception as error:  # noqa: BLE001 - logged here
            # Returning without the rest makes the server close the connection.
            self._outcome = Outcome.BROKEN
            logger.error("answer broke off", extra={"error": describe(error)})
        finally:
            self._sent = sending.sent

    def _report(self, answer: Answer, seconds: float) -> None:
        if self._service.observe is not None:
            self._service.observe(self._transaction, self._outcome, seconds, 0, self._sent)
        if logger.isEnabledFor(logging.INFO):
            facts = {
                "transaction": self._transaction,
                "outcome": self._outcome,
                "status": int(answer.status),
                "peer": (self._scope.get("client") or ("",))[0],
                "milliseconds": round(seconds * 1000, 1),
            }
            logger.info("dicomweb", extra=facts)


_BUSY: tuple[HTTPStatus, str, Headers] = (
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too busy, try again later",
    [(b"retry-after", RETRY_AFTER)],
)


def _plain(status: HTTPStatus, text: str, headers: Headers | None = None) -> Answer:
    body = f"{text}\n".encode()
    return Answer(status, "text/plain; charset=utf-8", body, headers=[*(headers or [])])
