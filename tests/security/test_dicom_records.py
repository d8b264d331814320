"""DICOM over TLS, whatever TLS records a peer's PDUs come in: none waits for the next to be read.

A record may hold several PDUs, and a PDU may come in several records; what is decrypted already is
not seen by who waits for the socket.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from imaging_source.dimse import read_command, read_fragments
from imaging_source.guard import Limits, PduReader
from imaging_source.line import Line
from security.pki import Identity
from security.tls import client_context, server_context
from tests.imaging_source.conftest import encoded_request
from tests.imaging_source.test_guard import element, pdu, pdv, us
from tests.security.listeners import (
    IMPLICIT,
    PATIENCE_SECONDS,
    VERIFICATION,
    Listeners,
    Terms,
)

ASSOCIATE_AC, P_DATA = 2, 4
# Long enough for a listener to take what is there, and to answer it wrongly.
_MOMENT_SECONDS = 0.02


class Wire:
    """A TLS client that says in which records, and in which pieces of them, its bytes travel."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = connection
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_hostname="localhost")
        connection.settimeout(PATIENCE_SECONDS)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._come.write(self._socket.recv(65536))
            else:
                self._flush()
                return

    def record(self, data: bytes) -> bytes:
        """The TLS record of ``data``."""
        self._tls.write(data)
        return self._go.read()

    def send(self, *pieces: bytes) -> None:
        """Send these one after the other, each taken before the next comes, and none answered."""
        for piece in pieces[:-1]:
            self._socket.sendall(piece)
            assert not select.select([self._socket], [], [], _MOMENT_SECONDS)[0]
        self._socket.sendall(pieces[-1])

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes of the peer; TimeoutError where they do not come."""
        data = b""
        while len(data) < size:
            try:
                data += self._tls.read(size - len(data))
            except ssl.SSLWantReadError:
                self._come.write(self._socket.recv(65536))
        return data

    def read_pdu(self) -> tuple[int, bytes]:
        head = self.read(6)
        return head[0], self.read(int.from_bytes(head[2:]))

    def _flush(self) -> None:
        self._socket.sendall(self._go.read())


def echo(number: int) -> bytes:
    """A C-ECHO-RQ in a PDU of its own."""
    uid = VERIFICATION.encode() + b"\0" * (len(VERIFICATION) % 2)
    body = element(0x0002, uid) + us(0x0100, 0x30) + us(0x0110, number) + us(0x0800, 0x0101)
    return pdu(P_DATA, pdv(1, 3, element(0, len(body).to_bytes(4, "little")) + body))


def answered(wire: Wire) -> int:
    """The number of the request that is answered next."""
    kind, content = wire.read_pdu()
    assert kind == P_DATA
    [fragment] = read_fragments(memoryview(content))
    return read_command(bytes(fragment.data)).responded_to


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def calling(pki: dict[str, Identity], request: pytest.FixtureRequest) -> ssl.SSLContext:
    node = pki["node"]
    context = client_context(node.certificate, node.key, pki["authority"].certificate)
    context.maximum_version = request.param
    return context


@pytest.fixture
def listening(pki: dict[str, Identity]) -> ssl.SSLContext:
    node = pki["node"]
    return server_context(node.certificate, node.key, pki["authority"].certificate)


@pytest.fixture
def wire(calling: ssl.SSLContext, listening: ssl.SSLContext, tmp_path: Path) -> Iterator[Wire]:
    """An association with the storage listener."""
    with ExitStack() as stack:
        door = Listeners(stack, tmp_path).open("dicom", listening, Terms())
        wire = Wire(stack.enter_context(door.connect()), calling)
        wire.send(wire.record(encoded_request([(VERIFICATION, [IMPLICIT])])))
        assert wire.read_pdu()[0] == ASSOCIATE_AC
        yield wire


def test_every_pdu_of_one_record_is_answered(wire: Wire) -> None:
    wire.send(wire.record(b"".join(map(echo, range(1, 8)))))
    assert [answered(wire) for _ in range(7)] == [*range(1, 8)]


@pytest.mark.parametrize("cut", [1, 5, 6, 7, -1])
def test_a_pdu_in_two_records_is_answered_once_it_is_whole(wire: Wire, cut: int) -> None:
    request = echo(1)
    wire.send(wire.record(request[:cut]), wire.record(request[cut:]))
    assert answered(wire) == 1


@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_a_record_in_two_pieces_is_read_once_it_is_whole(wire: Wire, cut: int) -> None:
    record = wire.record(echo(1) + echo(2))
    wire.send(record[:cut], record[cut:])
    assert [answered(wire), answered(wire)] == [1, 2]


@pytest.mark.parametrize("cut", [1, 5, 6, 7, -1])
def test_a_record_that_ends_in_the_next_pdu_holds_nothing_back(wire: Wire, cut: int) -> None:
    first, second, third = echo(1), echo(2), echo(3)
    wire.send(wire.record(first[:20]), wire.record(first[20:] + second + third[:cut]))
    assert [answered(wire), answered(wire)] == [1, 2]
    wire.send(wire.record(third[cut:]))
    assert answered(wire) == 3


def test_what_is_decrypted_already_is_news(
    calling: ssl.SSLContext, listening: ssl.SSLContext
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wires: list[Wire] = []
        shaking = Thread(target=lambda: wires.append(Wire(theirs, calling)))
        shaking.start()
        with listening.wrap_socket(ours, server_side=True) as secured:
            shaking.join(PATIENCE_SECONDS)
            [wire] = wires
            line = Line(secured, PduReader(secured, Limits()), Limits())
            line.established("THERE", {}, 0)
            # An empty PDU is read by its head alone: nothing of the next comes with its end.
            wire.send(wire.record(pdu(P_DATA, b"") + echo(1)))
            assert [*line.fragments()] == []
            assert line.has_news()
            assert line.read().command.message_id == 1
            assert not line.has_news()
            wire.send(wire.record(echo(2) + echo(3)))
            assert line.read().command.message_id == 2
            assert line.has_news()
            assert line.read().command.message_id == 3
