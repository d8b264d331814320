"""Broken, forged and oversized input at every door of one running node.

Each is answered in the words of its own standard; afterwards nothing of it is stored, and every
door still serves whoever speaks properly.
"""

from __future__ import annotations

import email
import gzip
import http.client
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest
from lxml import etree
from pydicom.data import get_testdata_file

from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.foreign import run

SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"
WSA = "http://www.w3.org/2005/08/addressing"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
STATUS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:"

QUERY_ACTION = "urn:ihe:iti:2007:RegistryStoredQuery"
REGISTER_ACTION = "urn:ihe:iti:2007:RegisterDocumentSet-b"
PROVIDE_ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
XDS = "urn:ihe:iti:xds-b:2007"
SOAP_TYPE = "application/soap+xml; charset=UTF-8"
MTOM_TYPE = (
    'multipart/related; type="application/xop+xml"; start="<root@here>"; '
    'start-info="application/soap+xml"; boundary="edge"'
)

# Small enough that a test can exceed them at once; the node is told so by its environment.
XML_BYTES, MESSAGE_BYTES, HL7_BYTES, IDLE_SECONDS = 1024 * 1024, 2 * 1024 * 1024, 65536, 0.5
HEADER_SECONDS = 1.0
LIMITS = {
    "HEADER_SECONDS": HEADER_SECONDS,
    "XML_BYTES": XML_BYTES,
    "MESSAGE_BYTES": MESSAGE_BYTES,
    "HL7_MESSAGE_BYTES": HL7_BYTES,
    "IDLE_SECONDS": IDLE_SECONDS,
}
# Longer than an answer takes, and than the node waits for a silent sender.
SECONDS = 20.0
DATABASES = ("registry.db", "repository.db", "imaging.db")
FILES = ("documents", "images")
# What no input may cost any process of the node beyond what it has when it has started.
MEMORY_KIB = 256 * 1024


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    def fault(self) -> tuple[str, str]:
        """Code and subcode of the SOAP 1.2 fault in it, as local names."""
        root = etree.fromstring(self.body)
        codes = root.xpath("//s:Fault//s:Value/text()", namespaces={"s": SOAP12})
        code, *subcodes = [str(text).rpartition(":")[2] for text in codes]  # type: ignore[union-attr]
        return code, (subcodes or [""])[0]

    def errors(self) -> tuple[str, list[str]]:
        """Status and error codes of the registry response in it, without their prefix."""
        [response] = etree.fromstring(self._envelope()).iter(f"{{{RS}}}RegistryResponse")
        found = [error.get("errorCode", "") for error in response.iter(f"{{{RS}}}RegistryError")]
        return response.get("status", "").removeprefix(STATUS), found

    def _envelope(self) -> bytes:
        """The SOAP message, out of its MIME package where it came in one."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body)
        root = next(part for part in message.walk() if not part.is_multipart())
        return bytes(root.get_payload(decode=True))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    nodes = Nodes(tmp_path_factory.mktemp("hostile"))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in LIMITS.items():
            environment.setenv(f"KOSMOS__LIMITS__{name}", str(value))
        try:
            running = nodes.start()
            before = peaks(running)
            yield running
            after = peaks(running)
            assert after.keys() == before.keys()  # no process has died
            assert all(after[process] - before[process] < MEMORY_KIB for process in before)
        finally:
            nodes.close()


def peaks(node: RunningNode) -> dict[int, int]:
    """The most memory that each process of the node has had, in KiB."""
    waiting, found = [node.process.pid], {}
    while waiting:
        process = Path(f"/proc/{(pid := waiting.pop())}")
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
        found[pid] = int(peak)
        for thread in (process / "task").iterdir():
            waiting += map(int, (thread / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def unharmed(node: RunningNode) -> Iterator[None]:
    """After each test: nothing is stored that was not before, and every door answers."""
    before, halves = stock(node), half_stored(node)
    yield
    # What was refused is thrown away when its last reader has let go of it.
    await_(lambda: half_stored(node) <= halves)
    assert stock(node) == before
    assert post(node, query()).status == 200
    assert node.announce("GOOD") == "AA"
    assert echo(node).returncode == 0


def stock(node: RunningNode) -> dict[str, int]:
    """Rows of every table, and files of every store."""
    data = node.config.parent / "data"
    found = {name: sum(1 for _ in (data / name).glob("[0-9a-f][0-9a-f]/*")) for name in FILES}
    for name in DATABASES:
        with closing(sqlite3.connect(f"file:{data / name}?mode=ro", uri=True)) as database:
            tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            for (table,) in tables.fetchall():
                [(rows,)] = database.execute(f"SELECT count(*) FROM {table}")
                found[f"{name}.{table}"] = rows
    return found


def half_stored(node: RunningNode) -> set[Path]:
    """Files that are neither stored nor gone."""
    data = node.config.parent / "data"
    return {path for name in FILES for path in (data / name / "tmp").iterdir()}


# -- HTTP and SOAP


def web(node: RunningNode) -> tuple[str, int]:
    host, port = node.endpoints["registry"].split("/")[2].split(":")
    return host, int(port)


def post(
    node: RunningNode,
    body: bytes | Iterator[bytes],
    content_type: str = SOAP_TYPE,
    *,
    path: str = "/registry",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send an HTTP request, chunked where ``body`` comes in pieces."""
    with closing(http.client.HTTPConnection(*web(node), timeout=SECONDS)) as connection:
        given = {"Content-Type": content_type, **(headers or {})}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        kept = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, kept, answer.read())


def talk(address: tuple[str, int], *pieces: bytes, hang_up: bool = False) -> bytes:
    """Send bytes and read until the other side closes; ``hang_up``: close without reading."""
    with socket.create_connection(address, SECONDS) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if hang_up:
            return b""
        answer = bytearray()
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass  # closed with bytes of ours unread: an end like any other
        return bytes(answer)


def envelope(body: str, action: str | None = QUERY_ACTION, version: str = SOAP12) -> bytes:
    """A SOAP message, with WS-Addressing headers unless ``action`` is None."""
    headers = f"<a:Action>{action}</a:Action>" if action is not None else ""
    return (
        f'<s:Envelope xmlns:s="{version}" xmlns:a="{WSA}"><s:Header>{headers}'
        "<a:MessageID>urn:uuid:5b4d3a5e-6e7e-4f57-8a35-0d1f3a1c6a10</a:MessageID></s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


ASK = (
    '<q:AdhocQueryRequest xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"'
    f' xmlns:r="{RIM}"><q:ResponseOption returnComposedObjects="true" returnType="ObjectRef"/>'
    '<r:AdhocQuery id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d">'
    '<r:Slot name="$XDSDocumentEntryPatientId"><r:ValueList>'
    "<r:Value>'1^^^&amp;1.2.3&amp;ISO'</r:Value></r:ValueList></r:Slot>"
    '<r:Slot name="$XDSDocumentEntryStatus"><r:ValueList><r:Value>'
    "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')</r:Value></r:ValueList></r:Slot>"
    "</r:AdhocQuery></q:AdhocQueryRequest>"
)


def query() -> bytes:
    """A stored query that finds nothing."""
    return envelope(ASK)


def provide(documents: str) -> bytes:
    """An ITI-41 envelope around an empty submission and ``documents``."""
    submit = f'<l:SubmitObjectsRequest xmlns:l="{LCM}"><r:RegistryObjectList xmlns:r="{RIM}"/>'
    return envelope(
        f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{XDS}">{submit}'
        f"</l:SubmitObjectsRequest>{documents}</x:ProvideAndRegisterDocumentSetRequest>",
        PROVIDE_ACTION,
    )


DOCUMENT = (
    f'<x:Document xmlns:x="{XDS}" id="d"><i:Include '
    'xmlns:i="http://www.w3.org/2004/08/xop/include" href="cid:part@here"/></x:Document>'
)


def mime(*parts: tuple[str, bytes]) -> bytes:
    """A multipart body without its end; the first part is the root."""
    kinds = ['application/xop+xml; type="application/soap+xml"', "application/octet-stream"]
    pieces = []
    for number, (content_id, content) in enumerate(parts):
        head = f"Content-Type: {kinds[min(number, 1)]}\r\nContent-ID: <{content_id}>\r\n"
        pieces.append(b"--edge\r\n" + head.encode() + b"\r\n" + content + b"\r\n")
    return b"".join(pieces)


END = b"--edge--\r\n"


def test_a_message_without_action_is_told_which_header_is_required(node: RunningNode) -> None:
    answer = post(node, envelope(ASK, action=None))

    assert answer.status == 400
    assert answer.fault() == ("Sender", "MessageAddressingHeaderRequired")


def test_an_action_of_another_transaction_is_not_supported(node: RunningNode) -> None:
    answer = post(node, envelope(ASK, action=REGISTER_ACTION))

    assert answer.status == 400
    assert answer.fault() == ("Sender", "ActionNotSupported")


def test_a_soap_1_1_message_is_told_the_version_that_is_spoken(node: RunningNode) -> None:
    answer = post(node, envelope(ASK, version=SOAP11), "text/xml; charset=UTF-8")

    assert answer.status == 500
    assert answer.fault() == ("VersionMismatch", "")
    supported = etree.fromstring(answer.body).find(f".//{{{SOAP12}}}SupportedEnvelope")
    assert supported is not None


def test_a_header_that_must_be_understood_and_is_not_is_named(node: RunningNode) -> None:
    header = '<w:Security xmlns:w="urn:x" s:mustUnderstand="1"/></s:Header>'

    answer = post(node, query().replace(b"</s:Header>", header.encode()))

    assert answer.status == 500
    assert answer.fault() == ("MustUnderstand", "")


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"<a><b></a>", b"\x00\xff\xfe", b"\x1f\x8b\x08", query()[:-1], b"<a/>"]
)
def test_what_is_no_envelope_is_a_fault_of_its_sender(body: bytes, node: RunningNode) -> None:
    answer = post(node, body)

    assert answer.status in (400, 500)
    assert answer.fault()[0] in ("Sender", "VersionMismatch")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY e "expanded">',
        '<!ENTITY a "expanded"><!ENTITY e "&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY e SYSTEM "file:///etc/hostname">',
        '<!ENTITY % p SYSTEM "http://127.0.0.1:9/">%p;',
        '<!ENTITY % p SYSTEM "file:///dev/zero">%p;',
    ],
)
def test_a_document_type_is_refused_in_whatever_encoding(
    declared: str, encoding: str, node: RunningNode
) -> None:
    text = query().decode().replace("ObjectRef", "&e;", 1)

    answer = post(node, f"<!DOCTYPE s [{declared}]>{text}".encode(encoding))

    assert answer.status == 400
    assert answer.fault()[0] == "Sender"
    assert b"expanded" not in answer.body


@pytest.mark.parametrize("encoding", ["utf-7", "utf-32", "cp037"])
def test_encodings_that_hide_markup_are_refused(encoding: str, node: RunningNode) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{query().decode()}'

    answer = post(node, text.encode(encoding))

    assert answer.status == 400
    assert answer.fault()[0] == "Sender"


@pytest.mark.parametrize(
    "body",
    [
        "<x>" * 10_000 + "</x>" * 10_000,
        "<x " + " ".join(f'a{number}=""' for number in range(100_000)) + "/>",
        "<x/>" * 200_000,
    ],
    ids=["deep", "attributes", "elements"],
)
def test_xml_of_monstrous_shape_is_refused(body: str, node: RunningNode) -> None:
    answer = post(node, envelope(body))

    assert answer.status in (400, 413)
    assert answer.fault()[0] == "Sender"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MTOM_TYPE.replace('; boundary="edge"', ""), mime(("root@here", provide(""))) + END),
        (MTOM_TYPE.replace("edge", "other"), mime(("root@here", provide(""))) + END),
        (MTOM_TYPE.replace("root@here", "x@here"), mime(("root@here", provide(""))) + END),
        (MTOM_TYPE, mime(("root@here", provide("")))),
        (MTOM_TYPE, END),
        (MTOM_TYPE, b"--edge\r\nContent-Type: a/b\r\n" + b"X: y\r\n" * 100_000),
        (MTOM_TYPE, mime(("root@here", provide(DOCUMENT)), *[("part@here", b"x")] * 2) + END),
    ],
    ids=["no boundary", "other boundary", "no root", "no end", "no part", "head", "twice"],
)
def test_broken_mime_is_a_fault_of_its_sender(
    content_type: str, body: bytes, node: RunningNode
) -> None:
    answer = post(node, body, content_type, path="/repository")

    assert answer.status == 400
    assert answer.fault()[0] == "Sender"


def test_a_document_whose_part_is_not_there_is_refused(node: RunningNode) -> None:
    body = mime(("root@here", provide(DOCUMENT)), ("other@here", b"bytes")) + END

    answer = post(node, body, MTOM_TYPE, path="/repository")

    assert answer.status == 200
    status, errors = answer.errors()
    assert status == "Failure"
    assert errors == ["XDSRepositoryMetadataError"]


@pytest.mark.parametrize("href", ["cid:root@here", "http://{canary}/x", "file:///etc/hostname"])
def test_a_document_is_fetched_from_nowhere(href: str, node: RunningNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        address = f"127.0.0.1:{canary.getsockname()[1]}"
        document = DOCUMENT.replace("cid:part@here", href.format(canary=address))
        body = mime(("root@here", provide(document)), ("part@here", b"bytes")) + END

        answer = post(node, body, MTOM_TYPE, path="/repository")

        assert answer.status == 200
        assert answer.errors() == ("Failure", ["XDSRepositoryMetadataError"])
        with pytest.raises(BlockingIOError):
            canary.accept()


def test_an_include_that_is_no_document_brings_nothing(node: RunningNode) -> None:
    include = DOCUMENT.partition(">")[2].removesuffix("</x:Document>")
    entry = f'<r:ExtrinsicObject id="d"><r:Name>{include}</r:Name>{include}</r:ExtrinsicObject>'
    envelope = provide("").replace(
        f'<r:RegistryObjectList xmlns:r="{RIM}"/>'.encode(),
        f'<r:RegistryObjectList xmlns:r="{RIM}">{entry}</r:RegistryObjectList>'.encode(),
    )
    body = mime(("root@here", envelope), ("part@here", b"bytes")) + END

    answer = post(node, body, MTOM_TYPE, path="/repository")

    assert answer.status == 200
    assert answer.errors()[0] == "Failure"


def test_a_submission_without_mtom_is_told_to_use_it(node: RunningNode) -> None:
    answer = post(node, provide(""), path="/repository")

    assert answer.status == 415
    assert answer.fault()[0] == "Sender"


@pytest.mark.parametrize(
    "body",
    [
        f'<l:SubmitObjectsRequest xmlns:l="{LCM}"/>',
        f'<l:SubmitObjectsRequest xmlns:l="{LCM}"><r:RegistryObjectList xmlns:r="{RIM}"/>'
        "</l:SubmitObjectsRequest>",
        f'<l:SubmitObjectsRequest xmlns:l="{LCM}"><r:RegistryObjectList xmlns:r="{RIM}">'
        '<r:RegistryPackage/><r:ExtrinsicObject id="x"><r:Slot/></r:ExtrinsicObject>'
        "<r:Association/><r:Nonsense/></r:RegistryObjectList></l:SubmitObjectsRequest>",
    ],
    ids=["nothing", "empty", "fragments"],
)
def test_broken_ebrim_is_answered_by_the_registry_not_by_soap(body: str, node: RunningNode) -> None:
    answer = post(node, envelope(body, REGISTER_ACTION))

    assert answer.status == 200
    status, errors = answer.errors()
    assert status == "Failure"
    assert set(errors) <= {"XDSRegistryMetadataError", "XDSRegistryError"}
    assert errors


def test_a_declared_size_beyond_the_limit_is_refused_unread(node: RunningNode) -> None:
    head = (
        f"POST /registry HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP_TYPE}\r\n"
        f"Content-Length: {XML_BYTES + 1}\r\n\r\n"
    )

    answer = talk(web(node), head.encode())

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Sender" in answer


@pytest.mark.parametrize(
    ("content_type", "first", "size"),
    [
        (SOAP_TYPE, b"", XML_BYTES),
        (MTOM_TYPE, mime(("root@here", provide(DOCUMENT)), ("part@here", b"")), MESSAGE_BYTES),
    ],
)
def test_a_body_that_grows_beyond_the_limit_is_cut(
    content_type: str, first: bytes, size: int, node: RunningNode
) -> None:
    piece = bytes(64 * 1024)
    pieces = iter([first, *[piece] * (size // len(piece) + 1)])

    answer = post(node, pieces, content_type, path="/repository")

    assert answer.status == 413
    assert answer.fault()[0] == "Sender"


def half_a_document() -> bytes:
    """The head and the first half of an ITI-41 request, its document begun."""
    body = mime(("root@here", provide(DOCUMENT)), ("part@here", bytes(100_000)))
    head = (
        f"POST /repository HTTP/1.1\r\nHost: x\r\nContent-Type: {MTOM_TYPE}\r\n"
        f"Content-Length: {2 * len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_a_sender_that_leaves_in_the_midst_of_a_document_leaves_nothing(node: RunningNode) -> None:
    talk(web(node), half_a_document(), hang_up=True)


def test_a_sender_that_falls_silent_is_told_that_time_is_up(node: RunningNode) -> None:
    answer = talk(web(node), half_a_document())

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Sender" in answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("PUT", path, 405) for path in ("/registry", "/repository", "/imaging")),
        ("DELETE", "/registry", 405),
        ("TRACE", "/registry", 405),
        ("POST", "/nowhere", 404),
        ("GET", "/registry/../../etc/passwd", 404),
        ("GET", "/registry?xsd=../endpoint.py", 404),
        ("GET", "/%00", 404),
    ],
)
def test_a_wrong_method_or_path_gets_the_status_of_http(
    method: str, path: str, status: int, node: RunningNode
) -> None:
    answer = post(node, b"", path=path, method=method)

    assert answer.status == status
    assert status != 405 or "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("content_type", "headers", "status"),
    [
        ("application/json", {}, 415),
        ("", {}, 415),
        (SOAP_TYPE, {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_a_body_of_another_kind_is_an_unsupported_media_type(
    content_type: str, headers: dict[str, str], status: int, node: RunningNode
) -> None:
    assert post(node, gzip.compress(query()), content_type, headers=headers).status == status


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello\r\n\r\n", 400),
        (b"POST /registry HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /registry HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000, 431),
    ],
    ids=["tls", "words", "length", "head"],
)
def test_what_is_not_http_is_a_bad_request(
    request_bytes: bytes, status: int, node: RunningNode
) -> None:
    assert talk(web(node), request_bytes).startswith(b"HTTP/1.1 %d " % status)


# -- HL7 over MLLP


def mllp(node: RunningNode) -> tuple[str, int]:
    host, port = node.endpoints["mllp"].split(":")
    return host, int(port)


def acknowledged(node: RunningNode, *blocks: bytes) -> bytes:
    """Send bytes, then read one acknowledgement."""
    with socket.create_connection(mllp(node), SECONDS) as connection:
        connection.sendall(b"".join(blocks))
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            piece = connection.recv(65536)
            assert piece, "closed without an answer"
            answer += piece
        return answer


HEADER = b"MSH|^~\\&|A|B|C|D|20261122101500||%b|1|P|2.3.1\r"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", b"AE"),
        (b"no message", b"AE"),
        (b"PID|||1^^^&1.2.3&ISO\r", b"AE"),
        (bytes(range(32, 256)), b"AE"),
        (HEADER % b"ADT^A04", b"AE"),
        (HEADER % b"ORU^R01", b"AR"),
        (HEADER % b"ADT^A99", b"AR"),
    ],
    ids=["empty", "words", "no header", "bytes", "no patient", "type", "event"],
)
def test_a_broken_message_is_acknowledged_with_an_error(
    message: bytes, code: bytes, node: RunningNode
) -> None:
    assert b"\rMSA|" + code in acknowledged(node, b"\x0b", message, b"\x1c\r")


def test_bytes_outside_a_block_are_passed_over(node: RunningNode) -> None:
    noise = bytes(value for value in range(256) if value != 0x0B) * 10

    answer = acknowledged(node, noise, b"\x1c\r", b"\x0b", HEADER % b"ADT^A99", b"\x1c\r")

    assert b"\rMSA|AR" in answer


def test_a_block_without_an_end_is_no_message(node: RunningNode) -> None:
    assert talk(mllp(node), b"\x0b" + HEADER % b"ADT^A04", hang_up=True) == b""


def test_a_message_beyond_the_limit_closes_the_connection(node: RunningNode) -> None:
    assert talk(mllp(node), b"\x0b" + HEADER % b"ADT^A04", b"x" * 2 * HL7_BYTES) == b""


# -- DICOM

ABORT, REJECT = 0x07, 0x03


def dicom(node: RunningNode) -> tuple[str, int]:
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    return host, int(port)


def echo(node: RunningNode, called: str = "KOSMOS") -> subprocess.CompletedProcess[str]:
    host, port = dicom(node)
    return run("echoscu", "-to", "5", "-aec", called, host, str(port))


def store(
    node: RunningNode, file: Path, called: str = "KOSMOS"
) -> subprocess.CompletedProcess[str]:
    host, port = dicom(node)
    return run("storescu", "-v", "-aec", called, host, str(port), file)


def image() -> Path:
    """A real image."""
    return Path(str(get_testdata_file("CT_small.dcm")))


def test_another_application_entity_is_not_reached_here(node: RunningNode) -> None:
    for refused in (echo(node, "OTHER"), store(node, image(), "OTHER")):
        assert refused.returncode != 0
        assert "Called AE Title Not Recognized" in refused.stdout


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (struct.pack(">BxI", 0x01, 0xFFFFFFFF), 6),
        (struct.pack(">BxI", 0x2A, 4) + bytes(4), 1),
        (struct.pack(">BxI", 0x04, 8) + bytes(8), 2),
        (b"GET / HTTP/1.1\r\n\r\n", 1),
    ],
    ids=["4 GB", "unknown", "data first", "http"],
)
def test_a_broken_pdu_is_answered_by_an_abort_with_its_reason(
    pdu: bytes, reason: int, node: RunningNode
) -> None:
    answer = talk(dicom(node), pdu)

    # PS3.8 9.3.8: type, reserved, length 4, two reserved, source 2 (the provider), reason.
    assert answer == struct.pack(">BxIxxBB", ABORT, 4, 2, reason)


def test_a_broken_association_request_is_aborted_or_rejected(node: RunningNode) -> None:
    answer = talk(dicom(node), struct.pack(">BxI", 0x01, 100) + b"\xff" * 100)

    assert answer[:1] in (bytes([ABORT]), bytes([REJECT]))


def test_silent_connections_do_not_keep_others_out(node: RunningNode) -> None:
    # More than one address may hold.
    with ExitStack() as held:
        for _ in range(100):
            held.enter_context(socket.create_connection(dicom(node), SECONDS))
        assert echo(node).returncode == 0


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_image_without_its_identifiers_is_refused(
    keyword: str, node: RunningNode, tmp_path: Path
) -> None:
    broken = pydicom.dcmread(image())
    setattr(broken, keyword, "")
    broken.save_as(tmp_path / "broken.dcm")

    told = store(node, tmp_path / "broken.dcm").stdout

    assert "Received Store Response" in told
    assert "Success" not in told


# -- everybody at once


def test_five_hundred_silent_sockets_do_not_slow_the_others_down(node: RunningNode) -> None:
    began = {
        web(node): [b"", b"POST /registry HTTP/1.1\r\nHost: x\r\n", half_a_document()],
        mllp(node): [b"\x0b" + HEADER % b"ADT^A04"],
        dicom(node): [b"\x01"],
    }
    with ExitStack() as held:
        silent = []
        for address, beginnings in began.items():
            for number in range(500 // len(began)):
                connection = socket.create_connection(address, SECONDS)
                silent.append((address, held.enter_context(connection)))
                connection.sendall(beginnings[number % len(beginnings)])
        waited = []
        for _ in range(10):
            started = time.monotonic()
            assert post(node, query()).status == 200
            asked = acknowledged(node, b"\x0b", HEADER % b"ADT^A99", b"\x1c\r")
            assert b"\rMSA|AR" in asked
            waited.append(time.monotonic() - started)
        assert echo(node).returncode == 0
        assert max(waited) < 2.0
        for address, connection in silent:
            if address == web(node):  # the other doors' deadlines have tests of their own
                assert ended(connection)


def ended(connection: socket.socket) -> bool:
    """Whether the node closes it, with or without a last word, within SECONDS."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


# -- configuration


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_a_misspelt_key_ends_in_exit_3_and_the_nearest_key(verb: str, node: RunningNode) -> None:
    wrong = node.config.with_name("wrong.toml")
    wrong.write_text(node.config.read_text().replace("home_community_id", "home_comunity_id"))

    command = [sys.executable, "-m", "node.cli", verb, "--lang", "en", "--config", str(wrong)]
    ended = subprocess.run(command, capture_output=True, text=True)

    assert ended.returncode == 3
    assert "node.home_comunity_id: unknown key; did you mean node.home_community_id?" in (
        ended.stderr
    )
    assert "Traceback" not in ended.stderr
