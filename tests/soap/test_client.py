"""The client against peers that answer well, badly, late, or not at all."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from soap.client import SoapClient
from soap.faults import (
    PeerError,
    PeerFault,
    PeerProtocolError,
    PeerTimeout,
    PeerUnreachable,
    SoapFault,
)
from soap.limits import CLIENT
from soap.message import InMemory

Make = Callable[..., str]


class Peer:
    """Answers the first request on each connection with given bytes, then closes."""

    def __init__(self) -> None:
        self.answer = b""
        self.requests: list[bytes] = []
        self.hold = threading.Event()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}/x?secret=1"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def soap(
        self,
        body: bytes | str,
        status: int = 200,
        content_type: str = "application/soap+xml",
        more: int = 0,
    ) -> None:
        data = body if isinstance(body, bytes) else body.encode()
        self.answer = (
            f"HTTP/1.1 {status} x\r\nContent-Type: {content_type}\r\n"
            f"Connection: close\r\nContent-Length: {len(data) + more}\r\n\r\n"
        ).encode() + data

    def close(self) -> None:
        self.hold.set()
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                if not line:
                    return
                head += line
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            self.requests.append(head + stream.read(int(length[1])))
        if self.answer:
            connection.sendall(self.answer)
        else:
            self.hold.wait(10)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def answer(envelope: Make) -> str:
    return envelope(
        "<t:R xmlns:t='urn:test'>fine</t:R>", action="urn:test:SayResponse", message_id=None
    )


def test_a_right_answer_is_read(peer: Peer, client: SoapClient, say: Any, answer: str) -> None:
    for encoding in ("utf-8", "utf-16"):
        peer.soap(answer.encode(encoding))
        assert client.call(peer.url, say, "hello") == "fine"


def test_what_is_sent_is_what_the_framework_asks(
    peer: Peer, client: SoapClient, say: Any, store: Any, answer: str
) -> None:
    peer.soap(answer)
    trace = "0af7651916cd43dd8448eb211c80319c"
    client.call(peer.url, say, "hello", correlation_id=trace)
    client.call(peer.url, say, "hello", correlation_id="urn:uuid:1")
    simple, other = peer.requests
    assert b'content-type: application/soap+xml; charset=utf-8; action="urn:test:say"' in (
        simple.lower()
    )
    assert b"traceparent: 00-" + trace.encode() in simple
    assert b"traceparent" not in other
    assert b"http://www.w3.org/2005/08/addressing/anonymous" in simple
    client.call(peer.url, store, [InMemory(b"bytes")])
    head, _, body = peer.requests[2].partition(b"\r\n\r\n")
    assert b'start-info="application/soap+xml"' in head
    assert b"Content-Length: %d" % len(body) in head


@pytest.mark.parametrize("status", [200, 400, 500, 503])
def test_a_fault_is_raised_as_one(
    peer: Peer, client: SoapClient, say: Any, envelope: Make, status: int
) -> None:
    peer.soap(
        envelope(
            "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>wsa:X</s:Value>"
            "</s:Subcode></s:Code><s:Reason><s:Text xml:lang='en'>no</s:Text></s:Reason></s:Fault>",
            message_id=None,
        ),
        status,
    )
    with pytest.raises(SoapFault) as caught:
        client.call(peer.url, say, "hello")
    fault = caught.value
    assert isinstance(fault, PeerFault)
    assert isinstance(fault, PeerError)
    assert (fault.code, fault.reason, fault.status) == ("Sender", "no", status)
    assert fault.subcode == "{http://www.w3.org/2005/08/addressing}X"


MTOM = "multipart/related; boundary=b"


@pytest.mark.parametrize(
    ("body", "status", "content_type"),
    [
        ("<html>busy</html>", 503, "text/html"),
        ("", 202, ""),
        ("", 200, "application/soap+xml"),
        ("<broken", 200, "application/soap+xml"),
        ("<!DOCTYPE x><x/>", 200, "application/soap+xml"),
        ("<x/>", 200, "application/soap+xml"),
        ("{}".replace("{}", "{another}"), 200, "application/soap+xml"),
        ("--b\r\n\r\n{answer}\r\n", 200, MTOM),
        ("--b\r\nContent-Transfer-Encoding: x\r\n\r\n{answer}\r\n--b--", 200, MTOM),
        ("{too long}", 200, "application/soap+xml"),
    ],
)
def test_an_unintelligible_answer_is_the_peers_error(
    peer: Peer, say: Any, envelope: Make, answer: str, body: str, status: int, content_type: str
) -> None:
    related = envelope("<x/>", headers="<wsa:RelatesTo>urn:uuid:other</wsa:RelatesTo>")
    texts = {"{answer}": answer, "{another}": related, "{too long}": answer + " " * 100_000}
    for name, text in texts.items():
        body = body.replace(name, text)
    peer.soap(body, status, content_type)
    client = SoapClient(limits=replace(CLIENT, envelope=50_000))
    with pytest.raises(PeerProtocolError) as caught:
        client.call(peer.url, say, "hello")
    client.close()
    assert "secret" not in str(caught.value)


def test_an_answer_that_breaks_off_is_no_answer(
    peer: Peer, client: SoapClient, say: Any, answer: str
) -> None:
    peer.soap(answer, more=1)
    with pytest.raises(PeerProtocolError):
        client.call(peer.url, say, "hello")
    peer.answer = b"HTTP/1.1 garbage\r\n\r\n"
    with pytest.raises(PeerProtocolError):
        client.call(peer.url, say, "hello")
    peer.soap(answer)
    length = b"Content-Length: %d" % len(answer.encode())
    peer.answer = peer.answer.replace(length, b"Transfer-Encoding: chunked")
    peer.answer = peer.answer.replace(b"\r\n\r\n", b"\r\n\r\nffff\r\n")
    with pytest.raises(PeerProtocolError):
        client.call(peer.url, say, "hello")


def test_a_peer_that_does_not_answer_is_a_timeout(peer: Peer, say: Any) -> None:
    client = SoapClient(timeout=0.1)
    with pytest.raises(PeerTimeout):
        client.call(peer.url, say, "hello")
    client.close()


def test_an_answer_that_does_not_end_in_time_is_a_timeout(
    peer: Peer, say: Any, answer: str
) -> None:
    peer.soap(answer)
    client = SoapClient(total=-1)
    with pytest.raises(PeerTimeout):
        client.call(peer.url, say, "hello")
    client.close()


def test_a_peer_that_is_not_there_is_unreachable(client: SoapClient, say: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://no-such-host.invalid/"):
        with pytest.raises(PeerUnreachable):
            client.call(url, say, "hello")


def test_a_peer_without_tls_is_unreachable_over_tls(
    peer: Peer, client: SoapClient, say: Any
) -> None:
    peer.answer = b"plain"
    plain = peer.url.replace("http:", "https:")
    fast = SoapClient(connect_timeout=0.2)
    with pytest.raises(PeerUnreachable):
        fast.call(plain, say, "hello")
    fast.close()


def test_attachments_of_a_broken_answer_are_given_up(
    peer: Peer, client: SoapClient, store: Any, service: Any, answer: str
) -> None:
    before = service.spools.opened
    body = f"--b\r\n\r\n{answer}\r\n--b\r\nContent-ID: <1>\r\n\r\none\r\n--b\r\n\r\ntwo"
    peer.soap(body, 200, MTOM)
    with pytest.raises(PeerProtocolError):
        client.call(peer.url, store, [], spool=service.spools)
    assert service.spools.opened == before + 2
    assert service.spools.left == 0


def test_an_error_in_reading_our_own_content_is_ours(service: Any, store: Any) -> None:
    class Unreadable(InMemory):
        def chunks(self) -> Iterator[bytes]:
            yield b"x"
            raise FileNotFoundError("the document is gone")

    client = SoapClient()
    for size in (100, 1_000_000):
        with pytest.raises(FileNotFoundError):
            client.call(service.url, store, [Unreadable(b"x" * size)])
    client.close()


def test_one_client_serves_many_threads(service: Any, client: SoapClient, say: Any) -> None:
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(client.call(service.url, say, str(n))))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=int) == [str(n) for n in range(20)]


def test_connections_are_kept_between_calls(service: Any, client: SoapClient, say: Any) -> None:
    made = []
    original = socket.create_connection

    def create_connection(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        made.append(address)
        return original(address, timeout=5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib3.util.connection.create_connection", create_connection)
        for number in range(5):
            client.call(service.url, say, str(number))
    assert len(made) == 1
