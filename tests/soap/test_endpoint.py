"""The service over the wire: good calls, and every bad one answered and survived."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from soap.faults import SoapFault
from soap.limits import Limits
from soap.message import InMemory
from storage.files import FileContent

Make = Callable[..., str]
MTOM = 'multipart/related; type="application/xop+xml"; boundary="b"'
XOP = '<x:Include xmlns:x="http://www.w3.org/2004/08/xop/include" href="cid:{}"/>'


def store_body(*documents: str) -> str:
    inner = "".join(f"<t:Document>{document}</t:Document>" for document in documents)
    return f'<t:Store xmlns:t="urn:test">{inner}</t:Store>'


def multipart(*parts: str | bytes) -> bytes:
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in raw) + b"--b--\r\n"


def settled(service: Any) -> Any:
    """The service once its pool has given up what was left over from the last call."""
    deadline = time.monotonic() + 5
    while service.spools.left and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return service.spools


# -- good calls


def test_a_text_goes_there_and_back(service: Any, client: Any, say: Any) -> None:
    assert client.call(service.url, say, "a < b & 'c' é 漢") == "a < b & 'c' é 漢"


def test_a_large_text_goes_there_and_back(service: Any, client: Any, say: Any) -> None:
    assert client.call(service.url, say, "x" * 500_000) == "x" * 500_000


def test_documents_of_all_sizes_go_there_and_back(
    service: Any, client: Any, store: Any, read: Any
) -> None:
    contents = [InMemory(b""), InMemory(b"\r\n--b" * 1_000_000), InMemory(bytes(range(256)))]
    answer = client.call(service.url, store, contents)
    assert [read(content) for content in answer] == [content.data for content in contents]
    assert settled(service).left == 0


def test_no_document_is_a_message_too(service: Any, client: Any, store: Any) -> None:
    assert client.call(service.url, store, []) == []


def test_the_response_says_what_it_answers(service: Any, envelope: Make) -> None:
    answer = service.post(envelope().encode())
    assert answer.status == 200
    assert answer.text("Action") == "urn:test:SayResponse"
    assert answer.text("RelatesTo") == "urn:uuid:1"
    action = next(answer.xml.iter("{*}Action"))
    assert action.get("{http://www.w3.org/2003/05/soap-envelope}mustUnderstand") == "1"
    expected = 'application/soap+xml; charset=UTF-8; action="urn:test:SayResponse"'
    assert answer.headers["content-type"] == expected


def test_mtom_on_a_simple_operation_is_answered_in_mtom(service: Any, envelope: Make) -> None:
    root = "Content-Type: application/xop+xml\r\nContent-ID: <r>\r\n\r\n" + envelope()
    answer = service.post(multipart(root), MTOM)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("multipart/related")
    assert b">hello<" in answer.body


@pytest.mark.parametrize(
    "parts",
    [
        ("Content-ID: <1>\r\n\r\none", "Content-ID: <r>\r\n\r\n{}", "Content-ID: <2>\r\n\r\ntwo"),
        (
            "Content-ID: <r>\r\n\r\n{}",
            "content-id:2\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv",
            "CONTENT-ID: <1>\r\n\r\none",
        ),
    ],
)
@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("preamble", ["", "\r\n\r\n", "a preamble\r\n"])
def test_packages_of_any_order_are_understood(
    service: Any, envelope: Make, parts: tuple[str, ...], newline: str, preamble: str
) -> None:
    text = envelope(
        store_body(XOP.format("1"), "dGh\n yZWU=", XOP.format("2")), action="urn:test:Store"
    )
    body = (preamble.encode() + multipart(*parts)).replace(b"\r\n", newline.encode())
    stored: list[bytes] = []

    def keep(contents: Any, _context: object) -> list[InMemory]:
        stored.extend(b"".join(content.chunks()) for content in contents)
        return []

    service.handlers["store"] = keep
    answer = service.post(body.replace(b"{}", text.encode()), MTOM + "; start=r")
    assert answer.status == 200
    assert stored == [b"one", b"three", b"two"]


def test_the_handler_learns_who_calls(service: Any, envelope: Make) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    service.post(
        envelope(message_id="urn:uuid:\u00e97\n").encode(),
        "application/soap+xml",
        f"traceparent: 00-{trace}-b7ad6b7169203331-01",
    )
    service.post(envelope(message_id="urn:uuid:8").encode())
    traced, plain = service.contexts
    assert (traced.message_id, traced.correlation_id) == ("urn:uuid:é7", trace)
    assert (plain.message_id, plain.correlation_id) == ("urn:uuid:8", "urn:uuid:8")
    assert (plain.peer, plain.action, plain.certificate) == ("127.0.0.1", "urn:test:Say", None)


def test_every_call_is_observed(service: Any, envelope: Make) -> None:
    before = time.time()
    good = envelope().encode()
    answer = service.post(good)
    service.post(envelope(action="urn:other").encode())
    service.post(envelope("<t:Say xmlns:t='urn:test'><x/></t:Say>").encode())
    (first, second, third) = service.seen
    assert first[:2] == ("urn:test:Say", "ok")
    assert 0 < first.seconds < 5
    assert (first.received, first.sent) == (len(good), len(answer.body))
    assert before <= first.at <= time.time()
    assert (first.correlation_id, first.peer) == ("urn:uuid:1", "127.0.0.1")
    assert second[:2] == ("", "sender")
    assert third[:2] == ("urn:test:Say", "refused")


# -- bad envelopes


@pytest.mark.parametrize(
    ("change", "codes", "status"),
    [
        ({"action": None}, ["Sender", "MessageAddressingHeaderRequired"], 400),
        ({"message_id": None}, ["Sender", "MessageAddressingHeaderRequired"], 400),
        ({"action": "urn:test:Other"}, ["Sender", "ActionNotSupported"], 400),
        ({"action": "urn:test:Store"}, ["Sender", "ActionNotSupported"], 400),
        ({"body": "<x/>"}, ["Sender", "ActionNotSupported"], 400),
        ({"body": ""}, ["Sender"], 400),
        ({"body": '<t:Say xmlns:t="urn:test"/>' * 2}, ["Sender"], 400),
        ({"namespace": "http://schemas.xmlsoap.org/soap/envelope/"}, ["VersionMismatch"], 500),
        (
            {
                "headers": '<a:b xmlns:a="urn:a" '
                'xmlns:e="http://www.w3.org/2003/05/soap-envelope" e:mustUnderstand="true"/>'
            },
            ["MustUnderstand"],
            500,
        ),
        (
            {
                "headers": "<wsa:ReplyTo><wsa:Address>http://127.0.0.1:9/</wsa:Address>"
                "</wsa:ReplyTo>"
            },
            ["Sender", "OnlyAnonymousAddressSupported"],
            400,
        ),
        (
            {"headers": "<wsa:FaultTo><wsa:Address>http://inside/</wsa:Address></wsa:FaultTo>"},
            ["Sender", "OnlyAnonymousAddressSupported"],
            400,
        ),
        ({"headers": "<wsa:To>a</wsa:To>" * 2}, ["Sender", "InvalidAddressingHeader"], 400),
    ],
)
def test_a_wrong_envelope_gets_its_fault(
    service: Any, envelope: Make, change: dict[str, str], codes: list[str], status: int
) -> None:
    answer = service.post(envelope(**change).encode())
    assert (answer.status, answer.codes) == (status, codes)
    expected = None if codes == ["VersionMismatch"] else change.get("message_id", "urn:uuid:1")
    assert answer.text("RelatesTo") in (expected, None if "body" in change else expected)
    folder = "fault" if len(codes) == 2 else "soap/fault"
    assert answer.text("Action") == f"http://www.w3.org/2005/08/addressing/{folder}"
    assert service.contexts == []


HOSTILE = {
    "empty": b"",
    "not xml": b"hello",
    "no end": b"<s:Envelope",
    "invalid UTF-8": b"<a>\xff\xfe</a>",
    "NUL": b"<a>\0</a>",
    "deep": b"<a>" * 10_000,
    "elements": b"<r>" + b"<a/>" * 200_000 + b"</r>",
    "attributes": b"<r " + b" ".join(b"a%d='1'" % i for i in range(100_000)) + b"/>",
    "namespaces": b"<r " + b" ".join(b"xmlns:a%d='u'" % i for i in range(100_000)) + b"/>",
    "UTF-7": b"<?xml version='1.0' encoding='UTF-7'?>+ADw-r/+AD4-",
    "doctype": b"<!DOCTYPE r [<!ENTITY e 'x'>]><r>&e;</r>",
    "doctype in UTF-16": "<!DOCTYPE r [<!ENTITY e 'x'>]><r>&e;</r>".encode("utf-16"),
    "bomb": (
        "<!DOCTYPE r [<!ENTITY a0 'ha'>"
        + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10))
        + "]><r>&a9;</r>"
    ).encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_xml_gets_a_fault_within_a_second(service: Any, body: bytes) -> None:
    started = time.monotonic()
    answer = service.post(body)
    assert time.monotonic() - started < 1
    assert (answer.status, answer.codes) == (400, ["Sender"])
    assert b"root:" not in answer.body


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_right_envelopes_are_read_in_their_encodings(
    service: Any, envelope: Make, encoding: str
) -> None:
    answer = service.post(envelope('<Say xmlns="urn:test"><![CDATA[<é>]]></Say>').encode(encoding))
    assert (answer.status, answer.text("SayResponse")) == (200, "<é>")


# -- bad HTTP and MIME


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "multipart/mixed"])
def test_another_content_type_is_415(service: Any, envelope: Make, content_type: str) -> None:
    assert service.post(envelope().encode(), content_type).status == 415


def test_soap_1_1_gets_a_version_mismatch(service: Any, envelope: Make) -> None:
    old = envelope(namespace="http://schemas.xmlsoap.org/soap/envelope/")
    answer = service.post(old.encode(), "text/xml; charset=utf-8", 'SOAPAction: ""')
    assert (answer.status, answer.codes) == (500, ["VersionMismatch"])
    assert next(answer.xml.iter("{*}SupportedEnvelope")).get("qname") == "soap:Envelope"


def test_a_compressed_message_is_415(service: Any, envelope: Make) -> None:
    answer = service.post(envelope().encode(), "application/soap+xml", "Content-Encoding: gzip")
    assert answer.status == 415


def test_simple_soap_on_an_mtom_operation_is_415(service: Any, envelope: Make) -> None:
    answer = service.post(envelope(store_body(), action="urn:test:Store").encode())
    assert (answer.status, answer.codes) == (415, ["Sender"])


ROOT = "Content-ID: <r>\r\n\r\n"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/related", multipart(ROOT + "{}")),
        (MTOM, b"no delimiter at all"),
        (MTOM, b""),
        (MTOM, multipart()),
        (MTOM, multipart(ROOT + "{}")[:-8]),
        (MTOM, multipart(ROOT + "{}", "Content-ID: <1>\r\n\r\none")[:-12]),
        (MTOM, multipart(ROOT + "{}", "Content-ID: <2>\r\n\r\none")),
        (MTOM, multipart(ROOT + "{}", *["Content-ID: <1>\r\n\r\none"] * 2)),
        (MTOM, multipart(ROOT + "{}", *(f"Content-ID: <{i}>\r\n\r\n" for i in range(30)))),
        (MTOM, multipart(ROOT + "{}", "Content-Transfer-Encoding: base64\r\n\r\n!")),
        (MTOM, multipart(ROOT + "<broken")),
        (MTOM, multipart("Content-ID: <1>\r\n\r\none")),
        (MTOM + '; start="<s>"', multipart(ROOT + "{}", "Content-ID: <1>\r\n\r\none")),
        (MTOM, multipart("A: " + "x" * 20_000 + "\r\n\r\n{}")),
    ],
)
def test_broken_mime_gets_a_sender_fault_and_leaves_nothing(
    service: Any, envelope: Make, content_type: str, body: bytes
) -> None:
    text = envelope(store_body(XOP.format("1")), action="urn:test:Store").encode()
    answer = service.post(body.replace(b"{}", text), content_type)
    assert answer.status == 400
    assert b"Sender" in answer.body
    assert service.contexts == []
    assert settled(service).left == 0


@pytest.mark.parametrize(
    "document",
    ["not base64!", XOP.format("1") * 2, "QUJD" + XOP.format("1"), "<x/>",
     XOP.format("1").replace("cid:", "file:///etc/passwd?"), XOP.format("r")],
)  # fmt: skip
def test_a_document_without_bytes_is_the_senders_fault(
    service: Any, envelope: Make, document: str
) -> None:
    text = envelope(store_body("QUJD", document), action="urn:test:Store")
    answer = service.post(multipart(ROOT + text, "Content-ID: <1>\r\n\r\none"), MTOM)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("multipart/related")
    assert settled(service).left == 0


def test_too_large_a_message_is_413(service: Any, limits: Limits) -> None:
    answer = service.post(b"<a>" + b" " * limits.envelope + b"</a>")
    assert (answer.status, answer.codes) == (413, ["Sender"])
    head = f"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: {MTOM}\r\nConnection: close\r\n"
    declared = f"Content-Length: {limits.message + 1}\r\nExpect: 100-continue\r\n\r\n"
    assert service.exchange((head + declared).encode()).startswith(b"HTTP/1.1 413")


def test_too_large_a_chunked_message_is_413(service: Any, limits: Limits) -> None:
    chunk = b"%x\r\n%s\r\n" % (1_000_000, b" " * 1_000_000)
    head = b"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\n"
    answer = service.exchange(
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413")


def test_an_envelope_too_large_within_mtom_is_refused(service: Any, limits: Limits) -> None:
    answer = service.post(multipart(ROOT + " " * (limits.envelope + 1)), MTOM)
    assert answer.status == 400


# -- time


@pytest.mark.parametrize("sent", [b"", b"<s:Envelope", b"--b\r\nContent-ID: <1>\r\n\r\n"])
@pytest.mark.parametrize("content_type", ["application/soap+xml", MTOM])
def test_a_body_that_stops_coming_is_cut(service: Any, sent: bytes, content_type: str) -> None:
    head = f"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
    request = head.encode() + b"Content-Length: 10000\r\n\r\n" + sent
    started = time.monotonic()
    assert service.exchange(request).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 3
    assert settled(service).left == 0


def test_a_body_that_drips_is_cut(service: Any) -> None:
    with service.connect() as sock:
        sock.sendall(
            b"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\n"
            b"Content-Length: 10000\r\n\r\n"
        )
        sock.settimeout(0.05)
        started = time.monotonic()
        answer = b""
        while not answer and time.monotonic() - started < 5:
            sock.sendall(b" ")
            try:
                answer = sock.recv(100)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_sender_that_leaves_midway_leaves_nothing_behind(service: Any, envelope: Make) -> None:
    with service.connect() as sock:
        body = multipart(ROOT + envelope(), b"Content-ID: <1>\r\n\r\n" + b"x" * 3_000_000)
        sock.sendall(
            f"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: {MTOM}\r\n".encode()
            + b"Content-Length: 20000000\r\n\r\n"
            + body[:-100]
        )
    deadline = time.monotonic() + 5
    while not service.seen and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert service.seen[0][1] == "aborted"
    assert settled(service).left == 0


# -- handlers


def test_a_handlers_error_tells_the_caller_nothing(
    service: Any, envelope: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(text: str, _: object) -> str:
        raise ValueError(f"Mrs Secret {text}")

    service.handlers["say"] = fail
    with caplog.at_level(logging.ERROR):
        answer = service.post(envelope().encode())
    assert (answer.status, answer.codes) == (500, ["Receiver"])
    assert "urn:uuid:1" in (answer.text("Text") or "")
    assert b"Secret" not in answer.body
    record = next(record for record in caplog.records if record.message == "call failed")
    assert record.__dict__["correlation_id"] == "urn:uuid:1"
    assert record.__dict__["outcome"] == "receiver" == service.seen[0][1]
    assert "ValueError" in record.__dict__["error"]
    assert "Secret" not in str(record.__dict__)


def test_a_peers_fault_is_not_passed_on(service: Any, envelope: Make) -> None:
    from soap.faults import PeerFault

    def fail(_text: str, _context: object) -> str:
        raise PeerFault("Sender", "the other node's words")

    service.handlers["say"] = fail
    answer = service.post(envelope().encode())
    assert answer.codes == ["Receiver"]
    assert b"other node" not in answer.body


def test_a_busy_handler_makes_503(service: Any, envelope: Make) -> None:
    def fail(_text: str, _context: object) -> str:
        raise SoapFault.busy()

    service.handlers["say"] = fail
    answer = service.post(envelope().encode())
    assert (answer.status, answer.codes) == (503, ["Receiver"])
    assert answer.headers["retry-after"].isdecimal()
    assert service.seen[0][1] == "busy"


def test_an_invalid_body_gets_the_transactions_own_refusal(service: Any, envelope: Make) -> None:
    answer = service.post(envelope("<t:Say xmlns:t='urn:test'><x/></t:Say>").encode())
    assert (answer.status, answer.text("Action")) == (200, "urn:test:SayResponse")
    assert answer.text("SayResponse") == "refused: Say holds text only"


class Broken(InMemory):
    """Content that cannot be read to its end."""

    def chunks(self) -> Any:
        yield self.data[:10]
        raise OSError("Mrs Secret's disk is broken")

    @property
    def size(self) -> int:
        return len(self.data)


def test_a_small_answer_that_cannot_be_read_is_a_fault(service: Any, envelope: Make) -> None:
    service.handlers["store"] = lambda *_: [Broken(b"x" * 100)]
    root = ROOT + envelope(store_body(), action="urn:test:Store")
    answer = service.post(multipart(root), MTOM)
    assert answer.status == 500
    assert b"Secret" not in answer.body


def test_a_large_answer_that_cannot_be_read_breaks_off(
    service: Any, envelope: Make, caplog: pytest.LogCaptureFixture
) -> None:
    service.handlers["store"] = lambda *_: [InMemory(b"x" * 3_000_000), Broken(b"x" * 3_000_000)]
    root = ROOT + envelope(store_body(), action="urn:test:Store")
    answer = service.post(multipart(root), MTOM)
    assert answer.status == 200
    assert len(answer.body) < int(answer.headers["content-length"])
    assert service.seen[0][1] == "broken"
    assert "Secret" not in caplog.text


class Unread(FileContent):
    """A file that nobody reads into memory."""

    def chunks(self) -> Any:
        raise AssertionError("the kernel can send it")


def test_what_lies_in_files_is_left_to_the_kernel(
    service: Any, envelope: Make, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in "ab"]
    contents = [bytes([number]) * 3_000_000 for number in (1, 2)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    service.handlers["store"] = lambda *_: [Unread(file, 3_000_000) for file in files]
    answer = service.post(multipart(ROOT + envelope(store_body(), action="urn:test:Store")), MTOM)
    assert len(answer.body) == int(answer.headers["content-length"])
    assert answer.body.index(contents[0]) < answer.body.index(contents[1])
    assert service.seen[0][1] == "ok"


def test_a_file_that_ends_too_soon_breaks_the_answer_off(
    service: Any, envelope: Make, tmp_path: Path
) -> None:
    file = tmp_path / "cut"
    file.write_bytes(b"x" * 2_000_000)
    service.handlers["store"] = lambda *_: [Unread(file, 3_000_000)]
    answer = service.post(multipart(ROOT + envelope(store_body(), action="urn:test:Store")), MTOM)
    assert 2_000_000 < len(answer.body) < int(answer.headers["content-length"])
    assert service.seen[0][1] == "broken"


def pieces(count: int, fail: bool = False) -> Iterator[bytes]:
    """A body of so many pieces of some 100 KB, all there or failing at its end."""
    yield b'<t:SayResponse xmlns:t="urn:test">'
    for _ in range(count):
        yield b"x" * 100_000
    if fail:
        raise RuntimeError("the rest cannot be made")
    yield b"</t:SayResponse>"


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_body_made_while_it_is_sent_arrives_whole(
    service: Any, client: Any, say: Any, count: int
) -> None:
    service.handlers["say"] = lambda _text, _context: pieces(count)
    assert client.call(service.url, say, "hello") == "x" * 100_000 * count


def test_a_body_that_cannot_be_made_to_its_end_breaks_off(service: Any, envelope: Make) -> None:
    service.handlers["say"] = lambda _text, _context: pieces(50, fail=True)
    answer = service.post(envelope().encode())
    assert answer.status == 200
    assert b"</t:SayResponse>" not in answer.body
    assert not answer.body.endswith(b"0\r\n\r\n")  # the end of a chunked body
    assert service.seen[0][1] == "broken"


def test_a_body_made_while_it_is_sent_travels_in_mtom_too(service: Any, envelope: Make) -> None:
    service.handlers["say"] = lambda _text, _context: pieces(20)
    root = "Content-Type: application/xop+xml\r\nContent-ID: <r>\r\n\r\n" + envelope()
    answer = service.post(multipart(root), MTOM)
    assert answer.headers["content-type"].startswith("multipart/related")
    assert answer.body.count(b"x" * 100_000) == 20
    assert b"</t:SayResponse>" in answer.body


def test_a_reader_that_leaves_ends_the_answer(service: Any, envelope: Make) -> None:
    read = []

    class Watched(InMemory):
        def chunks(self) -> Any:
            for _ in range(200):
                read.append(1)
                yield self.data

        @property
        def size(self) -> int:
            return 200 * len(self.data)

    service.handlers["store"] = lambda *_: [Watched(b"x" * 1_000_000)]
    body = multipart(ROOT + envelope(store_body(), action="urn:test:Store"))
    with service.connect() as sock:
        sock.sendall(
            f"POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: {MTOM}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert sock.recv(10) == b"HTTP/1.1 2"
    deadline = time.monotonic() + 5
    while not service.seen and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert service.seen[0][1] == "aborted"
    assert len(read) < 200


def test_other_methods_are_405(service: Any) -> None:
    answer = service.exchange(b"PUT /test HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405")
    assert service.exchange(
        b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    ).startswith(b"HTTP/1.1 404")


def test_the_page_for_people_speaks_english_and_french(service: Any) -> None:
    def get(*headers: str) -> Any:
        lines = ["GET /test HTTP/1.1", "Host: x", "Connection: close", *headers]
        return service.exchange("\r\n".join(lines).encode() + b"\r\n\r\n")

    for page in (get(), get("Accept-Language: de, en;q=0.5"), get("Accept-Language: xx")):
        assert b'lang="en"' in page
    french = get("Accept-Language: fr-CH, en;q=0.5")
    assert b'lang="fr"' in french
    body = french.partition(b"\r\n\r\n")[2].decode()
    assert "Opérations" in body
    assert "urn:test:Say" in body
    assert "<service>" not in body
    assert etree.HTML(body).findtext(".//h1") == "Test <service>"
    assert b"content-security-policy: default-src 'none'" in french
