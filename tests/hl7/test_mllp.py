"""MLLP: framing in any pieces, and a server and client over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from hl7.client import MllpClient, MllpClosed, MllpTimeout, MllpUnreachable
from hl7.mllp import END, START, BlockTooLong, Framer, MllpLimits, MllpServer, frame

RunServer = Callable[..., AbstractContextManager[Any]]

# A message holds neither VT nor the end of a block; FS alone may stand in it.
MESSAGE = st.binary(max_size=60).map(lambda data: data.replace(START, b"").replace(END, b""))
GARBAGE = st.binary(max_size=20).map(lambda data: data.replace(START, b""))


def echo(message: bytes, peer: str) -> bytes:
    return b"echo " + message


def pieces(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    yield from (stream[a:b] for a, b in pairwise(edges))


@given(st.lists(st.tuples(GARBAGE, MESSAGE), max_size=5), st.lists(st.integers(0, 10_000)))
def test_every_message_is_found_in_whatever_pieces(
    blocks: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    # A message's last byte FS would merge with the block's own end.
    blocks = [(garbage, message.rstrip(b"\x1c")) for garbage, message in blocks]
    stream = b"".join(garbage + frame(message) for garbage, message in blocks)
    framer = Framer(1000)
    found = [message for piece in pieces(stream, cuts) for message in framer.receive(piece)]
    assert found == [message for _, message in blocks]
    assert not framer.in_block


def test_a_block_that_begins_anew_replaces_the_broken_one() -> None:
    framer = Framer(1000)
    assert framer.receive(START + b"brok") == []
    assert framer.receive(b"en" + START + b"whole" + END) == [b"whole"]


@pytest.mark.parametrize("end", [b"\x1c", b"\x1c\n", b"\x1cx", b"\r\x1c"])
def test_half_an_end_is_no_end(end: bytes) -> None:
    framer = Framer(1000)
    assert framer.receive(START + b"one" + end) == []
    assert framer.receive(b"x" + END) == [b"one" + end + b"x"]


def test_a_gigabyte_without_end_is_never_held() -> None:
    framer, piece = Framer(1_000_000), bytes(65_536)
    framer.receive(START)
    taken = 0
    with contextlib.suppress(BlockTooLong):
        while taken < 1_000_000_000:
            framer.receive(piece)
            taken += len(piece)
    assert taken < 1_000_000


def test_bytes_outside_a_block_are_not_kept() -> None:
    framer = Framer(10)
    assert framer.receive(b"x" * 100) == []
    assert not framer.in_block
    assert framer.receive(frame(b"0123456789")) == [b"0123456789"]


@pytest.mark.parametrize("tail", [b"", END])
def test_a_block_may_not_grow_beyond_the_limit(tail: bytes) -> None:
    framer = Framer(10)
    with pytest.raises(BlockTooLong):
        framer.receive(START + b"01234567890" + tail)


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.settimeout(5)
    return connection


def receive_all(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def test_a_message_is_answered(run_server: RunServer) -> None:
    with run_server(echo) as server, MllpClient("127.0.0.1", server.port) as client:
        assert client.send(b"one") == b"echo one"
        assert client.send(b"two") == b"echo two"
        assert server.server.connections == 1


def test_several_messages_in_one_packet_are_answered_in_order(run_server: RunServer) -> None:
    with run_server(echo) as server, connect(server.port) as connection:
        connection.sendall(b"noise" + b"".join(frame(b"%d" % n) for n in range(20)))
        connection.shutdown(socket.SHUT_WR)
        expected = b"".join(frame(b"echo %d" % n) for n in range(20))
        assert receive_all(connection) == expected


def test_the_handler_learns_the_peer(run_server: RunServer) -> None:
    def handler(message: bytes, peer: str) -> bytes:
        return peer.encode()

    with run_server(handler) as server, MllpClient("127.0.0.1", server.port) as client:
        assert client.send(b"who am I") == b"127.0.0.1"


def test_a_failing_handler_gives_no_answer_and_the_server_lives_on(
    run_server: RunServer, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(message: bytes, peer: str) -> bytes:
        if message == b"bad":
            raise OSError("PID|4711")
        return b"fine"

    with run_server(handler) as server, MllpClient("127.0.0.1", server.port) as client:
        with caplog.at_level(logging.DEBUG), pytest.raises(MllpClosed):
            client.send(b"bad")
        assert client.send(b"good") == b"fine"
    assert "MLLP-HANDLER" in caplog.text
    assert "4711" not in caplog.text


def test_a_half_sent_block_is_closed_in_time(run_server: RunServer) -> None:
    limits = MllpLimits(block=0.2, idle=60)
    with run_server(echo, limits) as server, connect(server.port) as connection:
        connection.sendall(frame(b"whole") + START + b"half")
        began = time.monotonic()
        assert receive_all(connection) == frame(b"echo whole")
        assert time.monotonic() - began < 4


def test_dripping_bytes_do_not_hold_a_connection(run_server: RunServer) -> None:
    with run_server(echo, MllpLimits(block=0.3)) as server, connect(server.port) as connection:
        connection.settimeout(0.05)
        began = time.monotonic()
        closed = False
        while not closed and time.monotonic() - began < 4:
            with contextlib.suppress(TimeoutError):
                try:
                    connection.sendall(START)
                    closed = not connection.recv(1)
                except ConnectionError:
                    closed = True
        assert closed


def test_a_silent_connection_is_closed_in_time(run_server: RunServer) -> None:
    with run_server(echo, MllpLimits(block=0.1)) as server, connect(server.port) as connection:
        assert receive_all(connection) == b""


def test_an_idle_connection_is_closed_after_its_own_longer_time(run_server: RunServer) -> None:
    limits = MllpLimits(block=30, idle=0.1)
    with run_server(echo, limits) as server, connect(server.port) as connection:
        connection.sendall(frame(b"x"))
        assert receive_all(connection) == frame(b"echo x")


def test_a_giant_block_is_cut_off(run_server: RunServer) -> None:
    limits = MllpLimits(max_block=1000)
    with run_server(echo, limits) as server, connect(server.port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(START + b"x" * 5000)
        assert receive_all(connection) == b""


def test_more_connections_than_allowed_are_turned_away(run_server: RunServer) -> None:
    limits = MllpLimits(connections=1)
    with run_server(echo, limits) as server, MllpClient("127.0.0.1", server.port) as first:
        first.send(b"x")
        with connect(server.port) as second:
            assert receive_all(second) == b""
        assert first.send(b"y") == b"echo y"


def test_stopping_lets_the_message_in_hand_be_answered(run_server: RunServer) -> None:
    begun, release = threading.Event(), threading.Event()

    def handler(message: bytes, peer: str) -> bytes:
        begun.set()
        release.wait(5)
        return b"done"

    with run_server(handler) as server:
        idle = connect(server.port)
        client = MllpClient("127.0.0.1", server.port)
        answers: list[bytes] = []
        sender = threading.Thread(target=lambda: answers.append(client.send(b"x")))
        sender.start()
        assert begun.wait(5)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert receive_all(idle) == b""  # closed at once, while the other is still served
        release.set()
        sender.join(5)
        stopper.join(5)
        assert answers == [b"done"]
        client.close()
        idle.close()


def test_the_client_reconnects_when_the_receiver_had_closed(run_server: RunServer) -> None:
    limits = MllpLimits(idle=0.01)
    with run_server(echo, limits) as server, MllpClient("127.0.0.1", server.port) as client:
        client.send(b"one")
        assert client._socket is not None
        select.select([client._socket], [], [], 5)  # readable: the server has closed
        assert client.send(b"two") == b"echo two"


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = MllpClient("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(MllpUnreachable):
            client.send(b"x")


def test_a_receiver_that_never_answers_is_a_timeout(run_server: RunServer) -> None:
    release = threading.Event()

    def handler(message: bytes, peer: str) -> bytes:
        release.wait(5)
        return b""

    with run_server(handler) as server:
        client = MllpClient("127.0.0.1", server.port, timeout=0.1)
        with client, pytest.raises(MllpTimeout):
            client.send(b"x")
        release.set()


def test_the_server_needs_a_free_port() -> None:
    async def start_twice() -> None:
        first = MllpServer(echo)
        await first.start()
        second = MllpServer(echo, port=first.port)
        try:
            with pytest.raises(OSError, match=r"(?i)address already in use"):
                await second.start()
        finally:
            await first.stop()
            await second.stop()

    asyncio.run(start_twice())


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "identity.pem"
    private = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def contexts(identity: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server and client, each asking for the other's certificate."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(identity))
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(identity))
    for context in (server, client):
        context.load_cert_chain(identity)
    return server, client


def test_messages_travel_over_mutual_tls(run_server: RunServer, identity: Path) -> None:
    ours, theirs = contexts(identity)
    with run_server(echo, ssl_context=ours) as server:
        client = MllpClient("127.0.0.1", server.port, ssl_context=theirs)
        with client:
            assert client.send(b"secret") == b"echo secret"


def test_a_peer_without_a_certificate_gets_no_answer(run_server: RunServer, identity: Path) -> None:
    ours, _ = contexts(identity)
    anonymous = ssl.create_default_context(cafile=str(identity))
    with run_server(echo, ssl_context=ours) as server:
        client = MllpClient("127.0.0.1", server.port, ssl_context=anonymous)
        with client, pytest.raises((MllpClosed, MllpUnreachable)):
            client.send(b"secret")


def test_a_server_that_cannot_be_trusted_is_sent_nothing(
    run_server: RunServer, identity: Path
) -> None:
    received: list[bytes] = []

    def handler(message: bytes, peer: str) -> bytes:
        received.append(message)
        return b""

    ours, _ = contexts(identity)
    with run_server(handler, ssl_context=ours) as server:
        strict = ssl.create_default_context()
        client = MllpClient("127.0.0.1", server.port, ssl_context=strict)
        with client, pytest.raises(MllpUnreachable):
            client.send(b"secret")
    assert received == []


def test_a_peer_that_vanishes_leaves_the_server_alive(
    run_server: RunServer, caplog: pytest.LogCaptureFixture
) -> None:
    reset = struct.pack("ii", 1, 0)  # closing sends RST instead of FIN
    with caplog.at_level(logging.DEBUG, "hl7"), run_server(echo) as server:
        with connect(server.port) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            connection.sendall(frame(b"x") + START + b"half")
            assert connection.recv(100)
        with MllpClient("127.0.0.1", server.port) as client:
            assert client.send(b"next") == b"echo next"
    assert "MLLP-LOST" in caplog.text
    assert "half" not in caplog.text
