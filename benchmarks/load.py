"""A load generator that costs little: requests are bytes made before the clock starts.

Each connection sends its next request when the last one is answered (a closed loop), so
rates of two servers under the same load compare. An answer is received into one buffer per
connection and judged by a function of the caller, after its latency was taken.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.figures import WrongAnswer

Check = Callable[[bytes], bool]
Measure = Callable[[bytearray, int], int]
"""The length of the answer at the start of a buffer holding so many bytes; 0 if not yet known."""

# Answers of the small requests driven here; large transfers have a module of their own.
BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: requests per second, latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


def http_head(url: str, content_type: str, length: int) -> bytes:
    """The head of a POST of ``length`` bytes."""
    parts = urlsplit(url)
    return (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def http_answer(buffer: bytearray, filled: int) -> int:
    """The length of an HTTP answer with a Content-Length, its head included."""
    end = buffer.find(b"\r\n\r\n", 0, filled)
    if end < 0:
        return 0
    head = bytes(buffer[:end]).lower() + b"\r\n"
    start = head.index(b"content-length:") + len(b"content-length:")
    return end + 4 + int(head[start : head.index(b"\r\n", start)])


def mllp_answer(buffer: bytearray, filled: int) -> int:
    """The length of an MLLP block."""
    return buffer.find(b"\x1c\r", 0, filled) + 2 if buffer.endswith(b"\x1c\r", 0, filled) else 0


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests that so many clients send, and how their answers are judged."""

    requests: Iterable[bytes]
    clients: int
    check: Check
    measure: Measure = http_answer


def drive(
    address: tuple[str, int],
    requests: Iterable[bytes],
    clients: int,
    check: Check,
    measure: Measure = http_answer,
    tls: ssl.SSLContext | None = None,
) -> Figures:
    """Send every request through ``clients`` connections; WrongAnswer if one is not right."""
    [figures] = drive_together(address, [Stream(requests, clients, check, measure)], tls)
    return figures


def drive_together(
    address: tuple[str, int], streams: Sequence[Stream], tls: ssl.SSLContext | None = None
) -> list[Figures]:
    """Drive several streams at once; the figures of each."""
    return uvloop.run(_drive(address, streams, tls))


def alternate(turns: Sequence[tuple[tuple[str, int], Sequence[bytes], Check]]) -> list[Figures]:
    """One client that asks several servers in turn, a request each: whatever else the machine
    does falls on all of them alike. WrongAnswer if an answer is not right.
    """
    clients = [_Client(address, check) for address, _, check in turns]
    for requests in zip(*(requests for _, requests, _ in turns), strict=True):
        for client, request in zip(clients, requests, strict=True):
            client.ask(request)
    for client in clients:
        client.close()
    return [_figures(client.latencies, sum(client.latencies)) for client in clients]


class _Client:
    """A connection that waits for each answer."""

    def __init__(self, address: tuple[str, int], check: Check) -> None:
        self._connection = socket.create_connection(address)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._check = check
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self.latencies: list[float] = []
        self.close = self._connection.close

    def ask(self, request: bytes) -> None:
        """Send a request and take its time."""
        started = time.perf_counter()
        self._connection.sendall(request)
        filled = length = 0
        while not length or filled < length:
            filled += self._connection.recv_into(self._view[filled:])
            length = length or http_answer(self._buffer, filled)
        self.latencies.append(time.perf_counter() - started)
        answer = bytes(self._view[:length])
        if not self._check(answer):
            raise WrongAnswer(answer[:2000].decode("utf-8", "replace"))


async def _drive(
    address: tuple[str, int], streams: Sequence[Stream], tls: ssl.SSLContext | None
) -> list[Figures]:
    loop = asyncio.get_running_loop()
    driven = [_connections(stream) for stream in streams]
    everybody = [connection for connections in driven for connection in connections]
    for connection in everybody:
        await loop.create_connection(_giving(connection), *address, ssl=tls)
    started = time.perf_counter()
    for connection in everybody:
        connection.send_next()
    await asyncio.gather(*(connection.done for connection in everybody))
    seconds = time.perf_counter() - started
    return [
        _figures([one for connection in connections for one in connection.latencies], seconds)
        for connections in driven
    ]


def _connections(stream: Stream) -> list[_Connection]:
    requests = iter(stream.requests)
    return [_Connection(requests, stream.check, stream.measure) for _ in range(stream.clients)]


def _giving(connection: _Connection) -> Callable[[], _Connection]:
    return lambda: connection


def _figures(latencies: Sequence[float], seconds: float) -> Figures:
    ordered = sorted(latencies)
    p99 = ordered[int(len(ordered) * 0.99)]
    return Figures(len(ordered) / seconds, median(ordered) * 1000, p99 * 1000)


class _Connection(asyncio.BufferedProtocol):
    """One client of the closed loop."""

    def __init__(self, requests: Iterator[bytes], check: Check, measure: Measure) -> None:
        self._requests = requests
        self._check = check
        self._measure = measure
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._length = 0
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        made: socket.socket = transport.get_extra_info("socket")
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send_next(self) -> None:
        """Send the next request, or end when there is none."""
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._filled = self._length = 0
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self._length = self._length or self._measure(self._buffer, self._filled)
        if not self._length or self._filled < self._length:
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        answer = bytes(self._view[: self._length])
        if self._check(answer):
            self.send_next()
        else:
            self._fail(WrongAnswer(answer[:2000].decode("utf-8", "replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._fail(WrongAnswer(f"the connection was closed: {exc}"))

    def _fail(self, error: WrongAnswer) -> None:
        self.done.set_exception(error)
        self._transport.close()
