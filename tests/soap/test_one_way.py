"""Exchanges without an answer, faults with a detail, and where a message was sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from lxml import etree

from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.envelope import read_envelope, read_fault, write_fault
from soap.faults import (
    SENDER,
    PeerFault,
    PeerProtocolError,
    PeerTimeout,
    PeerUnreachable,
    SoapFault,
)
from soap.message import Incoming, Outgoing
from soap.operation import ACCEPTED, Witness
from soap.server import Router, running_server

Enveloped = Callable[..., str]


@dataclass(frozen=True)
class Tell:
    """A one-way exchange of a text."""

    number: str = "T-3"
    name: str = "Tell"
    action: str = "urn:test:Tell"
    response_action: str = ""
    root: str = "{urn:test}Tell"
    mtom: bool = False

    def read_request(self, incoming: Incoming) -> list[str]:
        return [incoming.body.text or "", *incoming.sent_to]

    def write_request(self, texts: list[str]) -> Outgoing:
        return Outgoing([f'<t:Tell xmlns:t="urn:test">{texts[0]}</t:Tell>'.encode()])

    def read_response(self, _incoming: Incoming) -> None:
        return None

    def write_response(self, _response: None) -> Outgoing:
        raise AssertionError("a one-way exchange has no answer")

    def refuse(self, reason: str) -> NoReturn:
        raise SoapFault(SENDER, reason)


@contextmanager
def listening(
    handler: Callable[[list[str], CallContext], None], witness: Witness | None = None
) -> Iterator[str]:
    operations = [Operation(Tell(), handler)]
    with ThreadPoolExecutor(2) as pool:
        endpoint = Endpoint(operations, pool=pool, title="t", service_name="T", witness=witness)
        with running_server(Router({"/tell": endpoint})) as base:
            yield f"{base}/tell"


def test_a_one_way_message_is_accepted_with_202_and_no_body(
    client: SoapClient, service: Any, envelope: Enveloped
) -> None:
    told: list[list[str]] = []
    with listening(lambda texts, _context: told.append(texts)) as url:
        client.send(f"{url}?id=7", Tell(), ["hello"])
        body = envelope('<t:Tell xmlns:t="urn:test">raw</t:Tell>', action="urn:test:Tell").encode()
        service.url, kept = url, service.url
        try:
            answer = service.post(body)
        finally:
            service.url = kept
    assert (answer.status, answer.body) == (202, b"")
    assert "content-type" not in answer.headers
    assert [texts[0] for texts in told] == ["hello", "raw"]
    assert told[0][1:] == [f"{url}?id=7", "/tell?id=7"]


class Notary:
    """Notes what it is told of the answer."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def begins(self, *_: object) -> None:
        """Nothing is kept."""

    def saw(
        self, _exchange: object, _request: object, response: object, *_: object
    ) -> Future[None]:
        self.told.append(response)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def unread(self, *_: object) -> Future[None]:
        raise AssertionError("all was read")

    def broke_off(self, *_: object) -> None:
        """Nothing is sent."""


def test_a_witness_is_told_whether_it_was_accepted(client: SoapClient) -> None:
    def take(texts: list[str], _context: CallContext) -> None:
        if texts[0] == "bad":
            raise SoapFault(SENDER, "no")

    with listening(take, notary := Notary()) as url:
        client.send(url, Tell(), ["good"])
        with pytest.raises(PeerFault):
            client.send(url, Tell(), ["bad"])
    assert notary.told == [ACCEPTED, None]


def test_what_the_receiver_cannot_take_is_a_fault_with_its_detail(client: SoapClient) -> None:
    detail = b'<d:Why xmlns:d="urn:d">because</d:Why>'

    def refuse(_texts: list[str], _context: CallContext) -> None:
        raise SoapFault(SENDER, "no", subcode="{urn:d}Why", detail=detail, action="urn:d:fault")

    with listening(refuse) as url, pytest.raises(PeerFault) as raised:
        client.send(url, Tell(), ["hello"])
    fault = raised.value
    assert (fault.code, fault.subcode, fault.status) == ("Sender", "{urn:d}Why", 400)
    why = etree.fromstring(fault.detail)
    assert (why.tag, why.text) == ("{urn:d}Why", "because")


def test_the_action_of_a_fault_is_that_of_its_standard() -> None:
    fault = SoapFault(SENDER, "no", action="urn:d:fault")
    written = read_envelope(etree.fromstring(b"".join(write_fault(fault, relates_to=None))))
    assert written.action == "urn:d:fault"
    found = read_fault(written.body)
    assert found is not None
    assert found.detail == b""


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A peer that answers the same bytes to every connection, then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_any_status_of_success_accepts(answer: bytes, client: SoapClient) -> None:
    with answering(answer) as url:
        client.send(url, Tell(), ["hello"])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 1\r\n\r\nx",
        b"",
    ],
)
def test_any_other_answer_does_not(answer: bytes, client: SoapClient) -> None:
    with answering(answer) as url, pytest.raises(PeerProtocolError):
        client.send(url, Tell(), ["hello"])


def test_silence_and_absence_are_told_apart() -> None:
    client = SoapClient(timeout=0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(PeerTimeout):
            client.send(url, Tell(), ["hello"])
    with pytest.raises(PeerUnreachable):
        client.send(url, Tell(), ["hello"])
    client.close()
