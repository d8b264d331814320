"""Who is asking at the doors that speak plain HTTP, DICOMweb and WADO-URI, and a record of it.

The assertion comes in the header Authorization (``security.assertions.http``); whoever brings none
where one is needed is told 401. What he may not see travels on as ``scope["unseen"]``. No answer
begins before its record is durable.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from imaging_source.dicomweb.answer import Refusal
from imaging_source.dicomweb.application import QIDO, ROOT, WADO
from imaging_source.dicomweb.paths import Search, resource
from imaging_source.dicomweb.wado_uri import URI, URI_ROOT
from imaging_source.shown import Unseen
from node.wiring.audit import Auditor, WebRequest
from node.wiring.gate import UserGate
from node.wiring.nodes import NodeGuard
from security.assertions.claims import Claims
from security.assertions.http import SCHEME, token_of
from security.assertions.refusal import TokenRefused
from security.audit.trail import Begun
from soap.asgi import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
    certificate_of,
    header,
    peer_of,
    respond,
)
from soap.faults import BUSY, INVALID_TOKEN, SoapFault
from soap.operation import CallContext
from transactions.audit import Outcome

T = TypeVar("T")

STORE = "RAD-108"
"""STOW-RS: images come from machines, which their certificates name."""

_CHALLENGE = (b"www-authenticate", f"{SCHEME} realm=kosmos".encode())


@dataclass(frozen=True, slots=True)
class Doorman:
    """Stands before ``application`` and lets in whom ``gate`` admits."""

    application: Application
    gate: UserGate
    pool: ThreadPoolExecutor
    transaction: Callable[[Scope], str]
    unseen: Callable[[CallContext], Unseen]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = self.transaction(scope)
        context = _context(scope, asked)
        token = header(scope, b"authorization")

        def verify() -> Claims | None:
            return _verified(self.gate, token, context.certificate) if token else None

        try:
            judging = self.pool.submit(self.gate.judge, asked, verify, context)
            caller = await asyncio.wrap_future(judging)
            scope["caller"], scope["unseen"] = caller, self.unseen(caller)
        except SoapFault as fault:
            busy = fault.status == BUSY
            status, headers = (BUSY, []) if busy else (401, [_CHALLENGE])
            await respond(send, status, f"{fault.reason}\n".encode(), headers=headers)
            return
        await self.application(scope, receive, send)


def _verified(gate: UserGate, token: str, certificate: str | None) -> Claims:
    try:
        data = token_of(token)
    except ValueError:
        reason = f"Authorization must be {SCHEME} and the base64 of an assertion"
        raise TokenRefused(INVALID_TOKEN, reason) from None
    return gate.verifier.verify_token(data, certificate)


def _context(scope: Scope, transaction: str) -> CallContext:
    return CallContext(None, "", peer_of(scope), transaction, certificate_of(scope))


def dicomweb_transaction(scope: Scope) -> str:
    """Which transaction a request below ``/dicomweb`` is."""
    if scope["method"] == "POST":
        return STORE
    try:
        target = resource(scope["path"].removeprefix(ROOT))
    except Refusal:
        return WADO  # there is no such thing, and only who may ask is told so
    return QIDO if isinstance(target, Search) else WADO


def wado_uri_transaction(_scope: Scope) -> str:
    """Which transaction a request at ``/wado`` is."""
    return URI


TRANSACTIONS: Mapping[str, Callable[[Scope], str]] = {
    ROOT: dicomweb_transaction,
    URI_ROOT: wado_uri_transaction,
}
"""By path: which transaction a request is."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Stands before ``application`` and records each request with how it was answered.

    The application adds to ``scope["taken"]`` the studies of what it takes in. What is stored is
    in the trail also where the sender goes away, or the process dies, before an answer leaves.
    """

    application: Application
    auditor: Auditor
    pool: ThreadPoolExecutor
    transaction: Callable[[Scope], str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        number = self.transaction(scope)
        context = scope.get("caller") or _context(scope, number)
        asked = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        studies: set[str] = {*_study(asked)}
        scope["taken"] = studies
        begun: Begun | None = None
        under_way = False

        def about() -> WebRequest:
            return WebRequest(number, sorted(studies), asked.encode())

        async def recording(message: Message) -> None:
            nonlocal begun, under_way
            if message["type"] == "http.response.start":
                outcome = Outcome.SUCCESS if message["status"] < 400 else Outcome.SERIOUS_FAILURE
                web = partial(self.auditor.web, about(), outcome, context, begun)
                # Whose images they are takes a look into the index.
                written = web() if number == QIDO else await self._in_pool(web)
                await asyncio.wrap_future(written)
                begun, under_way = None, True
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                under_way = False

        try:
            self.auditor.admit()
            if number == STORE:
                begun = await self._in_pool(partial(self.auditor.web_begins, about(), context))
        except SoapFault as fault:
            await respond(send, fault.status, f"{fault.reason}\n".encode())
            return
        try:
            await self.application(scope, receive, recording)
        finally:
            if under_way or begun is not None:
                self.pool.submit(self.auditor.web_broke_off, about(), context, begun)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self.pool.submit(work))


_STUDY = re.compile(r"/studies/([0-9.]{1,64})|[?&]studyUID=([0-9.]{1,64})", re.IGNORECASE)


def _study(asked: str) -> Collection[str]:
    """The study that a request names, if it names one."""
    found = _STUDY.search(asked)
    return [found[1] or found[2]] if found else []


def recorded(
    mounts: dict[str, Application], auditor: Auditor | None, pool: ThreadPoolExecutor
) -> dict[str, Application]:
    """The applications of the imaging source, each behind a recorder where there is a trail."""
    if auditor is None:
        return mounts
    return {path: Recorder(one, auditor, pool, TRANSACTIONS[path]) for path, one in mounts.items()}


def guarded(
    mounts: dict[str, Application],
    gate: UserGate,
    pool: ThreadPoolExecutor,
    unseen: Callable[[CallContext], Unseen],
) -> dict[str, Application]:
    """The applications of the imaging source, each behind a doorman."""
    return {
        path: Doorman(application, gate, pool, TRANSACTIONS[path], unseen)
        for path, application in mounts.items()
    }


def for_nodes(mounts: dict[str, Application], guard: NodeGuard) -> dict[str, Application]:
    """The same for nodes that may ask what they ask, of those that ``guard`` knows."""
    return {path: guard.http(one, TRANSACTIONS[path]) for path, one in mounts.items()}
