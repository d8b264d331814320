"""Nodes at the doors of a process: who is not listed, or may not do what it asks, is told no."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import urllib3

from hl7.client import MllpClient
from hl7.mllp import MllpLimits, MllpServer
from node.wiring.nodes import RECORD_SECONDS, NodeGuard, Refusals
from security.nodes import KnownNode, Nodes, Permit
from security.pki import Identity, create_authority, issue
from security.tls import NodeContext, client_context, server_context
from soap.asgi import Receive, Scope, Send, respond
from soap.server import running_server

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
        limits=MllpLimits(handshake=0.5),
        by_node=guard.mllp(accept),
        refused=guard.refused,
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


def test_many_addresses_share_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.wiring.nodes.MOST_ADDRESSES", 3)
    told = Told()
    refusals = Refusals(told, lambda: 0.0)  # type: ignore[arg-type]
    for number in range(50):
        refusals(f"10.0.0.{number}", "no certificate")
    assert len(told.said) == 4
