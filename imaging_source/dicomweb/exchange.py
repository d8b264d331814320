"""One request and its answer: in a pool, within bounds, counted, never falsely ended.

What then fails while an answer is sent breaks the connection off, is logged and counted. No answer
has a stack trace, a path of this machine or a value of another patient in it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.evicted import Away
from soap.asgi import Headers, Receive, Scope, Send, peer_of
from soap.call import describe
from soap.sending import PeerGone, Sending
from soap.service import Ended, Observe, Outcome
from storage.errors import BlobStoreBusy, DatabaseBusy

logger = logging.getLogger("imaging_source.dicomweb")

RETRY_AFTER = b"2"

_HOST = re.compile(r"[A-Za-z0-9.\-_\[\]:]{1,255}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done for a request, and what it is counted as; ``inline`` work waits for nothing."""

    transaction: str
    work: Callable[[], Answer]
    inline: bool = False


class Service(ABC):
    """An application at ``root``; ``public_url`` is how clients reach the node, where that is not
    the Host they name, ``most_in_flight`` the requests that may wait for ``pool`` or be in it.
    """

    transaction = ""
    """What a request is counted as before it is understood."""

    def __init__(
        self,
        root: str,
        pool: ThreadPoolExecutor,
        *,
        public_url: str | None = None,
        most_in_flight: int = 64,
        observe: Observe | None = None,
    ) -> None:
        self.root = root
        self.pool = pool
        self.public_url = public_url
        self.most_in_flight = most_in_flight
        self.in_flight = 0
        self.observe = observe

    @abstractmethod
    def plan(self, request: Request) -> Plan:
        """What to do for a request. Raises Refusal."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its answer."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self._service = service
        self._scope = scope
        self._receive = receive
        self._send = send
        self._transaction = service.transaction
        self._outcome = Outcome.OK
        self._sent = 0

    async def run(self) -> None:
        """Judge, answer, count."""
        started = time.perf_counter()
        answer = await self._answer()
        try:
            await self._send_answer(answer)
        finally:
            self._report(time.perf_counter() - started)

    # -- from request to answer

    async def _answer(self) -> Answer:
        service = self._service
        try:
            plan = service.plan(self._request())
            self._transaction = plan.transaction
            return plan.work() if plan.inline else await self._in_pool(plan.work)
        except Refusal as refusal:
            self._outcome = Outcome.SENDER if refusal.status < 500 else Outcome.RECEIVER
            if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
                self._outcome = Outcome.BUSY
            return _plain(refusal.status, refusal.reason, refusal.headers)
        except (DatabaseBusy, BlobStoreBusy, Away) as error:
            self._outcome = Outcome.BUSY
            return _plain(*(_AWAY if isinstance(error, Away) else _BUSY))
        except Exception as error:  # noqa: BLE001 - logged here
            self._outcome = Outcome.RECEIVER
            reference = uuid.uuid4().hex
            facts = {"reference": reference, "error": describe(error)}
            logger.error("request failed", extra=facts)
            text = f"internal error, reference {reference}"
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, text)

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
        path = scope["path"].removeprefix(self._service.root)
        root = self._root(headers.get("host", ""))
        return Request(path, query, headers, root, scope.get("unseen"))

    def _root(self, host: str) -> str:
        """The URL of the service as this client reaches it."""
        service = self._service
        if service.public_url:
            return service.public_url.rstrip("/") + service.root
        known = _HOST.fullmatch(host)
        return f"{self._scope['scheme']}://{host}{service.root}" if known else service.root

    # -- from answer to response

    async def _send_answer(self, answer: Answer) -> None:
        headers = [*answer.headers, *_KEPT_BY_NOBODY]
        if not answer.content_type.startswith(_PDF):
            headers.append(_SANDBOX)
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

    def _report(self, seconds: float) -> None:
        if self._service.observe is not None:
            now, sent, peer = time.time(), self._sent, peer_of(self._scope)
            ended = Ended(self._transaction, self._outcome, now, seconds, 0, sent, peer=peer)
            self._service.observe(ended)


# Health data: no browser leaves it to whoever uses it next, or takes it for something else.
_KEPT_BY_NOBODY: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
# What somebody has put into a document (CDA) is not run in the name of this node. Browsers show no
# PDF in a sandbox, and run nothing in it that reaches this node.
_SANDBOX, _PDF = (b"content-security-policy", b"default-src 'none'; sandbox"), "application/pdf"

_BUSY: tuple[HTTPStatus, str, Headers] = (
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too busy, try again later",
    [(b"retry-after", RETRY_AFTER)],
)

# A study that is being fetched takes from seconds to minutes.
_AWAY: tuple[HTTPStatus, str, Headers] = (
    HTTPStatus.SERVICE_UNAVAILABLE,
    "the images are with their archive, try again later",
    [(b"retry-after", b"30")],
)


def _plain(status: HTTPStatus, text: str, headers: Headers | None = None) -> Answer:
    body = f"{text}\n".encode()
    return Answer(status, "text/plain; charset=utf-8", body, headers=[*(headers or [])])
