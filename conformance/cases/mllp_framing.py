"""Patient Identity Feed: how messages travel over MLLP (P08)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from functools import partial

from conformance.bench import Bench, read_ack
from conformance.case import Actor, Cases
from conformance.evidence import now
from conformance.expectation import Acknowledged, Same
from conformance.seen import Ack, Compared, Seen
from hl7.mllp import END, START, BlockTooLong, Framer, frame

CASES = Cases(Actor.PATIENT_FEED, "mllp")

PAUSE = 0.05
"""Seconds between pieces, so that they travel as packets of their own."""

MAX_ANSWER = 1024 * 1024


def connect(bench: Bench) -> socket.socket:
    """A connection to the feed, through TLS where that is asked for."""
    host, port = bench.targets.mllp_address()
    connection = socket.create_connection((host, port), bench.targets.timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if bench.targets.mllp_tls and bench.targets.ssl_context:
        return bench.targets.ssl_context.wrap_socket(connection, server_hostname=host)
    return connection


def exchange(bench: Bench, pieces: Sequence[bytes], answers: int) -> list[Ack]:
    """Send bytes in pieces over one connection, wait for so many answers."""
    started, clock = now(), time.monotonic()
    received: list[bytes] = []
    problem = ""
    try:
        with connect(bench) as connection:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(PAUSE)
            received = _receive(connection, answers)
    except (OSError, BlockTooLong) as error:
        problem = f"{type(error).__name__}: {error}"
    bench.note_mllp(
        started_at=started,
        clock=clock,
        sent=b"".join(pieces),
        got=b"".join(received),
        problem=problem,
    )
    missing = [Ack(None, problem or "closed without an answer")] * (answers - len(received))
    return [read_ack(answer) for answer in received] + missing


def _receive(connection: socket.socket, answers: int) -> list[bytes]:
    framer, received = Framer(MAX_ANSWER), list[bytes]()
    while len(received) < answers:
        data = connection.recv(65536)
        if not data:
            break
        received += framer.receive(data)
    return received


def _accepted(how: str, bench: Bench) -> Iterator[Seen]:
    message = bench.adt("A04", bench.session.identifier())
    block = frame(message)
    pieces = {
        "split": [block[:1], block[1:7], block[7:60], block[60:-1], block[-1:]],
        "lf": [frame(message.replace(b"\r", b"\n"))],
        "crlf": [frame(message.replace(b"\r", b"\r\n"))],
        "garbage": [b"\r\n\x00 noise \x1c\x0d", block],
    }[how]
    yield from exchange(bench, pieces, 1)


for _how, _en, _fr in (
    ("split", "A frame in five packets", "Une trame en cinq paquets"),
    ("lf", "Segments that end in LF", "Des segments terminés par LF"),
    ("crlf", "Segments that end in CR LF", "Des segments terminés par CR LF"),
    ("garbage", "Garbage before the frame", "Des octets parasites avant la trame"),
):
    CASES.add(
        f"P08-{_how}",
        _en,
        _fr,
        spec="ITI TF-2 C.2.1",
        expected=[Acknowledged("AA")],
        stimulus=partial(_accepted, _how),
    )


@CASES.case(
    "P08-two",
    "Two messages in one packet: two answers, in order",
    "Deux messages dans un paquet : deux réponses, dans l'ordre",
    spec="ITI TF-2 C.2.1",
    expected=[Acknowledged("AA"), Acknowledged("AA"), Same("control ids in order")],
)
def _two_messages(bench: Bench) -> Iterator[Seen]:
    ids = [bench.session.identifier() for _ in range(2)]
    blocks = [
        frame(bench.adt("A04", bench.session.identifier(), MSH_10=control_id)) for control_id in ids
    ]
    acks = exchange(bench, [b"".join(blocks)], 2)
    yield from acks
    yield Compared("MSA-2", ids, [ack.message["MSA-2"] for ack in acks if ack.message])


@CASES.case(
    "P08-close",
    "A connection closed in the middle of a frame: the next one is served",
    "Une connexion fermée au milieu d'une trame : la suivante est servie",
    spec="ITI TF-2 C.2.1",
    expected=[Acknowledged("AA")],
)
def _closed_midway(bench: Bench) -> Iterator[Seen]:
    message = bench.adt("A04", bench.session.identifier())
    exchange(bench, [START + message[:40]], 0)
    yield from exchange(bench, [START + message + END], 1)
