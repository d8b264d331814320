"""A plain TCP connection's own way out: large answers written by the threads that read them.

An event loop that sends what a thread has read hands every megabyte over twice, and holds the
interpreter's lock while the kernel copies. Here one job of the pool reads, proves and writes
until the socket has been full for a moment; then the loop waits for room, holding no thread. Beside
plain HTTP of the same files a study of 150 MiB went from 0.45 of the rate to between 0.58 and 0.74,
on a machine that did other work too. What lies in a file as it is to leave, the kernel sends by
itself (``sendfile``): a quarter less processor time for such a study, and 0.7 of one file by nginx
instead of 0.3. Connections under TLS are encrypted by the loop and have no outlet.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Awaitable, Callable, Iterator

from soap.message import Piece, length_of

EXTENSION = "kosmos.outlet"
"""Under this name the server offers a way to open an outlet, in the scope's extensions."""

QUANTUM = 8 * 1024 * 1024
"""Bytes one job writes at most before another call has its turn in the pool: at the 1 to 2 GB/s
that loopback carries, 4 to 8 ms."""

SOON_MILLISECONDS = 1
"""How long a job waits for room by itself: a peer on a fast network takes a megabyte meanwhile, and
the way through the event loop and back into the pool takes a fifth of it."""

Job = Callable[[], bool]
"""Writes what the socket takes; True when everything is written."""


class Outlet:
    """Writes pieces of a body to a socket; ``sent`` counts the bytes.

    The descriptor is the outlet's own copy, not blocking, closed by ``close``.
    """

    def __init__(self, descriptor: int, pieces: Iterator[Piece]) -> None:
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._pieces = pieces
        self._piece: Piece = b""
        self._given = 0  # bytes of the piece
        self._blocked = False
        self._writing = threading.Lock()
        self._is_closed = False
        self.sent = 0

    async def run(self, start: Callable[[Job], Awaitable[bool]], stall_seconds: float) -> None:
        """Write all pieces in jobs that ``start`` runs.

        Raises TimeoutError when the peer takes nothing for so long, OSError when it is gone,
        and whatever reading a piece raises.
        """
        while not await start(self._write):
            if self._blocked:
                await self._wait_for_room(stall_seconds)

    def close(self) -> None:
        """Give the descriptor back; the connection stays as it is.

        Who waits for a job may be cancelled while it runs: its end is waited for, and one that
        comes later writes nothing, since the number may be another connection's by then.
        """
        with self._writing:
            self._is_closed = True
            os.close(self._descriptor)

    def _write(self) -> bool:
        with self._writing:
            return self._is_closed or self._write_some()

    def _write_some(self) -> bool:
        end = self.sent + QUANTUM
        self._blocked = False
        while self.sent < end:
            if self._given == length_of(self._piece):
                piece = next(self._pieces, None)
                if piece is None:
                    return True
                self._piece, self._given = piece, 0
                continue  # a piece may be empty
            try:
                count = self._give(end - self.sent)
            except BlockingIOError:
                if self._room.poll(SOON_MILLISECONDS):
                    continue
                self._blocked = True
                return False
            self._given += count
            self.sent += count
        return False

    def _give(self, most: int) -> int:
        """How much of the rest of the piece, and of a stretch ``most`` bytes, the socket took."""
        piece, given = self._piece, self._given
        if isinstance(piece, bytes):
            return os.write(self._descriptor, memoryview(piece)[given:])
        rest = min(piece.length - given, most)
        count = os.sendfile(self._descriptor, piece.descriptor, piece.start + given, rest)
        if not count:
            raise EOFError("a file ends too soon")
        return count

    async def _wait_for_room(self, seconds: float) -> None:
        """Wait until the socket takes more."""
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self._descriptor, writable.set)
        try:
            async with asyncio.timeout(seconds):
                await writable.wait()
        finally:
            loop.remove_writer(self._descriptor)
