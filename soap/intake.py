"""A request's body as it comes in: with deadlines, a limit and a shared memory budget."""

from __future__ import annotations

import asyncio
import time

from soap.asgi import Message, Receive, Scope
from soap.faults import SENDER, SoapFault
from soap.limits import BATCH, Limits

DRAIN_SECONDS = 1.0
"""A refused body is read a little further: closing while bytes are under way would reset the
connection before the sender has read why it was refused."""


AT_HAND = "kosmos.at_hand"
"""Under this name the scope's extensions tell whether ``receive`` has something to give at once."""


class Disconnected(Exception):
    """The sender went away before its request was complete."""


class MemoryBudget:
    """Bytes of request bodies that may be in memory at once, over all requests."""

    def __init__(self, size: int) -> None:
        self._free = size

    def change(self, size: int) -> None:
        """Take ``size`` bytes, or give back when negative; raises the busy fault when spent."""
        if size > self._free:
            raise SoapFault.busy()
        self._free -= size


class Intake:
    """Reads one body; every wait is bounded by ``limits``."""

    def __init__(
        self, scope: Scope, receive: Receive, limits: Limits, budget: MemoryBudget
    ) -> None:
        self._at_hand = scope.get("extensions", {}).get(AT_HAND, bool)
        self._receive = receive
        self._limits = limits
        self._budget = budget
        self._held = 0
        self._waited = 0.0
        self._overdue = False
        self.received = 0
        self.more = True

    async def all(self) -> bytes:
        """The whole body of a message without attachments."""
        pieces = []
        while self.more:
            pieces.append(await self._piece(self._limits.envelope))
            self.hold(self.received)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def batch(self) -> list[bytes]:
        """The next pieces of the body, about BATCH bytes or what is left."""
        pieces, size = [], 0
        while self.more and size < BATCH:
            piece = await self._piece(self._limits.message)
            pieces.append(piece)
            size += len(piece)
        return pieces

    def hold(self, size: int) -> None:
        """Account for ``size`` bytes of this body being in memory from now on."""
        self._budget.change(size - self._held)
        self._held = size

    async def drain(self) -> None:
        """Let a refused sender finish a small body, so that it reads its answer."""
        if self._overdue:
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.more:
                    self._take(await self._receive())
        except (TimeoutError, Disconnected):
            return

    async def _piece(self, limit: int) -> bytes:
        message = await (self._receive() if self._at_hand() else self._awaited())
        data = self._take(message)
        if self.received > limit:
            raise SoapFault(SENDER, f"the message is larger than {limit} bytes", status=413)
        return data

    async def _awaited(self) -> Message:
        """What comes in time. A deadline is not free: a thirtieth of the time of a stored query."""
        limits = self._limits
        left = limits.grace + self.received / limits.rate - self._waited
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(limits.idle, left)):
                message = await self._receive()
        except TimeoutError:
            self._overdue = True
            raise SoapFault(SENDER, "the body did not come in time", status=408) from None
        self._waited += time.monotonic() - started
        return message

    def _take(self, message: object) -> bytes:
        assert isinstance(message, dict)
        if message["type"] == "http.disconnect":
            raise Disconnected
        data: bytes = message.get("body", b"")
        self.more = message.get("more_body", False)
        self.received += len(data)
        return data
