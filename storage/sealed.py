"""Files sealed at rest: AES-256-GCM under a data key of their own, which a keeper wraps.

::

    0      "kosmos sealed 1\\n"
    64     slot: id of a key, the data key as that key wrapped it
    512    slot: likewise
    1024   the bytes, in chunks of 256 KiB, each with its tag of 16 bytes

Each chunk is sealed under its number and whether it is the last one (the STREAM construction), so
that chunks which were altered, dropped, repeated or moved are never taken for the bytes, nor is
a file that was cut short or continued. The data key, of one file alone, is wrapped for the address
of the file: a file under another name does not open. Any range is read by opening the chunks it
touches; nothing is ever in memory whole.

Of the two slots one is in use. ``rewrap`` writes the other one, in another sector, syncs it and
clears the first: whenever it is interrupted, one of them opens the file. ``erase`` clears both,
after which nobody reads the file, with whatever key.

What is sealed and what is plain is told apart by the name (``SUFFIX``), never by content.
This module knows nothing of where files lie.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import BlobCorrupt, BlobMissing, KeyUnavailable, StorageError
from storage.faultpoints import reach
from storage.keys import KEY_BYTES, Keeper, WrongKey

# What a sealed file is called by, after its address.
SUFFIX = ".sealed"

MAGIC = b"kosmos sealed 1\n"
HEADER_BYTES = 1024

# The pieces in which files are read: one put together from smaller chunks takes twice as long. Who
# reads a header opens all of it, in 40 us; larger ones would be no faster.
SEALED_CHUNK_BYTES = 256 * 1024
TAG_BYTES = 16
_STORED = SEALED_CHUNK_BYTES + TAG_BYTES

# In two sectors, so that a torn write of one leaves the other.
_SLOTS = (64, 512)
_SLOT = struct.Struct("<B32sB160s")
_NO_SLOT = bytes(_SLOT.size)

# The number of a chunk, and whether it is the last.
_NONCE = struct.Struct(">3xQB")


def is_sealed(path: str | Path) -> bool:
    """Whether the file there is sealed: its name says so."""
    return os.fspath(path).endswith(SUFFIX)


def stored_size(size: int) -> int:
    """Bytes of the file that seals ``size`` bytes."""
    chunks = max(1, -(-size // SEALED_CHUNK_BYTES))
    return HEADER_BYTES + size + chunks * TAG_BYTES


def plain_size(stored: int) -> int:
    """Bytes that a file of ``stored`` bytes seals; -1 where no file has such a size."""
    chunks, last = divmod(stored - HEADER_BYTES, _STORED)
    if last:
        return chunks * SEALED_CHUNK_BYTES + last - TAG_BYTES if last >= TAG_BYTES else -1
    return chunks * SEALED_CHUNK_BYTES if chunks > 0 else -1


@dataclass(frozen=True, slots=True)
class Seal:
    """What opens one file: the keeper of its key, and the address it was sealed for."""

    keeper: Keeper
    address: str

    def data_key(self, header: bytes) -> bytes:
        """The data key that the header has.

        Raises KeyUnavailable, BlobMissing for a file that was erased, BlobCorrupt for none of ours.
        """
        return self.opening(header)[1]

    def opening(self, header: bytes) -> tuple[_Slot, bytes]:
        """The slot that opens, and the data key: see ``data_key``."""
        if header[: len(MAGIC)] != MAGIC or len(header) != HEADER_BYTES:
            raise BlobCorrupt(self.address)
        trouble: StorageError = BlobMissing(self.address)
        for slot in _slots(header):
            try:
                context = _context(slot.key_id, self.address)
                return slot, self.keeper.unwrap(slot.key_id, slot.wrapped, context)
            except KeyUnavailable as error:  # the other slot may be whole
                trouble = error
        if isinstance(trouble, WrongKey):  # a wrong key is refused at the start: damaged, or moved
            raise BlobCorrupt(self.address)
        raise trouble


class Sealer:
    """Seals bytes as they arrive; the header is made last, when the address is known."""

    def __init__(self, keeper: Keeper, data_key: bytes | None = None) -> None:
        self._keeper = keeper
        self._data_key = data_key or os.urandom(KEY_BYTES)
        self._cipher = AESGCM(self._data_key)
        self._held = bytearray()
        self._number = 0

    def update(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """The chunks that ``data`` completes; what may be the last one is held back."""
        rest = memoryview(data)
        if self._held and len(self._held) + len(rest) > SEALED_CHUNK_BYTES:
            missing = SEALED_CHUNK_BYTES - len(self._held)
            self._held += rest[:missing]
            rest = rest[missing:]
            yield self._seal(self._held)
            self._held = bytearray()
        while len(rest) > SEALED_CHUNK_BYTES:
            yield self._seal(rest[:SEALED_CHUNK_BYTES])
            rest = rest[SEALED_CHUNK_BYTES:]
        self._held += rest

    def finish(self) -> bytes:
        """The last chunk."""
        return self._seal(self._held, last=True)

    def header(self, address: str) -> bytes:
        """The header of the file of this address. Raises KeyUnavailable."""
        header = bytearray(HEADER_BYTES)
        header[: len(MAGIC)] = MAGIC
        slot = _slot(self._keeper, self._data_key, address)
        header[_SLOTS[0] : _SLOTS[0] + len(slot)] = slot
        return bytes(header)

    def _seal(self, chunk: bytes | bytearray | memoryview, *, last: bool = False) -> bytes:
        sealed = self._cipher.encrypt(_NONCE.pack(self._number, last), chunk, MAGIC)
        self._number += 1
        return sealed


class Chunks:
    """Opens the chunks of one file. Raises BlobCorrupt for what is not as it was sealed."""

    def __init__(self, seal: Seal, header: bytes) -> None:
        self._cipher = AESGCM(seal.data_key(header))
        self._address = seal.address

    def open(self, number: int, chunk: bytes | memoryview, *, last: bool) -> bytes:
        """The bytes of a chunk."""
        try:
            return self._cipher.decrypt(_NONCE.pack(number, last), chunk, MAGIC)
        except (InvalidTag, ValueError):
            raise BlobCorrupt(self._address) from None


class SealedFile:
    """Random access to a sealed file, by one thread; closes ``descriptor`` when it is closed."""

    def __init__(self, descriptor: int, seal: Seal) -> None:
        """Raises BlobCorrupt, BlobMissing and KeyUnavailable; then the descriptor is closed."""
        self._descriptor = descriptor
        self._address = seal.address
        try:
            self.size = plain_size(os.fstat(descriptor).st_size)
            self._last = max(self.size - 1, 0) // SEALED_CHUNK_BYTES
            if self.size < 0:
                raise BlobCorrupt(seal.address)
            # One for all chunks: a new one of this size costs the kernel more than the reading.
            self._read = memoryview(bytearray(min(_STORED, self.size + TAG_BYTES)))
            self._chunks = Chunks(seal, os.pread(descriptor, HEADER_BYTES, 0))
        except BaseException:
            os.close(descriptor)
            raise

    def at(self, start: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``start``: fewer where the file ends.

        Raises OSError, and BlobCorrupt where a chunk is not as it was sealed.
        """
        end = min(start + length, self.size)
        if start >= end and self.size:
            return b""
        first, last = start // SEALED_CHUNK_BYTES, max(end - 1, 0) // SEALED_CHUNK_BYTES
        opened = [self._open(number) for number in range(first, last + 1)]
        data = opened[0] if first == last else b"".join(opened)
        return data[start - first * SEALED_CHUNK_BYTES : end - first * SEALED_CHUNK_BYTES]

    def pieces(self, start: int, length: int) -> Iterator[bytes]:
        """These bytes, in pieces that end where whole chunks do: no chunk is opened twice.

        Raises OSError, and BlobCorrupt where a chunk is not as it was sealed, or none is left.
        """
        end = start + length
        while start < end:
            most = SEALED_CHUNK_BYTES - start % SEALED_CHUNK_BYTES
            piece = self.at(start, min(most, end - start))
            if not piece:
                raise BlobCorrupt(self._address)
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _open(self, number: int) -> bytes:
        position = HEADER_BYTES + number * _STORED
        count = os.preadv(self._descriptor, [self._read], position)
        return self._chunks.open(number, self._read[:count], last=number == self._last)


def sealed(data: bytes, seal: Seal) -> bytes:
    """The sealed file of bytes that are in memory anyway. Raises KeyUnavailable."""
    sealer = Sealer(seal.keeper)
    chunks = [*sealer.update(data), sealer.finish()]
    return b"".join([sealer.header(seal.address), *chunks])


def unsealed(pieces: Iterable[bytes], seal: Seal) -> Iterator[bytes]:
    """The bytes of a sealed file that comes in ``pieces`` of any size, chunk by chunk.

    Raises BlobCorrupt, BlobMissing and KeyUnavailable.
    """
    held = bytearray()
    chunks: Chunks | None = None
    number = 0
    for piece in pieces:
        held += piece
        if chunks is None and len(held) >= HEADER_BYTES:
            chunks = Chunks(seal, bytes(held[:HEADER_BYTES]))
            del held[:HEADER_BYTES]
        while chunks is not None and len(held) > _STORED:
            yield chunks.open(number, bytes(held[:_STORED]), last=False)
            del held[:_STORED]
            number += 1
    if chunks is None:
        raise BlobCorrupt(seal.address)
    yield chunks.open(number, bytes(held), last=True)


def proved_sealed(pieces: Iterable[bytes], seal: Seal) -> Iterator[bytes]:
    """The pieces of a sealed file as they are, each once all of it was proved: see ``unsealed``."""
    read: deque[bytes] = deque()

    def passing() -> Iterator[bytes]:
        for piece in pieces:
            read.append(piece)
            yield piece

    for _ in unsealed(passing(), seal):
        while len(read) > 1:
            yield read.popleft()
    yield from read


def key_ids(header: bytes) -> set[str]:
    """The ids of the keys by which the data key of a header is wrapped; none once erased."""
    return {slot.key_id for slot in _slots(header)}


def read_header(path: Path) -> bytes:
    """The header of a file. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return file.read(HEADER_BYTES)


def rewrap(path: Path, seal: Seal) -> bool:
    """Wrap the data key of a file by the current key, and by no other; whether it was not so.

    Durable when it returns. Raises OSError, BlobCorrupt, BlobMissing and KeyUnavailable.
    """
    with open(path, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # what is erased meanwhile gets no key again
        header = file.read(HEADER_BYTES)
        opening, data_key = seal.opening(header)
        if opening.key_id == seal.keeper.current:
            others = [slot for slot in _slots(header) if slot.position != opening.position]
        else:
            [free] = [position for position in _SLOTS if position != opening.position]
            _write_slot(file.fileno(), free, _slot(seal.keeper, data_key, seal.address))
            reach("keys.rewrapped")
            others = [opening]
        for slot in others:
            _write_slot(file.fileno(), slot.position, _NO_SLOT)
    return bool(others)


def erase(path: Path) -> None:
    """Destroy the wrapped data key of a file, durably: its bytes are noise from then on.

    Does nothing to a file that is gone. Raises OSError.
    """
    try:
        with open(path, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for position in _SLOTS:
                os.pwrite(file.fileno(), _NO_SLOT, position)
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    reach("storage.erased")


@dataclass(frozen=True, slots=True)
class _Slot:
    """A data key, wrapped by the key of this id, and where that stands."""

    position: int
    key_id: str
    wrapped: bytes


def _slots(header: bytes) -> Iterator[_Slot]:
    """The slots in use."""
    if len(header) < HEADER_BYTES:
        return
    for position in _SLOTS:
        length, key_id, size, wrapped = _SLOT.unpack_from(header, position)
        if length:
            yield _Slot(position, key_id[:length].decode("ascii", "replace"), wrapped[:size])


def _context(key_id: str, address: str) -> bytes:
    return b"%s%s %s" % (MAGIC, key_id.encode(), address.encode())


def _slot(keeper: Keeper, data_key: bytes, address: str) -> bytes:
    key_id = keeper.current
    wrapped = keeper.wrap(key_id, data_key, _context(key_id, address))
    return _SLOT.pack(len(key_id), key_id.encode(), len(wrapped), wrapped)


def _write_slot(descriptor: int, position: int, slot: bytes) -> None:
    os.pwrite(descriptor, slot, position)
    os.fsync(descriptor)
