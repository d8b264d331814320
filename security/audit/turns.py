"""What an event loop gives to a trail while it is busy is written together, and awaited together.

Were the trail woken by every record, and the loop by every record that is durable, each would cost
three threads their place several times. So the trail is woken when the loop has nothing else to do,
or soon; one that serves a single call waits for no other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

# Some ten queries' time: with 5 ms a query cost a tenth more, and its answer took as long.
PATIENCE_SECONDS = 0.01

# A look comes before the calls whose messages arrived in the same turn; so the second one tells.
_QUIET_LOOKS = 2


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
            written.add_done_callback(_telling(loop, self._waiting))
            loop.call_soon(self._look, loop.time() + PATIENCE_SECONDS, self._waiting, 1, 0)
        # Nobody is told before this turn has ended: who comes later in it is told as well.
        mine = loop.create_future()
        self._waiting.append(mine)
        return mine

    def _look(
        self, until: float, waiting: Sequence[asyncio.Future[None]], seen: int, quiet: int
    ) -> None:
        """Wake the trail, or look again in the next turn where more came since the last one."""
        loop = asyncio.get_running_loop()
        quiet = quiet + 1 if len(waiting) == seen else 0
        if quiet == _QUIET_LOOKS or loop.time() >= until:
            self._wake()
        else:
            loop.call_soon(self._look, until, waiting, len(waiting), quiet)


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
