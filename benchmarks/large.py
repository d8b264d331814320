"""Memory for an instance of 1 GiB, in and out; how soon a study of 3,000 begins to leave.

The instance comes by C-STORE (DCMTK's ``storescu``) and by STOW-RS, and leaves by WADO-RS and by
RAD-69; memory is that of all processes of the node that it passes through.
"""

from __future__ import annotations

import http.client
import mmap
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dicomweb import ACCEPT, get
from benchmarks.figures import MIB, Row, WrongAnswer, growth
from benchmarks.images import Study, request_of, take_in
from benchmarks.load import address_of
from benchmarks.peers import are_there
from benchmarks.place import Place, Server, fresh
from benchmarks.transfers import ROOM_BYTES, Receiver

_TIMEOUT_SECONDS = 120.0
_LIMIT_MIB = 32.0
_LIMIT_MS = 150.0
_BOUNDARY = "one-large-part"
_OPENING = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
_CLOSING = f"\r\n--{_BOUNDARY}--\r\n".encode()

# Pixels that the file of a study has, in place of which the large ones are put.
_EDGE = 8
_PIXEL_BYTES = _EDGE * _EDGE * 2


@dataclass(frozen=True, slots=True)
class Scale:
    """Bytes of pixels of the large instance; instances of the study; how often it is asked for."""

    size: int = 1024 * MIB
    instances: int = 3000
    rounds: int = 5


QUICK = Scale(size=4 * MIB, instances=20, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """The rows of both."""
    yield from measure_memory(scale)
    yield measure_first_byte(scale)


def measure_memory(scale: Scale) -> Iterator[Row]:
    """Growth of the processes while one large instance passes, each way."""
    with fresh("large") as place, ExitStack() as stack:
        servers = [stack.enter_context(place.serve(name)) for name in ("dicom", "web")]
        dicom, web = servers
        by_stow, by_store = (_Large(place.folder, number, scale.size) for number in (1, 2))
        yield _grown("STOW-RS", scale, servers, lambda: _stow(web, by_stow))
        out = _Out(place, web, by_stow)
        yield _grown("WADO-RS", scale, servers, out.by_wado)
        yield _grown("RAD-69", scale, servers, out.by_rad_69)
        if are_there("C-STORE of one large instance", "storescu"):
            yield _grown("C-STORE", scale, servers, lambda: _store(dicom, by_store))


def measure_first_byte(scale: Scale) -> Row:
    """Milliseconds until a RAD-69 of a study of many instances begins to be answered."""
    with fresh("first") as place:
        study = Study(place.folder / "study", 1, scale.instances, _EDGE)
        take_in(place, study, list(study.files()))
        with place.serve("web") as server:
            request = request_of(place, server, study.uid, study.uids)
            address = address_of(server.url(""))
            times = sorted(_until_first_byte(address, request) for _ in range(scale.rounds))
    work = f"RAD-69 of {scale.instances} instances: first byte"
    milliseconds = 1000 * times[len(times) // 2]
    measured = f"{milliseconds:,.0f} ms"
    return Row(work, measured, "", milliseconds, _LIMIT_MS, at_most=True, unit=" ms")


class _Large:
    """A file of one instance with so many bytes of pixels."""

    def __init__(self, folder: Path, number: int, size: int) -> None:
        study = Study(folder / f"large-{number}", 9000 + number, 1, _EDGE)
        [self.path] = study.files()
        self.study, self.uids = study.uid, study.uids
        head = self.path.read_bytes()[: -_PIXEL_BYTES - 4] + struct.pack("<I", size)
        with open(self.path, "wb") as file:
            file.write(head)
            for _ in range(0, size, MIB):
                file.write(os.urandom(MIB))
        self.pixels_at = len(head)
        self.size = len(head) + size


class _Out:
    """A large instance as it leaves, compared with what came in."""

    def __init__(self, place: Place, server: Server, large: _Large) -> None:
        self._large = large
        self._receiver = Receiver(address_of(server.url("")), large.size + ROOM_BYTES)
        self._wado = get(f"{server.url('')}/dicomweb/studies/{large.study}", ACCEPT)
        self._soap = request_of(place, server, large.study, large.uids)

    def by_wado(self) -> None:
        """The study by WADO-RS."""
        self._taken(self._wado)

    def by_rad_69(self) -> None:
        """The instance by RAD-69."""
        self._taken(self._soap)

    def _taken(self, request: bytes) -> None:
        self._receiver.exchange(request)
        with (
            open(self._large.path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as whole,
            whole[self._large.pixels_at :] as pixels,
        ):
            self._receiver.expect([pixels])


def _grown(work: str, scale: Scale, servers: list[Server], act: Callable[[], None]) -> Row:
    watched = [server.watch_memory() for server in servers]
    act()
    grown = sum(memory.growth() for memory in watched)
    return growth(
        f"{work} of one instance of {scale.size // MIB:,} MiB: memory", [grown], _LIMIT_MIB
    )


def _store(server: Server, large: _Large) -> None:
    command = ["storescu", "-aec", "KOSMOS", "127.0.0.1", str(server.ports["dicom"])]
    sent = subprocess.run([*command, str(large.path)], env=os.environ | {"TCP_NODELAY": "1"})
    if sent.returncode:
        raise WrongAnswer(f"storescu failed: {sent.returncode}")


def _stow(server: Server, large: _Large) -> None:
    host, port = address_of(server.url(""))
    connection = http.client.HTTPConnection(host, port, _TIMEOUT_SECONDS)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
        "Content-Length": str(len(_OPENING) + large.size + len(_CLOSING)),
    }
    connection.request("POST", "/dicomweb/studies", _body(large), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise WrongAnswer(f"{answer.status}: a large instance was not stored")


def _body(large: _Large) -> Iterator[bytes]:
    yield _OPENING
    with open(large.path, "rb") as file:
        while piece := file.read(MIB):
            yield piece
    yield _CLOSING


def _until_first_byte(address: tuple[str, int], request: bytes) -> float:
    """Seconds until the first byte of a successful answer; the rest is left."""
    with socket.create_connection(address, _TIMEOUT_SECONDS) as connection:
        started = time.perf_counter()
        connection.sendall(request)
        answer = connection.recv(MIB)
        seconds = time.perf_counter() - started
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise WrongAnswer("a study was not handed out")
    return seconds
