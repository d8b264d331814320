"""Kept files as who reads them needs them: from the start, in ranges, as a stream.

One way for files that lie as they are and for those that are sealed (``storage.sealed``). A
``Reference`` leads another process of this node to a file: a path alone, or with the data key of
that one file, which goes through a pipe and never through arguments or the environment.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from storage.errors import BlobCorrupt, BlobMissing, from_os_error
from storage.keys import KnownKey
from storage.proof import Proof
from storage.sealed import (
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    SUFFIX,
    Seal,
    SealedFile,
    Sealer,
    is_sealed,
    plain_size,
)

# Pieces read from disk: large enough that hashing runs without the interpreter's lock
# and a system call is noise, small enough to stay in a core's cache. Whole chunks of a sealed file.
CHUNK_BYTES = SEALED_CHUNK_BYTES

# Hashed while as many are sent: a millisecond of work, beside which a hand-over is noise.
STRETCH_BYTES = 4 * 1024 * 1024

Reference = str | list[str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """``length`` bytes from ``start`` of an open file, which the kernel can send by itself.

    The file is open until the next piece is asked for.
    """

    descriptor: int
    start: int
    length: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of at most 256 KiB.

        Raises BlobCorrupt where the file ends too soon, and BlobStoreUnavailable.
        """
        position, end = self.start, self.start + self.length
        try:
            while position < end:
                chunk = os.pread(self.descriptor, min(CHUNK_BYTES, end - position), position)
                if not chunk:
                    raise BlobCorrupt("a file ends too soon")
                position += len(chunk)
                yield chunk
        except OSError as error:
            raise from_os_error(error, "reading a file") from error


class PlainFile:
    """Random access to a file that lies as it is; closes ``descriptor`` when it is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def at(self, start: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``start``: fewer where the file ends. Raises OSError."""
        return os.pread(self._descriptor, length, start)

    def pieces(self, start: int, length: int) -> Iterator[Stretch]:
        """These bytes, not read yet."""
        yield Stretch(self._descriptor, start, length)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


OpenFile = PlainFile | SealedFile


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's bytes, not hashed again; those that are sealed in it, where ``seal`` opens it.

    A plain file that has a ``seal`` may be sealed at any time: then the sealed one is read.
    ``size`` is that of the bytes. Errors of opening are BlobMissing, BlobStoreUnavailable and
    KeyUnavailable; what is not as it was sealed is BlobCorrupt wherever it is read.
    """

    path: str | Path
    size: int
    seal: Seal | None = None

    @classmethod
    def at(cls, path: str | Path, seal: Seal | None = None) -> FileContent:
        """The content of the file there. Raises OSError."""
        stored = os.stat(path).st_size
        return cls(path, plain_size(stored) if is_sealed(path) else stored, seal)

    def open(self) -> OpenFile:
        """The file for reading at any place."""
        try:
            path, descriptor = self._opened()
            if self.seal is None or not is_sealed(path):
                return PlainFile(descriptor)
            return SealedFile(descriptor, self.seal)
        except FileNotFoundError as error:
            raise BlobMissing(self.name) from error
        except OSError as error:
            raise from_os_error(error, f"opening {self.name}") from error

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of 256 KiB."""
        with self.open() as file:
            try:
                yield file.at(0, CHUNK_BYTES)  # of an empty one, too, the seal is proved
                for start in range(CHUNK_BYTES, file.size, CHUNK_BYTES):
                    yield file.at(start, CHUNK_BYTES)
            except OSError as error:
                raise from_os_error(error, f"reading {self.name}") from error

    def stretches(
        self, ranges: Iterable[tuple[int, int]] | None = None
    ) -> Iterator[bytes | Stretch]:
        """The bytes of these ranges (start, length), else all: as they lie, or unsealed and read.

        Raises BlobCorrupt where a sealed file ends too soon.
        """
        with self.open() as file:
            try:
                for start, length in [(0, self.size)] if ranges is None else ranges:
                    yield from file.pieces(start, length)
            except OSError as error:
                raise from_os_error(error, f"reading {self.name}") from error

    def proved(self, proof: Proof) -> Iterator[bytes | Stretch]:
        """All bytes as they lie, hashed by a thread while those before them are sent.

        The last stretch is handed out when ``proof`` holds; BlobCorrupt in its place otherwise.
        """
        with self.open() as file, ThreadPoolExecutor(1, "proof") as hashing:
            held: bytes | Stretch = b""
            for piece in _in_turn(file):
                hashed = hashing.submit(_hash, proof, piece)
                yield held
                hashed.result()
                held = piece
            proof.close()
            yield held

    def reference(self) -> Reference:
        """What leads another process to the bytes. Raises as opening does."""
        try:
            path, descriptor = self._opened()
            try:
                if self.seal is None or not is_sealed(path):
                    return str(path)
                key = self.seal.data_key(os.pread(descriptor, HEADER_BYTES, 0))
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise BlobMissing(self.name) from error
        except OSError as error:
            raise from_os_error(error, f"opening {self.name}") from error
        return [str(path), key.hex(), self.seal.address]

    @property
    def name(self) -> str:
        """What the file is called in its folder."""
        return os.path.basename(self.path)

    def _opened(self) -> tuple[str | Path, int]:
        """The file, and where it lies. Raises OSError."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            return self.path, os.open(self.path, flags)
        except FileNotFoundError:
            if self.seal is None or is_sealed(self.path):
                raise
            sealed = f"{self.path}{SUFFIX}"
            return sealed, os.open(sealed, flags)


def _in_turn(file: OpenFile) -> Iterator[bytes | Stretch]:
    """All of a file, in stretches of which one is hashed while another is sent."""
    for start in range(0, file.size, STRETCH_BYTES):
        yield from file.pieces(start, min(STRETCH_BYTES, file.size - start))


def _hash(proof: Proof, piece: bytes | Stretch) -> None:
    for chunk in piece.chunks() if isinstance(piece, Stretch) else (piece,):
        proof.update(chunk)


def stream(source: Path | Reference) -> BinaryIO:
    """The bytes of a file that a reference leads to, as a stream to read and seek in.

    Raises OSError, and BlobCorrupt where it is not as it was sealed.
    """
    if not isinstance(source, list):
        return Path(source).open("rb")
    path, key, address = source
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    file = SealedFile(descriptor, Seal(KnownKey(bytes.fromhex(key)), address))
    return io.BufferedReader(_Stream(file, path), SEALED_CHUNK_BYTES)


def writing(target: Path | Reference) -> BinaryIO:
    """A new file that a reference leads to, to be written from start to end. Raises OSError.

    That of a sealed one names its data key, and the header that was made for it.
    """
    if not isinstance(target, list):
        return Path(target).open("xb")
    path, key, header = target
    sealing = _Sealing(path, bytes.fromhex(key), bytes.fromhex(header))
    return io.BufferedWriter(sealing, SEALED_CHUNK_BYTES)  # type: ignore[type-var]  # as above


class _Stream(io.RawIOBase):
    """A sealed file as the standard library has files."""

    def __init__(self, file: SealedFile, name: str) -> None:
        self.name = name  # pydicom asks for it
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as it is called
        data = self._file.at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class _Sealing(io.RawIOBase):
    """A new sealed file that is written from start to end."""

    def __init__(self, path: str, data_key: bytes, header: bytes) -> None:
        self._sealer = Sealer(KnownKey(data_key), data_key)
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed with this one
        self._file.write(header)

    def writable(self) -> bool:
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]  # as it is called
        for chunk in self._sealer.update(data):
            self._put(chunk)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._put(self._sealer.finish())
            self._file.close()
        super().close()

    def _put(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
