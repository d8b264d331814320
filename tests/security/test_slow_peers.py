"""Peers that are silent, or let drop byte after byte, at all four listeners, with and without TLS:
each is closed when its time is over, and honest ones are served meanwhile.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

import soap.tls_listener
from security.pki import Identity
from tests.security.listeners import PROTOCOLS, Door, Listeners, Terms, secured
from tests.security.test_tls import client_of, server_of

# Short enough to wait for, long enough for an honest handshake on a machine at its limits.
DEADLINE = 0.4
# How much later than that a peer may be closed: what a machine at its limits takes.
SLACK = 3.0
DROP_SECONDS = 0.02
IDLE, MOST = 200, 50

Reached = tuple[Door, ssl.SSLContext | None]


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    with ExitStack() as stack:
        yield Listeners(stack, tmp_path_factory.mktemp("listeners"))


@pytest.fixture(scope="module", params=["plain", "tls"])
def tls(
    request: pytest.FixtureRequest, pki: dict[str, Identity]
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Contexts of a listener and of who calls it."""
    return (None, None) if request.param == "plain" else (server_of(pki), client_of(pki))


@pytest.fixture(scope="module", params=PROTOCOLS)
def hasty(
    request: pytest.FixtureRequest,
    listeners: Listeners,
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
) -> Reached:
    """A listener that waits for DEADLINE, and the context of who calls it."""
    listening, calling = tls
    return listeners.open(request.param, listening, Terms(DEADLINE)), calling


@pytest.fixture(scope="module", params=PROTOCOLS)
def hasty_tls(
    request: pytest.FixtureRequest, listeners: Listeners, pki: dict[str, Identity]
) -> tuple[Door, ssl.SSLContext]:
    """The same, with TLS."""
    return listeners.open(request.param, server_of(pki), Terms(DEADLINE)), client_of(pki)


def is_closed(connection: socket.socket, since: float, drops: Sequence[bytes] = ()) -> bool:
    """Whether the peer closes a connection in time; meanwhile ``drops`` fall into it."""
    falling = iter(drops)
    connection.settimeout(DROP_SECONDS)
    while time.monotonic() - since < DEADLINE + SLACK:
        try:
            connection.sendall(next(falling, b""))
            if not connection.recv(4096):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def beneath(connection: socket.socket) -> socket.socket:
    """The TCP connection under one that speaks TLS: it answers no farewell."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def test_a_silent_peer_is_closed_and_an_honest_one_served_meanwhile(hasty: Reached) -> None:
    """With TLS it does not even begin the handshake."""
    door, calling = hasty
    with door.connect() as connection:
        since = time.monotonic()
        assert door.serves(calling)
        assert is_closed(connection, since)


def test_a_peer_that_is_silent_after_its_handshake_is_closed(
    hasty_tls: tuple[Door, ssl.SSLContext],
) -> None:
    door, calling = hasty_tls
    since = time.monotonic()
    with secured(door.connect(), calling) as connection, beneath(connection) as plain:
        assert is_closed(plain, since)


def test_a_message_that_drips_is_cut_and_an_honest_peer_served_meanwhile(hasty: Reached) -> None:
    door, calling = hasty
    for beginning in door.beginnings:
        with secured(door.connect(), calling) as connection:
            since = time.monotonic()
            connection.sendall(beginning)
            assert door.serves(calling)
            assert is_closed(connection, since, [b"x"] * 4000)


def test_a_handshake_that_drips_is_cut_and_an_honest_peer_served_meanwhile(
    hasty_tls: tuple[Door, ssl.SSLContext],
) -> None:
    door, calling = hasty_tls
    with door.connect() as connection:
        since = time.monotonic()
        assert door.serves(calling)
        assert is_closed(connection, since, drops_of(hello(calling)))


def hello(calling: ssl.SSLContext) -> bytes:
    """What a client's handshake begins with."""
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        calling.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


def drops_of(data: bytes) -> list[bytes]:
    """``data`` byte by byte; in time its last ones are never reached."""
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_idle_connections_are_bounded_and_do_not_keep_an_honest_peer_out(
    protocol: str,
    listeners: Listeners,
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soap.tls_listener, "_MOST_GREETINGS", MOST)
    listening, calling = tls
    door = listeners.open(protocol, listening, Terms(connections=MOST))
    with ExitStack() as stack:
        idle = [stack.enter_context(door.connect()) for _ in range(IDLE)]
        assert door.serves(calling)
        assert await_closed(idle, IDLE - MOST)


def await_closed(connections: Sequence[socket.socket], count: int) -> bool:
    """Whether so many are closed soon; they were sent nothing else."""
    watched = select.poll()
    for one in connections:
        watched.register(one, select.POLLIN)
    ends = time.monotonic() + SLACK
    while time.monotonic() < ends:
        if len(watched.poll(DROP_SECONDS * 1000)) >= count:
            return True
    return False
