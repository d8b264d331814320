"""A little service to talk to: one exchange of texts, one of documents."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import pytest
from lxml import etree

from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.faults import InvalidBody
from soap.limits import Limits
from soap.message import Content, Incoming, InMemory, MemorySpool, Outgoing, Part
from soap.server import Deadlines, Router, running_server
from soap.service import Ended

SAY = "{urn:test}Say"
STORE = "{urn:test}Store"


@dataclass(frozen=True)
class Say:
    """Says a text; an exchange as the transactions declare theirs. The text is the body's.

    An answer may also be the body itself, in pieces.
    """

    number: str = "T-1"
    name: str = "Say"
    action: str = "urn:test:Say"
    response_action: str = "urn:test:SayResponse"
    root: str = SAY
    mtom: bool = False

    def read_request(self, incoming: Incoming) -> str:
        if len(incoming.body):
            raise InvalidBody("Say holds text only")
        return incoming.body.text or ""

    def write_request(self, text: str) -> Outgoing:
        return Outgoing([f'<t:Say xmlns:t="urn:test">{escape(text)}</t:Say>'.encode()])

    def read_response(self, incoming: Incoming) -> str:
        return incoming.body.text or ""

    def write_response(self, text: str | Iterator[bytes]) -> Outgoing:
        if not isinstance(text, str):
            return Outgoing(text)
        body = f'<t:SayResponse xmlns:t="urn:test">{escape(text)}</t:SayResponse>'
        return Outgoing([body.encode()])

    def refuse(self, reason: str) -> str:
        return f"refused: {reason}"


@dataclass(frozen=True)
class Store:
    """Stores documents and gives them back: requests and responses are lists of contents."""

    number: str = "T-2"
    name: str = "Store"
    action: str = "urn:test:Store"
    response_action: str = "urn:test:StoreResponse"
    root: str = STORE
    mtom: bool = True

    def read_request(self, incoming: Incoming) -> list[Content]:
        return [incoming.content(child) for child in incoming.body]

    def write_request(self, contents: Sequence[Content]) -> Outgoing:
        return self._write("Store", contents)

    def read_response(self, incoming: Incoming) -> list[Content]:
        return [incoming.content(child) for child in incoming.body]

    def write_response(self, contents: Sequence[Content]) -> Outgoing:
        return self._write("StoreResponse", contents)

    def refuse(self, reason: str) -> list[Content]:
        return [InMemory(reason.encode())]

    def _write(self, root: str, contents: Sequence[Content]) -> Outgoing:
        include = '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:{}"/>'
        documents = "".join(
            f"<t:Document>{include.format(f'{index}@test')}</t:Document>"
            for index in range(len(contents))
        )
        parts = [Part(f"{index}@test", content) for index, content in enumerate(contents)]
        return Outgoing([f'<t:{root} xmlns:t="urn:test">{documents}</t:{root}>'.encode()], parts)


@dataclass
class Spools:
    """Opens spools and remembers what became of them."""

    opened: int = 0
    aborted: int = 0
    finished: int = 0
    discarded: int = 0

    def __call__(self) -> MemorySpool:
        self.opened += 1
        return _WatchedSpool(self)

    @property
    def left(self) -> int:
        """Spools neither aborted nor given up once they were finished."""
        return self.opened - self.aborted - self.discarded


class _WatchedSpool(MemorySpool):
    def __init__(self, spools: Spools) -> None:
        super().__init__()
        self._spools = spools

    def finish(self) -> InMemory:
        self._spools.finished += 1
        return _WatchedReceived(super().finish().data, self._spools)

    def abort(self) -> None:
        self._spools.aborted += 1
        super().abort()


class _WatchedReceived(InMemory):
    def __init__(self, data: bytes, spools: Spools) -> None:
        super().__init__(data)
        self._spools = spools

    def discard(self) -> None:
        self._spools.discarded += 1


@dataclass
class Answer:
    """An HTTP answer taken apart; ``xml`` parses a SOAP body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> Answer:
        head, _, body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return cls(int(status.split()[1]), {name.lower(): value for name, value in pairs}, body)

    @property
    def xml(self) -> etree._Element:
        return etree.fromstring(self.body)

    def text(self, name: str) -> str | None:
        """The text of the first element called ``name`` (local name), wherever it is."""
        found = next(self.xml.iter(f"{{*}}{name}"), None)
        return None if found is None else found.text

    @property
    def codes(self) -> list[str]:
        """The fault's code and subcode, without prefixes."""
        fault = next(self.xml.iter("{*}Fault"))
        values = fault.iterfind(".//{http://www.w3.org/2003/05/soap-envelope}Value")
        return [(value.text or "").rpartition(":")[2] for value in values]


@dataclass
class Service:
    """A running service, what it observed, and raw access to its socket."""

    url: str
    spools: Spools
    seen: list[Ended]
    contexts: list[CallContext]
    handlers: dict[str, Callable[[Any, CallContext], Any]] = field(default_factory=dict)

    def connect(self) -> socket.socket:
        address = urlsplit(self.url)
        assert address.hostname is not None
        return socket.create_connection((address.hostname, address.port or 0), timeout=10)

    def exchange(self, request: bytes) -> bytes:
        """Send raw bytes, return all that comes until the server closes."""
        with self.connect() as sock:
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def post(
        self, body: bytes, content_type: str = "application/soap+xml", *headers: str
    ) -> Answer:
        """POST ``body`` and read the answer."""
        lines = [
            f"POST {urlsplit(self.url).path} HTTP/1.1",
            "Host: test",
            "Connection: close",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        return Answer.of(self.exchange("\r\n".join(lines).encode() + b"\r\n\r\n" + body))


def _received(contents: Sequence[Content]) -> list[InMemory]:
    return [InMemory(b"".join(content.chunks())) for content in contents]


@pytest.fixture(scope="session")
def limits() -> Limits:
    """Limits small enough to be met quickly."""
    return Limits(
        envelope=2_000_000,
        message=40_000_000,
        elements=10_000,
        attributes=20_000,
        parts=20,
        idle=0.3,
        grace=0.6,
        rate=1_000_000,
    )


@pytest.fixture(scope="session")
def running(limits: Limits) -> Iterator[Service]:
    service = Service("", Spools(), [], [])

    def say(text: str, context: CallContext) -> str:
        service.contexts.append(context)
        handler = service.handlers.get("say")
        return text if handler is None else cast(str, handler(text, context))

    def store(contents: Sequence[Content], context: CallContext) -> Sequence[Content]:
        service.contexts.append(context)
        handler = service.handlers.get("store")
        return _received(contents) if handler is None else list(handler(contents, context))

    with ThreadPoolExecutor(4) as pool:
        endpoint = Endpoint(
            [Operation(Say(), say, inline=True), Operation(Store(), store)],
            spool=service.spools,
            limits=limits,
            pool=pool,
            title="Test <service>",
            service_name="Test",
            observe=lambda call: service.seen.append(call),
        )
        deadlines = Deadlines(head=0.3, keep_alive=5, shutdown=2)
        with running_server(Router({"/test": endpoint}), deadlines=deadlines) as base:
            service.url = f"{base}/test"
            yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service, which must still answer after every test."""
    running.handlers.clear()
    running.seen.clear()
    running.contexts.clear()
    yield running
    running.handlers.clear()
    client = SoapClient(timeout=10)
    assert client.call(running.url, Say(), "still there?") == "still there?"
    client.close()


@pytest.fixture
def client() -> Iterator[SoapClient]:
    client = SoapClient(timeout=10)
    yield client
    client.close()


@pytest.fixture(scope="session")
def say() -> Say:
    return Say()


@pytest.fixture(scope="session")
def store() -> Store:
    return Store()


@pytest.fixture
def read() -> Callable[[Content], bytes]:
    return lambda content: b"".join(content.chunks())


SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"


def _envelope(
    body: str = '<t:Say xmlns:t="urn:test">hello</t:Say>',
    *,
    action: str | None = "urn:test:Say",
    message_id: str | None = "urn:uuid:1",
    headers: str = "",
    namespace: str = SOAP12,
) -> str:
    head = headers
    if action is not None:
        head += f'<wsa:Action s:mustUnderstand="1">{action}</wsa:Action>'
    if message_id is not None:
        head += f"<wsa:MessageID>{message_id}</wsa:MessageID>"
    return (
        f'<s:Envelope xmlns:s="{namespace}" xmlns:wsa="{WSA}"><s:Header>{head}</s:Header>'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    )


@pytest.fixture
def envelope() -> Callable[..., str]:
    """Makes request envelopes, right unless told otherwise."""
    return _envelope
