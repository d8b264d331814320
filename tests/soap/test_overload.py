"""More work than a node can bound is refused at once, and the rest goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.faults import PeerFault
from soap.limits import MIB
from soap.server import running_server


class Gate:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, text: str, _context: CallContext) -> str:
        self.entered.release()
        assert self.open.wait(10)
        return text


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def url(gate: Gate, say: Any, store: Any) -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        endpoint = Endpoint(
            [Operation(say, gate), Operation(store, lambda contents, _context: [])],
            pool=pool,
            title="t",
            service_name="T",
            max_in_flight=2,
            memory=MIB,
        )
        with running_server(endpoint) as base:
            yield base
            gate.open.set()


def test_where_every_connection_is_at_work_the_next_is_answered_503(
    gate: Gate, say: Any, client: SoapClient
) -> None:
    with (
        ThreadPoolExecutor(4) as pool,
        running_server(
            Endpoint([Operation(say, gate)], pool=pool, title="t", service_name="T"),
            connections=1,
        ) as base,
    ):
        first = pool.submit(client.call, base, say, "first")
        assert gate.entered.acquire(timeout=10)
        assert urllib3.request("GET", base, retries=False).status == 503
        gate.open.set()
        assert first.result() == "first"


def test_calls_beyond_the_limit_are_refused_and_the_others_answered(
    url: str, gate: Gate, say: Any, client: SoapClient
) -> None:
    with ThreadPoolExecutor(2) as callers:
        waiting = [callers.submit(client.call, url, say, str(number)) for number in range(2)]
        for _ in waiting:
            assert gate.entered.acquire(timeout=10)
        with pytest.raises(PeerFault) as caught:
            client.call(url, say, "one too many")
        assert (caught.value.code, caught.value.status) == ("Receiver", 503)
        gate.open.set()
        assert [call.result(timeout=10) for call in waiting] == ["0", "1"]
    assert client.call(url, say, "again") == "again"


def test_bodies_beyond_the_memory_are_refused_and_the_memory_comes_back(
    url: str, gate: Gate, say: Any, client: SoapClient
) -> None:
    gate.open.set()
    for _ in range(3):
        with pytest.raises(PeerFault) as caught:
            client.call(url, say, "x" * (2 * MIB))
        assert caught.value.status == 503
    assert len(client.call(url, say, "x" * (MIB // 2))) == MIB // 2


def test_half_sent_requests_do_not_keep_others_out(
    url: str, gate: Gate, say: Any, client: SoapClient
) -> None:
    import socket

    gate.open.set()
    address = urlsplit(url)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\n"
    silent = [socket.create_connection((address.hostname, address.port or 0)) for _ in range(50)]
    try:
        for sock in silent:
            sock.sendall(head + b"Content-Length: 100\r\n\r\n<")
        assert client.call(url, say, "through") == "through"
    finally:
        for sock in silent:
            sock.close()
