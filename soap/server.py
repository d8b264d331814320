"""The HTTP server: uvicorn (httptools, uvloop) with the deadlines and limits it lacks.

A request's head must come in time and in size, also byte by byte; idle connections end; a
TLS handshake has a deadline; a peer that stops reading is dropped by the kernel; the client's
certificate reaches the application. Deadlines for bodies are the endpoint's (``intake``).

TLS contexts are made by whoever configures the node. One hint: Python offers the DHE suites
that ITI-19 requires only after ``SSLContext.load_dh_params`` (measured: 2 of the 4 mandatory
suites fail without).

Signals belong to the process: whoever runs a ``WebServer`` sets ``should_exit`` to stop it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from soap.asgi import Application, Receive, Scope, Send, respond
from soap.intake import AT_HAND
from soap.message import Piece
from soap.outlet import EXTENSION, Outlet
from soap.tls_listener import Places, Refused, TlsListener

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head; common servers allow 8 to 64 KiB."""

UNREAD_MILLISECONDS = 60_000
"""TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged, or the window closed."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a peer has: for the TLS handshake, for a request's head, between requests; and
    seconds the requests under way have when the server stops.
    """

    handshake: float = 10.0
    head: float = 10.0
    keep_alive: int = 75
    shutdown: int = 25


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with a bounded head and the client's certificate."""

    deadlines = Deadlines()
    places = Places(sys.maxsize)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._tls = _tls_extension(self.transport)
        self._awaiting_head = True
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        _drop_when_unread(self.transport)
        if not self.places.enter(self, self.transport.abort):
            self.app = cast(Any, _refuse)
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._awaiting_head:
            self._head_size += len(data)
            self._arm()
        super().data_received(data)
        if self._awaiting_head and self._head_size > HEAD_LIMIT:
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = self._tls

    def on_headers_complete(self) -> None:
        self._awaiting_head = False
        self._disarm()
        self.places.heard(self)
        super().on_headers_complete()
        # Of this request, whatever is pipelined behind it; its task has not begun yet.
        cycle = cast(Any, self.cycle)
        if cycle.scope["method"] != "HEAD":  # of which nothing follows the head
            cycle.transport = _HeadWithBody(self.transport, bool(self._tls))
        offered = self._tls or {EXTENSION: partial(self.open_outlet, cycle)}
        cycle.scope["extensions"] = {**offered, AT_HAND: cycle.message_event.is_set}

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self.places.waits(self, self.transport.abort)
        super().on_response_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaiting_head = True
        self._head_size = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.places.leave(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Called when the server stops. Whoever waits for nothing is left without the farewell of
        TLS, to which idle clients give no answer: a node would stop ten seconds late for each.
        """
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().shutdown()

    async def open_outlet(self, cycle: Any, pieces: Iterator[Piece]) -> Outlet:
        """A way to write ``pieces`` past the event loop, once it has written what it holds.

        ``cycle`` is uvicorn's for the request. Raises OSError when the connection is gone.
        """
        self.transport.set_write_buffer_limits(0)  # so that draining means emptying
        cycle.transport.send_head()
        await self.flow.drain()
        self.transport.set_write_buffer_limits()
        cycle.expected_content_length = 0  # what uvicorn has to see of the body
        return Outlet(os.dup(self.transport.get_extra_info("socket").fileno()), pieces)

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.deadlines.head, self._head_overdue)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._arm()  # the head of a pipelined request: let the answer under way go out
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()


# TLS encrypts each piece by itself; copying so much takes less than that, for a head.
_JOINED_BYTES = 64 * 1024


class _HeadWithBody:
    """What a response is written to: its head goes out with the first bytes of its body.

    uvicorn writes them one by one, and each write is a system call that wakes the peer: the
    head alone was 15 of 100 samples of a server that answered ITI-18.
    """

    __slots__ = ("_begun", "_head", "_is_secure", "_transport")

    def __init__(self, transport: asyncio.Transport, is_secure: bool) -> None:
        self._transport = transport
        self._is_secure = is_secure
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        """Take the head, then pieces of the body."""
        if self._begun or data.startswith(b"HTTP/1.1 100 "):
            self._transport.write(data)
        elif not self._head:
            self._head = data
        else:
            self._begun = True
            if self._is_secure and len(data) <= _JOINED_BYTES:
                self._transport.write(self._head + data)
            else:
                self._transport.writelines((self._head, data))

    def send_head(self) -> None:
        """Send the head now; what follows is written as it comes."""
        self._begun = True
        self._transport.write(self._head)

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection; a head that nothing followed is not sent."""
        self._transport.close()


async def _refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer where there are too many connections already."""
    await respond(send, 503, b"too many connections", headers=[(b"connection", b"close")])


def _tls_extension(transport: asyncio.Transport) -> dict[str, Any]:
    """The ASGI TLS extension, as far as we use it: the verified client certificate in PEM."""
    ssl_object = transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return {}
    certificate = ssl_object.getpeercert(binary_form=True)
    chain = [ssl.DER_cert_to_PEM_cert(certificate)] if certificate else []
    return {"tls": {"client_cert_chain": chain}}


def _drop_when_unread(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)


class WebServer(uvicorn.Server):
    """Serves one application on given sockets; ``ready`` is set once they accept."""

    def __init__(
        self,
        app: Application,
        *,
        tls: ssl.SSLContext | None = None,
        deadlines: Deadlines = Deadlines(),
        connections: int = 1000,
        refused: Refused | None = None,
    ) -> None:
        """``refused`` is told of TLS handshakes that fail. Beyond ``connections``, one whose next
        request is waited for makes room; where none is, a request is answered 503."""
        kept = {"deadlines": deadlines, "places": Places(connections)}
        protocol = type("_Protocol", (_Protocol,), kept)
        super().__init__(
            uvicorn.Config(
                cast(Any, app),
                http=protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=deadlines.keep_alive,
                timeout_graceful_shutdown=deadlines.shutdown,
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            )
        )
        self.ready = threading.Event()
        self._deadlines = deadlines
        self._refused = refused

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; as uvicorn does, but with a deadline for the TLS handshake."""
        await self.lifespan.startup()
        config = self.config
        loop = asyncio.get_running_loop()
        self.servers = []
        for sock in sockets or []:
            if config.ssl is None:
                plain = await loop.create_server(
                    self._connection, sock=sock, backlog=config.backlog
                )
                self.servers.append(plain)
                continue
            patience = self._deadlines.handshake
            secure = TlsListener(sock, self._connection, config.ssl, patience, self._refused)
            secure.start()
            self.servers.append(cast(Any, secure))  # which is closed and waited for alike
        self.started = True
        self.ready.set()

    def _connection(self) -> asyncio.Protocol:
        make = cast(Any, self.config.http_protocol_class)
        return cast(
            asyncio.Protocol,
            make(config=self.config, server_state=self.server_state, app_state={}),
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


class Router:
    """Gives each request to the application at its path; a trailing slash is ignored.

    ``mounts`` are applications that have all paths below theirs, of one segment.
    """

    def __init__(
        self, routes: Mapping[str, Application], mounts: Mapping[str, Application] | None = None
    ) -> None:
        self._routes = {path.rstrip("/"): app for path, app in routes.items()}
        self._mounts = dict(mounts or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        path: str = scope["path"]
        app = self._routes.get(path.rstrip("/")) or self._mounts.get(
            f"/{path[1:].partition('/')[0]}"
        )
        if app is None:
            await respond(send, 404, b"nothing is served at this address")
        else:
            await app(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


async def serve(
    app: Application,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    deadlines: Deadlines = Deadlines(),
) -> None:
    """Serve ``app`` until cancelled; for more than one listener use ``WebServer``."""
    await WebServer(app, tls=tls, deadlines=deadlines).serve([listen(host, port)])


@contextlib.contextmanager
def running_server(
    app: Application,
    *,
    tls: ssl.SSLContext | None = None,
    deadlines: Deadlines = Deadlines(),
    connections: int = 1000,
    refused: Refused | None = None,
) -> Iterator[str]:
    """A server on a free loopback port in a thread, for tests; yields its base URL."""
    server = WebServer(app, tls=tls, deadlines=deadlines, connections=connections, refused=refused)
    sock = listen("127.0.0.1", 0)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{sock.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([sock],), name="web server")
    thread.start()
    try:
        if not server.ready.wait(timeout=10):
            raise RuntimeError("the server did not start")
        yield url
    finally:
        server.should_exit = True
        thread.join()
