"""A SOAP service at one path, as an ASGI application.

POST performs an operation (ITI TF-2 Appendix V), GET ``?wsdl`` and ``?singleWsdl`` describe
the service, a plain GET shows a page for people. Operations bind what the transactions
declare to plain functions; the endpoint knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

from soap.asgi import Receive, Scope, Send, header, respond
from soap.call import Call
from soap.intake import MemoryBudget
from soap.limits import MIB, SERVER, Limits
from soap.message import MemorySpool, Spool
from soap.operation import CallContext, Exchange, Gate, Operation, Witness
from soap.page import HEADERS, choose_language, write_page
from soap.service import Observe, Service
from soap.wsdl import read_schema, write_wsdl

__all__ = ["CallContext", "Endpoint", "Exchange", "Gate", "Operation", "Witness"]

MAX_IN_FLIGHT = 64
"""Calls waiting for the pool or in it. At the goal of 300 submissions/s that is 0.2 s of work:
more waiting would only make every answer late."""

MEMORY = 512 * MIB
"""Bytes of bodies in memory over all calls of one endpoint: eight envelopes of the largest
size, or some 170 uploads at once."""


class Endpoint:
    """The ASGI application for one service.

    ``spool`` opens a place for one attachment; ``pool`` runs what may wait; ``title`` heads
    the page, ``service_name`` the WSDL ("DocumentRegistry"). ``strict_addressing`` demands
    Action and MessageID, else a message without Action is dispatched by its body.
    ``reply_to`` lists addresses that count as anonymous, for senders that name themselves
    and yet wait on the connection. ``address`` is the public URL where a proxy hides it.
    ``gate`` judges who calls; ``witness`` keeps the audit record of each call that is performed.
    """

    def __init__(
        self,
        operations: Iterable[Operation[Any, Any]],
        *,
        pool: ThreadPoolExecutor,
        title: str,
        service_name: str,
        spool: Callable[[], Spool] = MemorySpool,
        limits: Limits = SERVER,
        max_in_flight: int = MAX_IN_FLIGHT,
        memory: int = MEMORY,
        strict_addressing: bool = True,
        reply_to: Iterable[str] = (),
        address: str | None = None,
        observe: Observe | None = None,
        witness: Witness | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._service = Service(
            operations=tuple(operations),
            spool=spool,
            limits=limits,
            pool=pool,
            max_in_flight=max_in_flight,
            budget=MemoryBudget(memory),
            strict_addressing=strict_addressing,
            reply_to=frozenset(reply_to),
            observe=observe,
            witness=witness,
            gate=gate,
        )
        self._exchanges = [operation.exchange for operation in self._service.operations]
        self._title = title
        self._service_name = service_name
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        method = scope["method"]
        if method == "POST":
            await Call(self._service, scope, receive, send).run()
        elif method in ("GET", "HEAD"):
            await self._show(scope, send)
        else:
            await respond(send, 405, b"", headers=[(b"allow", b"GET, HEAD, POST")])

    async def _show(self, scope: Scope, send: Send) -> None:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        keys = {key.lower(): value for key, value in query.items()}
        address = self._address or _address(scope)
        if "wsdl" in keys or "singlewsdl" in keys:
            body: bytes | None = write_wsdl(
                self._service_name, self._exchanges, address, single="singlewsdl" in keys
            )
        elif "xsd" in keys:
            body = read_schema(keys["xsd"], address)
        else:
            language = choose_language(header(scope, b"accept-language"))
            page = write_page(self._title, self._exchanges, language)
            await respond(send, 200, page, content_type="text/html; charset=utf-8", headers=HEADERS)
            return
        if body is None:
            await respond(send, 404, b"no such schema")
            return
        await respond(send, 200, body, content_type="text/xml; charset=utf-8")


def _address(scope: Scope) -> str:
    return f"{scope['scheme']}://{header(scope, b'host')}{scope['path']}"
