"""The HTTP server under peers that are slow, greedy, sly, or known by certificate."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.faults import PeerError
from soap.message import InMemory
from soap.server import Deadlines, listen, running_server
from tests.soap.conftest import Answer


def test_a_head_that_does_not_come_is_cut(service: Any) -> None:
    for sent in (b"", b"POST /test HTTP/1.1\r\nHost", b"\r\n"):
        started = time.monotonic()
        service.exchange(sent)
        assert time.monotonic() - started < 3


def test_a_head_that_drips_is_cut(service: Any) -> None:
    with service.connect() as sock:
        sock.settimeout(0.05)
        started = time.monotonic()
        gone = False
        while not gone and time.monotonic() - started < 5:
            try:
                sock.sendall(b"\r\n")
                gone = sock.recv(10) == b""
            except TimeoutError:
                continue
            except OSError:
                gone = True
        assert gone


def test_a_kept_connection_gets_its_next_head_in_time_or_none(service: Any) -> None:
    with service.connect() as sock:
        for _ in range(2):
            sock.sendall(b"GET /test?xsd=none HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 404")
        sock.sendall(b"GET /test")
        started = time.monotonic()
        assert sock.recv(10) == b""
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("fill", [b"X-A: " + b"a" * 200_000, b"X: y\r\n" * 40_000])
def test_a_head_too_large_is_refused(service: Any, fill: bytes) -> None:
    with service.connect() as sock:
        answer = b""
        try:
            for start in range(0, len(fill), 8192):
                request = b"GET /test HTTP/1.1\r\nHost: x\r\n" if start == 0 else b""
                sock.sendall(request + fill[start : start + 8192])
            answer = sock.recv(100)
        except OSError:  # the refusal may be lost when the connection is reset
            return
        assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"X: a\nContent-Length: 3\r\n",
        b" folded: x\r\n",
        b"X: a\0b\r\n",
        b"Transfer-Encoding: chunked\nX: y\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length: 3\r\nContent-Length : 0\r\n",
    ],
)
def test_a_request_that_can_be_read_two_ways_is_400(service: Any, head: bytes) -> None:
    start = b"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\n"
    answer = service.exchange(start + head + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "chunks",
    [b"3;x\nabc\r\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n"],
    ids=["extension", "line feed", "sign", "longer than said"],
)
def test_a_chunk_that_can_be_read_two_ways_is_400(service: Any, chunks: bytes) -> None:
    head = b"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\n"
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = service.exchange(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + smuggled)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_pipelined_requests_are_answered_in_order(service: Any) -> None:
    one = b"GET /test?xsd=none HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /test HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = service.exchange(one * 5 + last)
    assert answer.count(b"HTTP/1.1 404") == 5
    assert answer.count(b"HTTP/1.1 200") == 1


def _store_request(envelope: Any, *headers: str) -> tuple[bytes, bytes]:
    """Head and body of a call that is answered with an attachment."""
    root = envelope('<t:Store xmlns:t="urn:test"/>', action="urn:test:Store")
    body = (
        f'--b\r\nContent-Type: application/xop+xml; type="application/soap+xml"\r\n'
        f"Content-ID: <root@test>\r\n\r\n{root}\r\n--b--\r\n"
    ).encode()
    lines = (
        "POST /test HTTP/1.1",
        "Host: x",
        'Content-Type: multipart/related; type="application/xop+xml"; boundary="b"',
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n", body


def test_a_sender_that_waits_to_go_on_is_told_to(service: Any, envelope: Any) -> None:
    head, body = _store_request(envelope, "Expect: 100-continue", "Connection: close")
    with service.connect() as sock:
        sock.sendall(head)
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_large_answer_reaches_a_peer_that_reads_late(service: Any, envelope: Any) -> None:
    """Larger than the socket's buffers: the server must wait for room."""
    content = bytes(range(256)) * 80_000
    service.handlers["store"] = lambda *_: [InMemory(content)]
    answer = Answer.of(service.exchange(b"".join(_store_request(envelope, "Connection: close"))))
    assert answer.status == 200
    assert len(answer.body) == int(answer.headers["content-length"])
    assert content in answer.body


def test_large_answers_to_pipelined_requests_are_whole_and_in_order(
    service: Any, envelope: Any
) -> None:
    contents = [letter * 3_000_000 for letter in (b"a", b"b", b"c")]
    left = iter(contents)
    service.handlers["store"] = lambda *_: [InMemory(next(left))]
    request = b"".join(_store_request(envelope))
    rest = service.exchange(request * 2 + b"".join(_store_request(envelope, "Connection: close")))
    for content in contents:
        head, _, rest = rest.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert content in rest[:length]
        rest = rest[length:]
    assert rest == b""


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_stopping_lets_the_call_under_way_finish(say: Any, client: SoapClient) -> None:
    entered, release = threading.Event(), threading.Event()

    def wait(text: str, _context: CallContext) -> str:
        entered.set()
        assert release.wait(10)
        return text

    with ThreadPoolExecutor(4) as pool:
        endpoint = Endpoint([Operation(say, wait)], pool=pool, title="t", service_name="T")
        with running_server(endpoint, deadlines=Deadlines(shutdown=10)) as url:
            call = pool.submit(client.call, url, say, "finished")
            assert entered.wait(10)
            threading.Timer(0.3, release.set).start()
        assert call.result(timeout=1) == "finished"


# -- TLS


class Authority:
    """A small certificate authority."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, ca=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, name: str, *, server: bool, trust: Authority) -> ssl.SSLContext:
        """A context with a certificate of this authority that trusts another's."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, ca=False
        )
        path = self._folder / f"{name}.both.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(path)
        context.load_verify_locations(trust.path)
        return context

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"), "authority")


@pytest.fixture(scope="module")
def contexts() -> list[CallContext]:
    return []


@pytest.fixture(scope="module")
def secure_url(authority: Authority, contexts: list[CallContext], say: Any) -> Iterator[str]:
    def handler(text: str, context: CallContext) -> str:
        contexts.append(context)
        return text

    tls = authority.context("server", server=True, trust=authority)
    with ThreadPoolExecutor(2) as pool:
        endpoint = Endpoint([Operation(say, handler)], pool=pool, title="t", service_name="T")
        with running_server(endpoint, tls=tls, deadlines=Deadlines(handshake=0.3)) as url:
            yield url


def test_the_clients_certificate_reaches_the_handler(
    secure_url: str, authority: Authority, contexts: list[CallContext], say: Any
) -> None:
    client = SoapClient(ssl_context=authority.context("client", server=False, trust=authority))
    assert client.call(secure_url, say, "hello") == "hello"
    client.close()
    certificate = x509.load_pem_x509_certificate((contexts[-1].certificate or "").encode())
    assert certificate.subject.rfc4514_string() == "CN=client"


def test_strangers_are_not_served(
    secure_url: str, authority: Authority, contexts: list[CallContext], tmp_path: Path, say: Any
) -> None:
    served = list(contexts)
    other = Authority(tmp_path, "other")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(authority.path)
    for context in (
        bare,  # no certificate: in TLS 1.3 the handshake seems to succeed all the same
        other.context("stranger", server=False, trust=authority),
        authority.context("client2", server=False, trust=other),
    ):
        client = SoapClient(ssl_context=context)
        with pytest.raises(PeerError):
            client.call(secure_url, say, "stranger")
        client.close()
    assert contexts == served


def test_a_server_stops_though_an_idle_client_says_no_farewell(
    authority: Authority, say: Any
) -> None:
    tls = authority.context("server2", server=True, trust=authority)
    client = SoapClient(ssl_context=authority.context("client3", server=False, trust=authority))
    with ThreadPoolExecutor(1) as pool:
        echo = Operation(say, lambda text, _context: text)
        endpoint = Endpoint([echo], pool=pool, title="t", service_name="T")
        with running_server(endpoint, tls=tls, deadlines=Deadlines(handshake=20)) as url:
            assert client.call(url, say, "hello") == "hello"
            started = time.monotonic()
    assert time.monotonic() - started < 5
    client.close()


def test_a_handshake_that_does_not_come_is_cut(secure_url: str) -> None:
    port = int(secure_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        started = time.monotonic()
        sock.sendall(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
        assert time.monotonic() - started < 3


def test_head_is_answered_without_a_body(service: Any) -> None:
    answer = service.exchange(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.endswith(b"\r\n\r\n")
