"""Nodes at the doors of a process: who is not listed, or may not do what it asks, is told no."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
import urllib3

from hl7.client import MllpClient, MllpClosed
from hl7.mllp import MllpLimits, MllpServer
from imaging_source.guard import PeerGone, ProtocolError
from imaging_source.requestor import Peer, Requested, Unreachable
from node.wiring.nodes import RECORD_SECONDS, NodeGuard, Refusals
from security.audit import syslog
from security.nodes import KnownNode, Nodes, Permit
from security.pki import Identity, create_authority, issue
from security.tls import NodeContext, client_context, server_context
from soap.asgi import Receive, Scope, Send, respond
from soap.server import running_server
from tests.security.audit.conftest import message
from tests.security.listeners import C_ECHO, IMPLICIT, VERIFICATION, Listeners, Terms
from transactions.audit import Node

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
C_STORE, NOT_AUTHORIZED, ABORT = 0x0001, 0x0124, 7

ADT = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A04^ADT_A01|77|P|2.3.1\rPID|||SECRET\r"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("pki")
    authority = create_authority(folder, "Test authority")
    names = ("node", "feeder", "viewer", "unlisted")
    return {
        "ca": authority,
        **{one: issue(folder, authority, one, ["localhost", "127.0.0.1"]) for one in names},
    }


def serving(pki: dict[str, Identity]) -> NodeContext:
    return server_context(pki["node"].certificate, pki["node"].key, pki["ca"].certificate)


def calling(pki: dict[str, Identity], who: str) -> NodeContext:
    return client_context(pki[who].certificate, pki[who].key, pki["ca"].certificate)


class Told:
    """What was recorded of refused nodes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def refused_node(self, reason: str, address: str, *, handshake: bool) -> None:
        self.said.append(f"{address} {reason} {handshake}")

    def not_understood(self, reason: str, peer: Node) -> None:
        self.said.append(f"{peer.user_id} at {peer.address}: {reason}")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def guard(told: Told) -> NodeGuard:
    def known(name: str, *transactions: str) -> KnownNode:
        subject = f"CN={name},O=Kosmos test PKI"
        return KnownNode(Permit(name, frozenset(transactions)), subject=subject)

    nodes = Nodes([known("feeder", "ITI-8"), known("viewer", "RAD-107")])
    return NodeGuard(nodes, Refusals(told))  # type: ignore[arg-type]


@contextmanager
def feeding(pki: dict[str, Identity], guard: NodeGuard) -> Iterator[int]:
    """An MLLP listener over TLS that accepts whatever it is given; its port."""

    def accept(_raw: bytes, _peer: str) -> bytes:
        return b"MSH|^~\\&\rMSA|AA|77\r"

    loop = asyncio.new_event_loop()
    server = MllpServer(
        accept,
        ssl_context=serving(pki),
        limits=MllpLimits(max_block=1000, handshake=0.5),
        by_node=guard.mllp(accept),
        refused=guard.refused,
        overlong=guard.overlong,
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield server.port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_by_mllp_a_node_that_may_not_feed_gets_ar(
    pki: dict[str, Identity], guard: NodeGuard, told: Told
) -> None:
    with feeding(pki, guard) as port:
        answers = {}
        for who in ("feeder", "viewer", "unlisted"):
            with MllpClient("127.0.0.1", port, ssl_context=calling(pki, who)) as client:
                answers[who] = client.send(ADT)
    assert b"MSA|AA|77" in answers["feeder"]
    assert b"MSA|AR|77" in answers["viewer"]
    assert b"viewer may not do ITI-8 here" in answers["viewer"]
    assert b"MSA|AR|77" in answers["unlisted"]
    assert b"this node is not listed here" in answers["unlisted"]
    assert b"SECRET" not in answers["unlisted"]
    assert told.said == ["127.0.0.1 viewer may not do ITI-8 here False"]


def test_who_sends_a_block_without_an_end_is_recorded(
    pki: dict[str, Identity], guard: NodeGuard, told: Told
) -> None:
    with (
        feeding(pki, guard) as port,
        MllpClient("127.0.0.1", port, ssl_context=calling(pki, "feeder")) as client,
        pytest.raises(MllpClosed),
    ):
        client.send(ADT + b"." * 1000)
    assert told.said == ["127.0.0.1 at 127.0.0.1: block longer than 1000 bytes"]


def test_by_http_a_node_that_may_not_look_gets_403(
    pki: dict[str, Identity], guard: NodeGuard
) -> None:
    async def pictures(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, 200, b"a picture")

    door = guard.http(pictures, lambda _scope: "RAD-107")
    with running_server(door, tls=serving(pki)) as url:
        answers = {who: _get(url, calling(pki, who)) for who in ("viewer", "feeder", "unlisted")}
    assert answers == {
        "viewer": (200, b"a picture"),
        "feeder": (403, b"feeder may not do RAD-107 here\n"),
        "unlisted": (403, b"this node is not listed here\n"),
    }


def _get(url: str, tls: ssl.SSLContext) -> tuple[int, bytes]:
    with urllib3.PoolManager(ssl_context=tls, assert_hostname=False) as pool:
        answer = pool.request("GET", url, retries=False)
        return answer.status, answer.data


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    with ExitStack() as stack:
        yield Listeners(stack, tmp_path_factory.mktemp("listeners"))


@pytest.fixture
def modalities(told: Told) -> NodeGuard:
    """A guard that knows "feeder" as a scanner and "viewer" as one who may try the line."""
    scanner = Permit("feeder", frozenset({"C-STORE", "C-ECHO"}), frozenset({"CT1", "CT2"}))
    trying = Permit("viewer", frozenset({"C-ECHO", "ITI-20"}))
    known = [
        KnownNode(one, subject=f"CN={one.name},O=Kosmos test PKI") for one in (scanner, trying)
    ]
    return NodeGuard(Nodes(known), Refusals(told, Days()))  # type: ignore[arg-type]


class Days:
    """A clock that is a day later at each look: every refusal is recorded."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 86_400
        return self._now


def ask_dicom(port: int, tls: ssl.SSLContext | None, title: str, *fields: int) -> list[int]:
    """The status of each request under a calling title; none where it is not let in."""
    contexts = [(VERIFICATION, IMPLICIT), (CT_IMAGE, IMPLICIT)]
    instance: list[tuple[int, str | int]] = [
        (0x0002, CT_IMAGE),
        (0x0110, 1),
        (0x0700, 0),
        (0x1000, "1.2.3"),
    ]
    try:
        peer = Peer("KOSMOS", "127.0.0.1", port, tls)
        with Requested(peer, title, contexts) as association:
            return [
                association.request(
                    3, one, instance, b"nothing that could be stored"
                ).command.status
                if one == C_STORE
                else association.request(
                    1, one, [(0x0002, VERIFICATION), (0x0110, 1)]
                ).command.status
                for one in fields
            ]
    except Unreachable:
        return []


def test_by_dicom_a_node_asks_what_it_may_under_its_own_titles(
    pki: dict[str, Identity], listeners: Listeners, modalities: NodeGuard, told: Told
) -> None:
    terms = Terms(permit=modalities.permit, turned_away=modalities.turned_away)
    port = listeners.open("dicom", serving(pki), terms).port
    feeder, viewer = calling(pki, "feeder"), calling(pki, "viewer")

    echoed, stored = ask_dicom(port, feeder, "CT2", C_ECHO, C_STORE)
    assert echoed == 0
    assert stored not in (0, NOT_AUTHORIZED)  # it was looked at, and is no instance
    assert told.said == []
    assert ask_dicom(port, feeder, "PACS", C_ECHO) == []
    assert told.said == ["127.0.0.1 feeder is not known by this AE title False"]
    assert ask_dicom(port, viewer, "ANY", C_STORE, C_ECHO, C_STORE) == [
        *(NOT_AUTHORIZED, 0, NOT_AUTHORIZED)
    ]
    assert told.said[1:] == ["127.0.0.1 viewer may not do C-STORE here False"] * 2
    assert ask_dicom(port, calling(pki, "unlisted"), "CT1", C_ECHO) == []
    assert told.said[3:] == ["127.0.0.1 this node is not listed here False"]


def test_who_breaks_the_protocol_of_dicom_is_recorded_by_the_name_that_it_has(
    pki: dict[str, Identity], listeners: Listeners, modalities: NodeGuard, told: Told
) -> None:
    def hears_an_abort(connection: socket.socket, pdu: bytes) -> bool:
        with connection:
            connection.sendall(pdu)
            return connection.recv(1) == bytes([ABORT])

    unknown_type, too_long = struct.pack(">BxI", 9, 0), struct.pack(">BxI", 1, 2**32 - 1)
    terms = Terms(permit=modalities.permit, not_understood=modalities.not_understood)
    plain = listeners.open("dicom", None, terms)
    assert hears_an_abort(plain.connect(), unknown_type)
    assert hears_an_abort(plain.connect(), too_long)
    assert told.said == [
        "127.0.0.1 at 127.0.0.1: PDU type 9 does not exist",
        "127.0.0.1 at 127.0.0.1: PDU type 1 of 4294967295 bytes; at most 262144 are accepted",
    ]
    told.said.clear()
    tls = calling(pki, "feeder")
    secured = listeners.open("dicom", serving(pki), terms).connect()
    assert hears_an_abort(tls.wrap_socket(secured, server_hostname="localhost"), unknown_type)
    assert told.said == ["CN=feeder,O=Kosmos test PKI at 127.0.0.1: PDU type 9 does not exist"]
    told.said.clear()
    with plain.connect() as connection:
        connection.close()  # who says nothing has broken nothing
    kosmos = Peer("KOSMOS", "127.0.0.1", plain.port)
    with Requested(kosmos, "CT1", [(VERIFICATION, IMPLICIT)]) as association:
        association.line.send(unknown_type)
        with pytest.raises((PeerGone, ProtocolError)):
            association.line.read()
    assert [one.partition(":")[0] for one in told.said] == ["CT1 at 127.0.0.1"]


def test_by_dicom_without_tls_a_node_is_known_by_its_title_alone(
    listeners: Listeners, modalities: NodeGuard
) -> None:
    """Where ``imaging_source.dicom_tls`` is false: for machines that speak no TLS."""
    terms = Terms(permit=modalities.permit, turned_away=modalities.turned_away)
    port = listeners.open("dicom", None, terms).port
    assert ask_dicom(port, None, "CT1", C_ECHO) == [0]
    assert ask_dicom(port, None, "STRANGER", C_ECHO) == []


def test_by_syslog_only_nodes_that_may_bring_records_do(
    pki: dict[str, Identity], listeners: Listeners, modalities: NodeGuard, told: Told
) -> None:
    terms = Terms(admits=partial(modalities.admits, transaction="ITI-20"))
    door = listeners.open("syslog", serving(pki), terms)
    assert door.serves(calling(pki, "viewer"))
    assert told.said == []
    before = listeners.records()
    assert not door.serves(calling(pki, "feeder"))
    assert not door.serves(calling(pki, "unlisted"))
    assert told.said == [
        "127.0.0.1 feeder may not do ITI-20 here False",
        "127.0.0.1 this node is not listed here False",
    ]
    assert listeners.records() == before


def test_by_udp_nobody_shows_who_he_is_and_nothing_is_taken(
    pki: dict[str, Identity], listeners: Listeners, modalities: NodeGuard, told: Told
) -> None:
    """What is sent behind it by TLS arrives: it was passed over, not late."""
    terms = Terms(admits=partial(modalities.admits, transaction="ITI-20"))
    door = listeners.open("syslog", serving(pki), terms)
    before = listeners.records()
    sent = syslog.Sender("there", "test", "1").write(message(1), "2026-03-02T08:00:00Z", False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anybody:
        anybody.sendto(sent, ("127.0.0.1", door.port))
    assert door.serves(calling(pki, "viewer"))
    assert listeners.records() == before + 1
    assert told.said == ["127.0.0.1 this node is not listed here False"]


def test_a_scanner_leaves_one_record_a_minute_with_a_count() -> None:
    told, now = Told(), [0.0]
    refusals = Refusals(told, lambda: now[0])  # type: ignore[arg-type]
    for _ in range(100):
        refusals("10.0.0.1", "no certificate")
    refusals("10.0.0.2", "no certificate")
    now[0] = RECORD_SECONDS + 1
    refusals("10.0.0.1", "no certificate")
    assert told.said == [
        "10.0.0.1 no certificate True",
        "10.0.0.2 no certificate True",
        "10.0.0.1 no certificate; 99 more in the last minutes True",
    ]


def test_noise_leaves_one_record_a_minute_and_hides_no_refusal() -> None:
    told, now = Told(), [0.0]
    refusals = Refusals(told, lambda: now[0])  # type: ignore[arg-type]
    for _ in range(100):
        refusals.not_understood(Node("CT1", "10.0.0.1"), "PDU type 9 does not exist")
    refusals("10.0.0.1", "no certificate")
    now[0] = RECORD_SECONDS + 1
    refusals.not_understood(Node("CT1", "10.0.0.1"), "PDU type 9 does not exist")
    assert told.said == [
        "CT1 at 10.0.0.1: PDU type 9 does not exist",
        "10.0.0.1 no certificate True",
        "CT1 at 10.0.0.1: PDU type 9 does not exist; 99 more in the last minutes",
    ]


def test_many_addresses_share_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.wiring.nodes.MOST_ADDRESSES", 3)
    told = Told()
    refusals = Refusals(told, lambda: 0.0)  # type: ignore[arg-type]
    for number in range(50):
        refusals(f"10.0.0.{number}", "no certificate")
    assert len(told.said) == 4
