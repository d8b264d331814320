"""The low-water mark: stop taking new work before the disk is really full.

A full disk also stops SQLite's checkpoints and leaves no room for logs, so writes are
refused while some space is left; reads are never refused, and writes resume by
themselves as soon as there is room again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import OutOfSpace

# 256 MiB: a checkpoint of the largest WAL we allow (64 MiB) fits several times over.
DEFAULT_MINIMUM_FREE_BYTES = 256 * 1024 * 1024

# Audit trails may use three quarters of that: reads are recorded, too, and go on when nothing new
# is taken any more. A record takes some 3 KB.
RECORDS_MINIMUM_FREE_BYTES = 64 * 1024 * 1024


# How long room once found is taken for granted: a fast disk writes 50 MB meanwhile, a small
# part of the mark, and a commit is spared a system call.
TRUSTED_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LowWaterMark:
    """How much must stay free on a file system: bytes and per cent, whichever is more."""

    minimum_free_bytes: int = DEFAULT_MINIMUM_FREE_BYTES
    minimum_free_percent: float = 0.0
    _had_room: dict[Path, float] = field(default_factory=dict, init=False, compare=False)

    def check(self, folder: Path) -> None:
        """Raise OutOfSpace if ``folder``'s file system has less room than it must keep."""
        now = time.monotonic()
        if now - self._had_room.get(folder, -TRUSTED_SECONDS) >= TRUSTED_SECONDS:
            self._look(folder)
            self._had_room[folder] = now

    def _look(self, folder: Path) -> None:
        state = os.statvfs(folder)
        free = state.f_bavail * state.f_frsize
        share = state.f_blocks * state.f_frsize * self.minimum_free_percent / 100
        needed = max(self.minimum_free_bytes, int(share))
        if free < needed:
            raise OutOfSpace(f"{free} bytes free at {folder}, {needed} must stay free")
