"""Peers that never finish: five hundred connections at one door, each drips a byte a second."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from imaging_source.requestor import Peer, Requested
from security.tls import client_context
from tests.security.listeners import C_ECHO, IMPLICIT, VERIFICATION
from tests.soak.conftest import at_most
from tests.system.conftest import Nodes, RunningNode
from tests.system.test_hostile_input import HEADER, acknowledged, dicom, mllp, post, query, web
from tests.system.test_secure_node import SecureNodes

CONNECTIONS = 500
DROP_SECONDS = 1.0
# The longest that a node waits for anybody who has begun to speak ...
DEADLINE = 15.0
# ... and how much later than that the last of five hundred may be closed on a busy machine.
SLACK_SECONDS = 2.0
# How long honest peers are watched before, and after, and by how much others may slow them down.
QUIET_SECONDS = 5.0
MOST_TIMES = 2.0
# What is so short that twice as long says nothing, in seconds.
LEAST = 0.010


@dataclass(frozen=True)
class Door:
    """Where a node listens, what a message there begins with, and one honest exchange."""

    address: tuple[str, int]
    beginning: bytes
    ask: Callable[[], None]


class Slowloris(threading.Thread):
    """Holds connections that say one byte after the other; ``borne``: for how long, in seconds."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self.borne: list[float] = []
        self._door = door
        self._began: dict[int, float] = {}
        self._open: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def run(self) -> None:
        for _ in range(CONNECTIONS):
            self._begin()
        while self._open:
            drop_at = time.monotonic() + DROP_SECONDS
            while self._open and (left := drop_at - time.monotonic()) > 0:
                for number, _ in self._poll.poll(left * 1000):
                    self._listen(number)
            for connection in [*self._open.values()]:
                with suppress(OSError):  # told by the poll
                    connection.send(b"x")

    def _begin(self) -> None:
        connection = socket.create_connection(self._door.address)
        number = connection.fileno()
        self._open[number], self._began[number] = connection, time.monotonic()
        self._poll.register(number, select.POLLIN)
        connection.sendall(self._door.beginning)

    def _listen(self, number: int) -> None:
        with suppress(OSError):
            if self._open[number].recv(65536):
                return  # a last word
        self.borne.append(time.monotonic() - self._began[number])
        self._poll.unregister(number)
        self._open.pop(number).close()


def over_http(node: RunningNode) -> None:
    assert post(node, query()).status == 200


def over_mllp(node: RunningNode) -> None:
    assert b"\rMSA|AR" in acknowledged(node, b"\x0b", HEADER % b"ADT^A99", b"\x1c\r")


def over_dicom(node: RunningNode) -> None:
    peer = Peer("KOSMOS", *dicom(node), None)
    with Requested(peer, "THERE", [(VERIFICATION, IMPLICIT)]) as association:
        asked = association.request(1, C_ECHO, [(0x0002, VERIFICATION), (0x0110, 1)])
        assert asked.command.status == 0


def over_tls(node: RunningNode, context: ssl.SSLContext) -> None:
    with closing(http.client.HTTPSConnection(*web(node), context=context, timeout=20)) as to:
        to.request("GET", "/")
        assert to.getresponse().status == 200


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    nodes = Nodes(tmp_path_factory.mktemp("plain"))
    yield nodes.start()
    nodes.close()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    nodes = SecureNodes(tmp_path_factory.mktemp("secure"))
    yield nodes.start()
    nodes.close()


@pytest.fixture(params=["head", "body", "message", "association", "handshake"])
def door(request: pytest.FixtureRequest) -> Door:
    """One door for each thing that may be left unfinished."""
    kind = request.param
    node = request.getfixturevalue("secure" if kind == "handshake" else "plain")
    head = b"POST /registry HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\n"
    if kind == "handshake":
        pki: Path = node.config.parent / "pki"
        ours = client_context(pki / "node.pem", pki / "node.key", pki / "ca.pem")
        return Door(web(node), b"\x16\x03\x01\x02\x00\x01", lambda: over_tls(node, ours))
    if kind == "message":
        return Door(mllp(node), b"\x0b" + HEADER % b"ADT^A04", lambda: over_mllp(node))
    if kind == "association":
        return Door(dicom(node), struct.pack(">BBI", 1, 0, 5000), lambda: over_dicom(node))
    begun = head if kind == "head" else head + b"Content-Length: 100000\r\n\r\n<"
    return Door(web(node), begun, lambda: over_http(node))


def asked(door: Door, goes_on: Callable[[], bool]) -> list[float]:
    """Seconds of each honest exchange, one after the other, each over a connection of its own."""
    seconds = []
    while goes_on():
        started = time.monotonic()
        door.ask()
        seconds.append(time.monotonic() - started)
    return seconds


def p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def until(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() < moment


def test_five_hundred_peers_that_never_finish_are_closed_and_slow_nobody_down(
    door: Door, tell: Callable[[str], None]
) -> None:
    """Whatever they leave unfinished, each is closed 15 s after it began at the latest.

    Meanwhile honest peers, who come from the same address, are all served; 99 in a hundred in less
    than twice the time that they wait when nobody attacks. It takes half a minute for each door.
    """
    asked(door, until(time.monotonic() + 1))
    quiet = asked(door, until(time.monotonic() + at_most(QUIET_SECONDS)))
    attack = Slowloris(door)
    attack.start()
    attacked = asked(door, attack.is_alive)
    attack.join()
    quiet += asked(door, until(time.monotonic() + at_most(QUIET_SECONDS)))
    tell(
        f"closed after {max(attack.borne):.1f} s at the latest; p99 of {len(attacked)} exchanges"
        f" {p99(attacked) * 1000:.1f} ms, of {len(quiet)} without attack {p99(quiet) * 1000:.1f} ms"
    )
    assert len(attack.borne) == CONNECTIONS
    assert max(attack.borne) < DEADLINE + SLACK_SECONDS
    assert p99(attacked) < MOST_TIMES * max(p99(quiet), LEAST)
