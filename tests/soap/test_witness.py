"""A witness sees every call, and no answer leaves before its record is durable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Exchange, Operation
from soap.faults import SENDER, PeerError, SoapFault
from soap.limits import SMALL
from soap.message import Content, InMemory, Outgoing
from soap.server import Router, running_server
from tests.soap.conftest import Answer, Say, Service, Spools, Store

BREAK = b"break off, please"


class Breaking:
    """An attachment whose bytes end too early."""

    size = 10_000_000

    def chunks(self) -> Iterator[bytes]:
        yield bytes(1_000_000)
        raise OSError("gone")


class Unreadable(Say):
    """Says what no text is."""

    def write_request(self, text: str) -> Outgoing:
        return Outgoing([b'<t:Say xmlns:t="urn:test"><t:Word/></t:Say>'])


@dataclass
class Notary:
    """Notes what it sees; its record becomes durable when somebody says so, or never."""

    fault: SoapFault | None = None
    error: Exception | None = None
    held: Future[None] | None = None
    broken: list[str] = field(default_factory=list)
    seen: list[tuple[str, object, object, str]] = field(default_factory=list)
    unreadable: list[tuple[str | None, str, str]] = field(default_factory=list)
    noticed: threading.Event = field(default_factory=threading.Event)

    def begins(self, exchange: Exchange[Any, Any], request: Any, context: CallContext) -> str:
        if self.fault is not None:
            raise self.fault
        return f"{exchange.number} begun"

    def saw(
        self,
        exchange: Exchange[Any, Any],
        request: Any,
        response: Any,
        context: CallContext,
        begun: str,
    ) -> Future[None]:
        assert begun == f"{exchange.number} begun"
        self.seen.append((exchange.number, request, response, context.peer))
        return self._written()

    def unread(
        self, exchange: Exchange[Any, Any] | None, reason: str, context: CallContext
    ) -> Future[None]:
        if self.fault is not None:
            raise self.fault
        self.unreadable.append((exchange.number if exchange else None, reason, context.peer))
        return self._written()

    def _written(self) -> Future[None]:
        self.noticed.set()
        if self.held is not None:
            return self.held
        done: Future[None] = Future()
        done.set_exception(self.error) if self.error else done.set_result(None)
        return done

    def broke_off(self, exchange: Exchange[Any, Any], request: Any, context: CallContext) -> None:
        self.broken.append(exchange.number)


@pytest.fixture
def notary() -> Notary:
    return Notary()


@pytest.fixture
def performed() -> list[str]:
    """What the handler was asked."""
    return []


@pytest.fixture(params=["in the event loop", "in the pool"])
def url(request: pytest.FixtureRequest, notary: Notary, performed: list[str]) -> Iterator[str]:
    def say(text: str, context: CallContext) -> str:
        performed.append(text)
        if text == "bad":
            raise SoapFault(SENDER, "not that")
        return "done"

    def store(contents: list[Content], context: CallContext) -> list[Content]:
        performed.append("stored")
        return [Breaking() if contents[0].size == len(BREAK) else InMemory(b"back")]

    operations = [Operation(Say(), say, request.param == "in the event loop")]
    with ThreadPoolExecutor(2) as pool:
        endpoint = Endpoint(
            [*operations, Operation(Store(), store)],
            pool=pool,
            title="Test",
            service_name="Test",
            witness=notary,
        )
        with running_server(Router({"/test": endpoint})) as base:
            yield f"{base}/test"


def test_request_response_and_peer_of_a_call_are_seen(
    url: str, notary: Notary, client: SoapClient
) -> None:
    assert client.call(url, Say(), "good") == "done"
    assert notary.seen == [("T-1", "good", "done", "127.0.0.1")]


def test_a_call_that_ended_in_a_fault_is_seen_without_response(
    url: str, notary: Notary, client: SoapClient
) -> None:
    with pytest.raises(SoapFault, match="not that"):
        client.call(url, Say(), "bad")
    assert notary.seen == [("T-1", "bad", None, "127.0.0.1")]


def test_a_message_with_documents_is_seen_too(url: str, notary: Notary, client: SoapClient) -> None:
    contents: list[Content] = [InMemory(b"there")]
    client.call(url, Store(), contents)
    assert [number for number, *_ in notary.seen] == ["T-2"]


def test_an_answer_that_broke_off_is_seen_as_such(
    url: str, notary: Notary, client: SoapClient
) -> None:
    contents: list[Content] = [InMemory(b"there")]
    client.call(url, Store(), contents)
    assert notary.broken == []
    contents = [InMemory(BREAK)]
    with pytest.raises(PeerError):
        client.call(url, Store(), contents)
    assert notary.broken == ["T-2"]


def test_a_body_that_could_not_be_read_is_seen_with_what_was_told(
    url: str, notary: Notary, client: SoapClient, performed: list[str]
) -> None:
    assert client.call(url, Unreadable(), "good") == "refused: Say holds text only"
    assert notary.unreadable == [("T-1", "Say holds text only", "127.0.0.1")]
    assert (performed, notary.seen) == ([], [])


SOAP = "application/soap+xml"
MIME = 'multipart/related; type="application/xop+xml"; boundary="b"; start="<r>"'
NOT_UNDERSTOOD = {
    "no XML": (SOAP, b"hello", "Sender"),
    "XML without an end": (SOAP, b"<s:Envelope", "Sender"),
    "a large message that is no XML": (SOAP, b"<a>" + b" " * SMALL, "Sender"),
    "no envelope": (SOAP, b"<a/>", "VersionMismatch"),
    "no MIME": (MIME, b"hello", "Sender"),
    "MIME without an end": (MIME, b"--b\r\n\r\n<a/>", "Sender"),
    "MIME of no XML": (MIME, b"--b\r\nContent-ID: <r>\r\n\r\nhello\r\n--b--", "Sender"),
    "another media type": ("text/plain", b"hello", "Sender"),
}
"""Content type and body, and what of the fault is recorded."""


def post(url: str, body: bytes, content_type: str = SOAP) -> Answer:
    return Service(url, Spools(), [], []).post(body, content_type)


@pytest.mark.parametrize("case", NOT_UNDERSTOOD)
def test_a_message_that_is_not_understood_is_seen_without_its_words(
    url: str, notary: Notary, performed: list[str], case: str
) -> None:
    content_type, body, reason = NOT_UNDERSTOOD[case]
    assert post(url, body, content_type).status in (400, 415, 500)
    assert notary.unreadable == [(None, reason, "127.0.0.1")]
    assert (performed, notary.seen) == ([], [])


def test_a_message_of_another_action_is_seen(
    url: str, notary: Notary, envelope: Callable[..., str]
) -> None:
    assert post(url, envelope(action="urn:test:Nothing").encode()).status == 400
    assert notary.unreadable == [(None, "ActionNotSupported", "127.0.0.1")]


def test_a_message_that_travels_the_wrong_way_is_seen_as_what_it_asks_for(
    url: str, notary: Notary, envelope: Callable[..., str]
) -> None:
    body = envelope('<t:Store xmlns:t="urn:test"/>', action=Store().action)
    assert post(url, body.encode()).status == 415
    assert notary.unreadable == [("T-2", "Sender", "127.0.0.1")]


def test_a_message_without_one_of_its_documents_is_seen(
    url: str, notary: Notary, client: SoapClient
) -> None:
    class Lacking(Store):
        def write_request(self, contents: Sequence[Content]) -> Outgoing:
            return Outgoing(super().write_request(contents).body, [])

    contents: list[Content] = [InMemory(b"there")]
    with pytest.raises(SoapFault, match="no MIME part"):
        client.call(url, Lacking(), contents)
    assert notary.unreadable == [("T-2", "Sender", "127.0.0.1")]


def test_a_message_that_is_not_understood_is_told_busy_when_nothing_can_be_recorded(
    url: str, notary: Notary
) -> None:
    notary.fault = SoapFault.busy()
    assert post(url, b"hello").status == 503


@pytest.mark.parametrize(
    "ask",
    [
        lambda url, client: client.call(url, Say(), "good"),
        lambda url, client: client.call(url, Unreadable(), "good"),
        lambda url, client: post(url, b"hello"),
    ],
    ids=["read", "unread", "not understood"],
)
def test_no_answer_leaves_before_the_record_is_durable(
    url: str, notary: Notary, client: SoapClient, ask: Callable[[str, SoapClient], object]
) -> None:
    notary.held = Future()
    answered = threading.Event()

    def call() -> None:
        ask(url, client)
        answered.set()

    asking = threading.Thread(target=call)
    asking.start()
    assert notary.noticed.wait(10)
    assert not answered.wait(0.1)
    notary.held.set_result(None)
    asking.join(10)
    assert answered.is_set()


def test_what_could_not_be_recorded_is_not_answered_as_done(
    url: str, notary: Notary, client: SoapClient
) -> None:
    notary.error = OSError("no disk")
    with pytest.raises(SoapFault, match="internal error, reference"):
        client.call(url, Say(), "good")


def test_nothing_is_performed_when_nothing_can_be_recorded(
    url: str, notary: Notary, client: SoapClient, performed: list[str]
) -> None:
    notary.fault = SoapFault.busy()
    for exchange in (Say(), Unreadable()):
        with pytest.raises(SoapFault):
            client.call(url, exchange, "good")
    assert (performed, notary.seen) == ([], [])
