"""The wall clock of a process, watched: what is recorded says when, and follows by number."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

CLOCK_STEP = timedelta(minutes=1)
"""How far the clock may go back between two records untold: what keeps it right (NTP) moves it by
less, but for the first time."""


class Clock:
    """The clock of a process, watched; safe for many threads."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._latest = now()
        self._lock = threading.Lock()

    def put_back(self) -> datetime | None:
        """From which time it has been put back since this was asked last; None if it was not."""
        with self._lock:
            now, before = self._now(), self._latest
            is_back = before - now > CLOCK_STEP
            self._latest = now if is_back else max(now, before)
        return before if is_back else None
