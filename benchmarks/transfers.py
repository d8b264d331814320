"""ITI-41 and ITI-43 of one very large document: speed beside plain HTTP, and memory.

The reference uploads and downloads the same bytes over plain HTTP to and from the same
server process: a bare handler that writes the body to a file and syncs it, or reads it.
"""

from __future__ import annotations

import mmap
import os
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from benchmarks.figures import MIB, Row, WrongAnswer, growth, interleaved, throughput
from benchmarks.load import address_of, http_answer, http_head
from benchmarks.material import provision, retrieval
from benchmarks.place import Place, Server, fresh
from metadata.datatypes import CX
from metadata.identifiers import SUCCESS
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest

_SUCCESS = b'status="%s"' % SUCCESS.encode()
# Beside the content of an answer: HTTP head, envelope, MIME boundaries.
ROOM_BYTES = MIB
# No server here is silent for so long.
_TIMEOUT_SECONDS = 120.0
# Written at the start of the file before each upload, so that no two are the same document.
_NONCE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Scale:
    """Bytes of the document."""

    size: int = 1024 * MIB
    rounds: int = 3


QUICK = Scale(size=4 * MIB, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """Both directions, each with the server's memory."""
    with fresh("transfer") as place:
        place.announce(1)
        with place.serve("web") as server:
            transfer = Transfer(place, server, scale.size)
            results = interleaved(
                scale.rounds,
                transfer.provide,
                transfer.upload,
                transfer.retrieve,
                transfer.download,
            )
            provided, uploaded, retrieved, downloaded = results
            name = f"{scale.size // MIB:,} MiB"
    for work, ours, bare in (
        (f"ITI-41 of {name}", provided, uploaded),
        (f"ITI-43 of {name}", retrieved, downloaded),
    ):
        times = [one.seconds for one in ours], [one.seconds for one in bare]
        yield throughput(work, scale.size, *times, 0.6)
        yield growth(f"{work}: memory", [one.growth for one in ours], 64)


@dataclass(frozen=True, slots=True)
class Moved:
    """One transfer: seconds from the first byte to the last, growth of the server in MiB."""

    seconds: float
    growth: float


class Transfer:
    """Moves one document in and out of a node."""

    def __init__(self, place: Place, server: Server, size: int) -> None:
        self._place = place
        self._server = server
        self._size = size
        self._patient: CX = place.material.patient(1)
        self._file = place.folder / "document"
        _write_random(self._file, size)
        self._unique_id = ""
        self._receiver = Receiver(address_of(server.url("")), size + ROOM_BYTES)

    def provide(self) -> Moved:
        """ITI-41 of a document that the node does not have yet."""
        with open(self._file, "r+b") as file:
            file.write(os.urandom(_NONCE_BYTES))
        submission = self._place.material.submission(self._patient, registered=False)
        self._unique_id = submission.documents[0].unique_id or ""
        before, after = provision(self._server.url("/repository"), submission, _Sized(self._size))
        answer = self._timed(before, after)
        if _SUCCESS not in self._receiver.answer():
            raise WrongAnswer(self._receiver.answer()[:2000].decode("utf-8", "replace"))
        return answer

    def upload(self) -> Moved:
        """The same bytes over plain HTTP."""
        url = self._server.url("/bare/upload")
        return self._timed(http_head(url, "application/octet-stream", self._size), b"")

    def retrieve(self) -> Moved:
        """ITI-43 of the document provided last."""
        repository = self._place.settings.repository.unique_id
        request = RetrieveDocumentSetRequest((DocumentRequest(repository, self._unique_id),))
        return self._fetched(retrieval(self._server.url("/repository"), ITI_43, request))

    def download(self) -> Moved:
        """The same bytes over plain HTTP."""
        path = str(self._file).encode()
        head = http_head(self._server.url("/bare/download"), "text/plain", len(path))
        return self._fetched(head + path)

    def _timed(self, before: bytes, after: bytes) -> Moved:
        memory = self._server.watch_memory()
        seconds = self._receiver.exchange(before, self._file, after)
        return Moved(seconds, memory.growth())

    def _fetched(self, request: bytes) -> Moved:
        memory = self._server.watch_memory()
        seconds = self._receiver.exchange(request)
        moved = Moved(seconds, memory.growth())
        with open(self._file, "rb") as file, _mapped(file) as content:
            self._receiver.expect([content])
        return moved


class Receiver:
    """Sends one request at a time, each on a connection of its own, into one large buffer."""

    def __init__(
        self, address: tuple[str, int], capacity: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._address = address
        self._tls = tls
        self._buffer = bytearray(capacity)
        self._filled = 0

    def exchange(self, before: bytes, file: Path | None = None, after: bytes = b"") -> float:
        """Seconds from the request's first byte to the answer's last."""
        with self._connected() as connection:
            started = time.perf_counter()
            connection.sendall(before)
            if file is not None:
                with open(file, "rb") as content:
                    connection.sendfile(content)
            connection.sendall(after)
            self._receive(connection)
            return time.perf_counter() - started

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(self._address, _TIMEOUT_SECONDS)
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_hostname=self._address[0])

    def answer(self) -> bytes:
        """The start of the last answer, all of it where it is short."""
        return bytes(self._buffer[: min(self._filled, ROOM_BYTES)])

    def expect(self, contents: Iterable[bytes | mmap.mmap | memoryview]) -> None:
        """WrongAnswer unless the last answer holds these contents, in order, byte for byte."""
        position = 0
        for content in contents:
            start = self._buffer.find(content[:_NONCE_BYTES], position, self._filled)
            position = start + len(content)
            with memoryview(self._buffer) as ours, memoryview(content) as theirs:
                if start < 0 or ours[start:position] != theirs:
                    raise WrongAnswer("a document did not arrive as it was")

    def _receive(self, connection: socket.socket) -> None:
        self._filled = length = 0
        with memoryview(self._buffer) as view:
            while not length or self._filled < length:
                count = connection.recv_into(view[self._filled :])
                if count == 0:
                    raise WrongAnswer("the answer broke off")
                self._filled += count
                length = length or http_answer(self._buffer, self._filled)


def _mapped(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class _Sized:
    """Stands for the document while the message around it is made."""

    def __init__(self, size: int) -> None:
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """Nothing: the bytes are sent from the file."""
        return iter(())


def _write_random(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))
