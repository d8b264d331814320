"""The proof that bytes which leave are those that were kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from blake3 import blake3 as Blake3

from storage.errors import BlobCorrupt


class Proof:
    """Whether bytes are those of a blob: by its ``blake3`` where known, else its address."""

    def __init__(self, sha256: str, blake3: str = "") -> None:
        self._sha256 = sha256
        self._expected = blake3 or sha256
        self._digest = Blake3() if blake3 else hashlib.sha256()

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(data)

    def close(self) -> None:
        """There are no more; BlobCorrupt if the hash is another."""
        if self._digest.hexdigest() != self._expected:
            raise BlobCorrupt(self._sha256)


def proved(pieces: Iterable[bytes], sha256: str, blake3: str = "") -> Iterator[bytes]:
    """The pieces, hashed on the way: see ``Proof``.

    Raises BlobCorrupt in place of the last piece if the hash is another, so that a reader
    who counts bytes never takes a corrupt blob for a complete one.
    """
    proof = Proof(sha256, blake3)
    held: bytes | None = None
    for piece in pieces:
        proof.update(piece)
        if held is not None:
            yield held
        held = piece
    proof.close()
    if held is not None:
        yield held
