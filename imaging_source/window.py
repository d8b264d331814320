"""A stored file read a window at a time: stepping over gigabytes reads only what is looked at.

Not a memory map: where a disk cannot read a mapped page, the whole process dies (SIGBUS).
"""

from __future__ import annotations

from typing import Protocol

# Holds the header of most images, so one read serves hundreds of elements.
_WINDOW_BYTES = 64 * 1024


class Readable(Protocol):
    """An open file, or what stands for one."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def at(self, start: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``start``."""


class Window:
    """Random access to ``file``, which stays the caller's to close."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._start = 0
        self._data = b""
        self.size = file.size

    def take(self, start: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``start``: fewer where the file ends.

        Raises OSError, and BlobCorrupt for what is not as it was sealed.
        """
        offset = start - self._start
        if offset < 0 or offset + length > len(self._data):
            self._data = self._file.at(start, max(length, _WINDOW_BYTES))
            self._start, offset = start, 0
        return self._data[offset : offset + length]
