"""What one turn of an event loop gives to a trail is written together, and awaited together.

A loop that serves many answers some of them in each turn. Were its trail woken by every record, and
the loop by every record that is durable, each would cost two threads their place several times.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future


class Turns(threading.local):
    """Those of the loop of each thread; ``wake`` has what waits written."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._shared: tuple[asyncio.AbstractEventLoop, Future[None]] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def until(self, written: Future[None]) -> asyncio.Future[None]:
        """Done when ``written`` is, which was just given out and is shared by what is written
        together. Whoever cancels it takes nothing from the others."""
        loop = asyncio.get_running_loop()
        if (loop, written) != self._shared:
            self._shared, self._waiting = (loop, written), []
            loop.call_soon(self._wake)
            written.add_done_callback(_telling(loop, self._waiting))
        # Nobody is told before this turn has ended: who comes later in it is told as well.
        mine = loop.create_future()
        self._waiting.append(mine)
        return mine


def _telling(
    loop: asyncio.AbstractEventLoop, waiting: Sequence[asyncio.Future[None]]
) -> Callable[[Future[None]], None]:
    """What has the loop tell all at once."""

    def tell(written: Future[None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, waiting, written.exception())

    return tell


def _tell(waiting: Sequence[asyncio.Future[None]], error: BaseException | None) -> None:
    for one in waiting:
        if one.done():  # its call was cancelled
            continue
        if error is None:
            one.set_result(None)
        else:
            one.set_exception(error)
