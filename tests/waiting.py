"""Waiting for what happens in another process or thread, where no event tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable

_BETWEEN_SECONDS = 0.02


def wait_for(change: Callable[[], object], seconds: float = 20.0) -> None:
    """Ask again until ``change`` is true; AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while not change():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(_BETWEEN_SECONDS)
