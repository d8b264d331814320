"""Documents too large to hold: made up on the way out, checked on the way in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

MIB = 1024 * 1024


class Generated:
    """Content of ``size`` bytes, the same every time, never held in memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        # One MiB that no compression shrinks and no single repeated byte could stand for.
        block = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(MIB // 32))
        self._block = memoryview(block)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._size

    def chunks(self) -> Iterator[bytes]:
        """The bytes; each piece begins with its number, so that none can be lost unseen."""
        for number in range(-(-self._size // MIB)):
            length = min(MIB, self._size - number * MIB)
            yield (number.to_bytes(8, "big") + bytes(self._block[8:]))[:length]

    def sha1(self) -> str:
        """The hash of XDS metadata."""
        digest = hashlib.sha1(usedforsecurity=False)
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


class Checksum:
    """A spool that keeps the size and hash of what it takes, and nothing else."""

    def __init__(self) -> None:
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._sha1.update(data)
        self._size += len(data)

    def finish(self) -> Checksum:
        """Itself, as what was received."""
        return self

    def abort(self) -> None:
        """Nothing to forget."""

    def discard(self) -> None:
        """Nothing to give up."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._size

    @property
    def sha1(self) -> str:
        """SHA-1 in hex."""
        return self._sha1.hexdigest()

    @property
    def sha256(self) -> str:
        """Not computed: nobody asks the kit for it."""
        return ""

    def chunks(self) -> Iterator[bytes]:
        """Nothing: the bytes have not been kept."""
        return iter(())
