"""Who is asking at the doors that speak plain HTTP: DICOMweb and WADO-URI.

The assertion comes in the header Authorization (``security.assertions.http``); whoever brings none
where one is needed is told 401. What the gate learns travels on as ``scope["caller"]``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imaging_source.dicomweb.answer import Refusal
from imaging_source.dicomweb.application import QIDO, ROOT, WADO
from imaging_source.dicomweb.paths import Search, resource
from imaging_source.dicomweb.wado_uri import URI, URI_ROOT
from node.wiring.gate import UserGate
from node.wiring.nodes import NodeGuard
from security.assertions.claims import Claims
from security.assertions.http import SCHEME, token_of
from security.assertions.refusal import TokenRefused
from soap.asgi import Application, Receive, Scope, Send, header, respond
from soap.faults import BUSY, INVALID_TOKEN, SoapFault
from soap.operation import CallContext

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = self.transaction(scope)
        context = _context(scope, asked)
        token = header(scope, b"authorization")

        def verify() -> Claims | None:
            return _verified(self.gate, token, context.certificate) if token else None

        try:
            judging = self.pool.submit(self.gate.judge, asked, verify, context)
            scope["caller"] = await asyncio.wrap_future(judging)
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
    tls = scope.get("extensions", {}).get("tls", {})
    chain = tls.get("client_cert_chain") or [None]
    peer = (scope.get("client") or ("",))[0]
    return CallContext(None, "", peer, transaction, chain[0])


def dicomweb_transaction(scope: Scope) -> str:
    """Which transaction a request below ``/dicomweb`` is."""
    if scope["method"] == "POST":
        return STORE
    try:
        target = resource(scope["path"].removeprefix(ROOT))
    except Refusal:
        return WADO  # there is no such thing, and only who may ask is told so
    return QIDO if isinstance(target, Search) else WADO


def guarded(
    mounts: dict[str, Application],
    guard: NodeGuard,
    gate: UserGate | None,
    pool: ThreadPoolExecutor,
) -> dict[str, Application]:
    """The applications of the imaging source: ``guard`` knows the nodes that may ask them, and
    where there is a gate each stands behind a doorman."""
    kinds: dict[str, Callable[[Scope], str]] = {
        ROOT: dicomweb_transaction,
        URI_ROOT: lambda _scope: URI,
    }
    if gate is not None:
        mounts = {path: Doorman(one, gate, pool, kinds[path]) for path, one in mounts.items()}
    return {path: guard.http(one, kinds[path]) for path, one in mounts.items()}
