"""A gate judges who calls, before anything is performed or recorded as performed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import current_thread
from typing import Any

import pytest

from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Exchange, Operation
from soap.envelope import Envelope
from soap.faults import FAILED_AUTHENTICATION, SENDER, PeerFault, SoapFault
from soap.message import Content, InMemory
from soap.server import Router, running_server
from tests.soap.conftest import Say, Store

TOKEN = '<t:Token xmlns:t="urn:test">Ada</t:Token>'


@dataclass
class Porter:
    """Lets in whoever brings a token; remembers those it has seen."""

    seen: set[str] = field(default_factory=set)
    threads: list[str] = field(default_factory=list)

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Any]:
        return message, None

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        return _name(envelope) in self.seen

    def admit(
        self, exchange: Exchange[Any, Any], envelope: Envelope, context: CallContext
    ) -> CallContext:
        self.threads.append(current_thread().name)
        name = _name(envelope)
        if not name:
            raise SoapFault(SENDER, "who are you?", subcode=FAILED_AUTHENTICATION)
        self.seen.add(name)
        return context._replace(user=f"{name} for {exchange.number}")


def _name(envelope: Envelope) -> str:
    tokens = [token for header in envelope.security for token in header]
    return (tokens[0].text or "") if len(tokens) == 1 else ""


@pytest.fixture
def porter() -> Porter:
    return Porter()


@pytest.fixture
def performed() -> list[Any]:
    """The users for whom something was performed."""
    return []


@pytest.fixture
def url(porter: Porter, performed: list[Any]) -> Iterator[str]:
    def say(text: str, context: CallContext) -> str:
        performed.append(context.user)
        return "done"

    def store(contents: list[Content], context: CallContext) -> list[Content]:
        performed.append(context.user)
        return []

    operations: list[Operation[Any, Any]] = [
        Operation(Say(), say, inline=True),
        Operation(Store(), store),
    ]
    with ThreadPoolExecutor(2, "pool") as pool:
        endpoint = Endpoint(operations, pool=pool, title="Test", service_name="Test", gate=porter)
        with running_server(Router({"/test": endpoint})) as base:
            yield f"{base}/test"


@pytest.fixture
def ada() -> Iterator[SoapClient]:
    client = SoapClient(token=lambda: TOKEN)
    yield client
    client.close()


def test_what_the_gate_learns_of_the_caller_reaches_the_handler(
    url: str, ada: SoapClient, performed: list[Any]
) -> None:
    contents: list[Content] = [InMemory(b"there")]
    ada.call(url, Say(), "hello")
    ada.call(url, Store(), contents)
    assert performed == ["Ada for T-1", "Ada for T-2"]


def test_whom_the_gate_refuses_gets_its_fault_and_nothing_is_performed(
    url: str, client: SoapClient, performed: list[Any]
) -> None:
    contents: list[Content] = [InMemory(b"there")]
    with pytest.raises(PeerFault, match="who are you") as refused:
        client.call(url, Say(), "hello")
    assert refused.value.subcode == FAILED_AUTHENTICATION
    with pytest.raises(PeerFault, match="who are you"):
        client.call(url, Store(), contents)
    assert performed == []


def test_the_event_loop_judges_only_whom_the_gate_remembers(
    url: str, ada: SoapClient, porter: Porter
) -> None:
    ada.call(url, Say(), "first")
    ada.call(url, Say(), "again")
    first, again = porter.threads
    assert first.startswith("pool")
    assert not again.startswith("pool")


def test_who_does_not_judge_assertions_passes_over_one(ada: SoapClient) -> None:
    with ThreadPoolExecutor(1) as pool:
        said = Operation(Say(), lambda text, context: str(context.user))
        endpoint = Endpoint([said], pool=pool, title="Test", service_name="Test")
        with running_server(Router({"/test": endpoint})) as base:
            assert ada.call(f"{base}/test", Say(), "hello") == "None"
