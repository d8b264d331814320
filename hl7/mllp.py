"""Minimal Lower Layer Protocol (ITI TF-2 C.2.1): framing, server and client.

A block is VT, the message, FS, CR. ``Framer`` finds blocks in whatever pieces the network
delivers, without doing I/O. ``MllpServer`` answers each block on its own connection, in
order. ``MllpClient`` sends one message at a time and waits for its answer. What the messages
mean is the handler's business.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from soap.tls_listener import (
    Places,
    Refused,
    TlsListener,
    peer_certificate,
    start_streams,
    stop_streams,
)

log = logging.getLogger(__name__)

START = b"\x0b"
END = b"\x1c\x0d"

Handler = Callable[[bytes, str], bytes]
"""Takes a message and the peer's address, returns the answer. An exception means that no
answer can be given: the connection is closed, and the sender will repeat its message."""


class BlockTooLong(Exception):
    """More bytes than a block may have, and no end in sight."""


def frame(message: bytes) -> bytes:
    """``message`` as one block."""
    return START + message + END


class Framer:
    """Finds the blocks in a stream of bytes (sans-IO).

    Bytes outside a block are dropped. A VT inside a block begins it anew: the sender broke
    off and started again, for VT cannot occur in a message.
    """

    def __init__(self, max_block: int) -> None:
        self._max_block = max_block
        self._buffer = bytearray()
        self._searched = 0

    @property
    def in_block(self) -> bool:
        """Whether a block has begun and not yet ended."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes, without their framing.

        Raises BlockTooLong; the stream is then beyond repair.
        """
        messages = []
        self._buffer += data
        # One step back: FS may have been the last byte of the previous piece.
        end = self._buffer.find(END, max(self._searched - 1, 0))
        while end >= 0:
            start = self._buffer.rfind(START, 0, end)
            if start >= 0:
                self._check(end - start)
                messages.append(bytes(self._buffer[start + 1 : end]))
            del self._buffer[: end + len(END)]
            self._searched = 0
            end = self._buffer.find(END)
        self._keep_from_start()
        self._check(len(self._buffer))
        return messages

    def _keep_from_start(self) -> None:
        """Forget what lies before the last VT."""
        start = self._buffer.rfind(START, self._searched)
        if start >= 0:
            del self._buffer[:start]
        elif not self._buffer.startswith(START):
            self._buffer.clear()
        self._searched = len(self._buffer)

    def _check(self, length: int) -> None:
        if length > self._max_block + len(START):
            raise BlockTooLong(f"block longer than {self._max_block} bytes")


class MllpLimits(NamedTuple):
    """What one peer may ask of the server; times in seconds.

    ``block`` bounds a block in time from its first byte, so that a byte now and then does
    not hold a connection; the same patience is shown to a connection that has not yet sent
    anything. Interface engines keep their connection open between messages: ``idle`` is
    long. ``max_block`` is in bytes, a little above the largest message the reader takes.
    """

    max_block: int = 4 * 1024 * 1024 + 1024
    connections: int = 200
    block: float = 15.0
    idle: float = 3600.0
    write: float = 15.0
    handshake: float = 10.0


DEFAULT_LIMITS = MllpLimits()

# Connections that wait to be accepted.
_BACKLOG = 128


class MllpServer:
    """An MLLP listener on the running event loop; handlers run in ``workers`` threads.

    ``start()`` binds, ``stop()`` ends: no new connections, messages under way are answered
    within ``grace`` seconds, idle connections closed at once. ``ssl_context`` makes it MLLP
    over TLS (ITI TF-2 3.19); ``by_node`` then gives the handler for a peer's certificate (DER),
    and ``refused`` is told of handshakes that fail. ``overlong`` is told the address of whoever
    sends more than a block may have. One connection has at most one message in
    hand, so ``workers`` and the number of connections bound everything; a connection that has not
    brought a whole message yet makes room for another.
    """

    def __init__(
        self,
        handler: Handler,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ssl_context: ssl.SSLContext | None = None,
        limits: MllpLimits = DEFAULT_LIMITS,
        workers: int = 8,
        by_node: Callable[[bytes | None], Handler] | None = None,
        refused: Refused | None = None,
        overlong: Refused | None = None,
    ) -> None:
        self._handler = handler
        self._by_node = by_node
        self._refused = refused
        self._overlong = overlong
        self._address = (host, port)
        self._ssl = ssl_context
        self._limits = limits
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mllp")
        self._server: asyncio.Server | TlsListener | None = None
        self._port = 0
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._places = Places(limits.connections)

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for. Only after ``start()``."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._port = listener.getsockname()[1]
        self._server = await start_streams(
            self._accept, listener, self._ssl, self._limits.handshake, self._refused
        )

    async def stop(self, grace: float = 10.0) -> None:
        """Stop listening, let messages under way be answered, close everything."""
        if self._server is not None:
            await stop_streams(self._server)
        for connection in self._connections.values():
            connection.finish()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=grace)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._pool.shutdown(wait=False)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = _peer_name(writer)
        if not self._places.enter(task, writer.transport.abort):
            log.warning("MLLP-FULL connection refused: %d open", len(self._connections))
            writer.close()
            return
        handler = self._by_node(peer_certificate(writer)) if self._by_node else self._handler
        heard = partial(self._places.heard, task)
        connection = Connection(reader, writer, peer, handler, self._pool, self._limits, heard)
        self._connections[task] = connection
        try:
            await connection.serve()
        except BlockTooLong as error:
            log.warning("MLLP-SIZE connection closed: %s", error)
            if self._overlong is not None:
                self._overlong(peer, str(error))
        finally:
            del self._connections[task]
            self._places.leave(task)
            writer.close()


class Connection:
    """One peer's connection to the server: reads, hands on, answers, in order."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        handler: Handler,
        pool: ThreadPoolExecutor,
        limits: MllpLimits,
        heard: Callable[[], None],
    ) -> None:
        """``heard`` is called with each whole message."""
        self._heard = heard
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._handler = handler
        self._pool = pool
        self._limits = limits
        self._framer = Framer(limits.max_block)
        self._waiting: asyncio.Future[bytes] | None = None
        self._finishing = False

    def finish(self) -> None:
        """Answer what is in hand, then close; close now if nothing is."""
        self._finishing = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def serve(self) -> None:
        """Serve the peer until it leaves or exceeds a limit; raises BlockTooLong."""
        try:
            await self._serve()
        except TimeoutError:
            log.info("MLLP-DEADLINE connection closed: peer too slow or idle")
            self._writer.transport.abort()  # a peer that does not read would hold a close
        except (ConnectionError, ssl.SSLError) as error:
            log.info("MLLP-LOST connection lost: %s", type(error).__name__)

    async def _serve(self) -> None:
        deadline = time.monotonic() + self._limits.block
        while not self._finishing:
            data = await self._read(deadline)
            if not data:
                return
            was_in_block = self._framer.in_block
            messages = self._framer.receive(data)
            if messages:
                self._heard()
            for message in messages:
                if not await self._answer(message):
                    return
            if messages:
                deadline = time.monotonic() + self._limits.idle
            if self._framer.in_block and (messages or not was_in_block):
                deadline = time.monotonic() + self._limits.block

    async def _read(self, deadline: float) -> bytes:
        """The next bytes; none when the peer has closed or the server is stopping."""
        # 64 KiB: the reader's own buffer, so that one call empties it.
        self._waiting = asyncio.ensure_future(self._reader.read(65536))
        try:
            return await asyncio.wait_for(self._waiting, deadline - time.monotonic())
        except asyncio.CancelledError:
            if self._finishing:
                return b""
            raise
        finally:
            self._waiting = None

    async def _answer(self, message: bytes) -> bool:
        """Answer one message; whether the connection may go on."""
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._pool, self._handler, message, self._peer)
        except Exception as error:  # noqa: BLE001 - logged with a code; silence makes the sender repeat
            log.error("MLLP-HANDLER no answer, connection closed: %s", type(error).__name__)
            return False
        self._writer.write(frame(answer))
        async with asyncio.timeout(self._limits.write):
            await self._writer.drain()
        return True


def _peer_name(writer: asyncio.StreamWriter) -> str:
    address = writer.get_extra_info("peername")
    return str(address[0]) if address else ""
