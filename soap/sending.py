"""A body on its way out, past the event loop where there is an outlet, else in batches through it.

Whoever answers makes the head; here the bytes follow it, read by jobs of a pool. A body that
cannot be read to its end raises: the caller returns without ending the response, and the server
closes the connection, so that the peer sees a body cut short, never a complete one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any

from soap.asgi import Receive, Scope, Send
from soap.limits import BATCH
from soap.message import Piece, read
from soap.outlet import EXTENSION, Outlet

OpenOutlet = Callable[[Iterator[Piece]], Awaitable[Outlet]]
Start = Callable[..., Future[Any]]

STALL_SECONDS = 60.0
"""A peer that takes no byte of its answer for so long is given up."""


class PeerGone(Exception):
    """The peer has closed the connection before the end."""


class Sending:
    """Sends one body; ``sent`` counts its bytes. ``start`` runs a job in a pool."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, start: Start) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._start = start
        self.sent = 0

    async def run(self, pieces: Iterator[Piece], length: int | None) -> None:
        """Send all of it; ``length`` is None where it is not known.

        Raises PeerGone, TimeoutError when the peer takes nothing, and what reading raises.
        """
        open_outlet = self._scope.get("extensions", {}).get(EXTENSION)
        gone = asyncio.ensure_future(self._disconnected())
        try:
            if open_outlet is not None and length is not None:
                await self._directly(open_outlet, pieces)
            else:
                await self._in_batches(read(pieces), gone)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise PeerGone from error
        finally:
            gone.cancel()

    async def _disconnected(self) -> None:
        """Wait until the peer is gone; a request's body that nobody read is passed over."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _directly(self, open_outlet: OpenOutlet, pieces: Iterator[Piece]) -> None:
        """Let jobs in the pool write to the socket: see ``soap.outlet``."""
        outlet = await open_outlet(pieces)
        try:
            await outlet.run(lambda job: asyncio.wrap_future(self._start(job)), STALL_SECONDS)
        finally:
            self.sent = outlet.sent
            outlet.close()
        await self._send({"type": "http.response.body", "body": b""})

    async def _in_batches(self, chunks: Iterator[bytes], gone: asyncio.Future[None]) -> None:
        """Send through the event loop, reading ahead by one batch."""
        batch = await asyncio.wrap_future(self._start(_batch, chunks))
        while batch:
            ahead = self._start(_batch, chunks)
            for chunk in batch:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._send(
                        {"type": "http.response.body", "body": chunk, "more_body": True}
                    )
                self.sent += len(chunk)
            if gone.done():
                raise PeerGone
            batch = await asyncio.wrap_future(ahead)
        await self._send({"type": "http.response.body", "body": b""})


def _batch(chunks: Iterator[bytes]) -> list[bytes]:
    batch, size = [], 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= BATCH:
            break
    return batch
