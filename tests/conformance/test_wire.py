"""HTTP as the kit speaks it, and the messages it makes by hand."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from conformance import material
from conformance.cases.web_services import SHAPES
from conformance.evidence import Record
from conformance.identity_v3 import ADD, MERGE, REVISE, message_of
from conformance.mime import MixedMessage
from conformance.streams import MIB, Checksum, Generated
from conformance.targets import Targets
from conformance.wire import Post, Wire
from metadata.affinity_domain import AffinityDomain
from metadata.validation import validate_submission
from soap.media import parse_media_type
from soap.message import Incoming, MemorySpool
from soap.mtom import Assembly, Ledger
from soap.xml import parse
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41

TARGETS = Targets()
PATIENT = TARGETS.cx("P")


@contextmanager
def canned(answer: bytes, *, read: bool = True) -> Iterator[str]:
    """A server that gives one canned answer, having read the request or not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                if read:
                    connection.recv(1 << 20)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/registry?x=1"
        thread.join(5)


def wire(record: Record) -> Wire:
    return Wire(record, 2.0, None)


POST = Post.of("application/soap+xml", b"<hello/>")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "no answer"),
        (b"nonsense\r\n\r\n", "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<a/>x", "no SOAP envelope"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>", "no SOAP envelope"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/related; boundary=b\r\n"
            b"Content-Length: 4\r\n\r\nnone",
            "",
        ),
    ],
)
def test_an_answer_without_sense_is_a_problem_and_not_an_error(answer: bytes, problem: str) -> None:
    record = Record()
    with canned(answer) as url:
        seen = wire(record).send(url, POST, ITI_18)
    assert seen.response is None
    assert seen.problem
    assert problem in seen.problem
    assert record.exchanges[0].request.text == "<hello/>"


def test_nobody_listening_is_a_problem() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert "ConnectionRefused" in wire(Record()).send(url, POST, ITI_18).problem


def test_both_sides_are_recorded() -> None:
    record = Record()
    with canned(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno") as url:
        seen = wire(record).send(url, POST, ITI_18)
    assert seen.http_status == 404
    exchange = record.exchanges[0]
    assert exchange.response is not None
    assert exchange.response.line == "HTTP 404 Not Found"
    assert exchange.response.text == "no"
    assert exchange.request.headers["Content-Length"] == "8"


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_holds_the_same_documents(name: str) -> None:
    content = b"line\n\r\nline \x00\xff=3D" * 20
    entries = [material.provided(material.document_entry(TARGETS, PATIENT)) for _ in range(3)]
    submission = material.submission(TARGETS, PATIENT, *entries)
    first, second, third = (entry.entry_uuid for entry in entries)
    parts = {second: content, third: b"third"}
    post = MixedMessage(submission, {first: content}, parts, SHAPES[name]).post()
    assembly = Assembly(parse_media_type(post.content_type), Ledger(MemorySpool))
    for piece in post.body:
        assembly.feed(piece)
    root, attachments = assembly.finish()
    body = parse(root)[1][0]
    request = ITI_41.read_request(Incoming(body, attachments=attachments))
    documents = {uuid: b"".join(one.chunks()) for uuid, one in request.documents.items()}
    assert documents == {first: content, **parts}
    assert request.unreferenced_parts == []


def test_the_made_up_metadata_is_valid() -> None:
    folder = material.folder(TARGETS, PATIENT)
    entry = material.document_entry(TARGETS, PATIENT)
    link = material.has_member(folder.entry_uuid, entry.entry_uuid)
    submission = material.submission(TARGETS, PATIENT, entry, folders=[folder], associations=[link])
    assert validate_submission(submission, TARGETS.domain) == []


def test_open_code_sets_get_made_up_codes() -> None:
    domain = AffinityDomain.from_mapping({"assigning_authority": "1.2.3"})
    targets = Targets(domain=domain, assigning_authority="1.2.3")
    patient = targets.cx("P")
    submission = material.submission(targets, patient, material.document_entry(targets, patient))
    assert validate_submission(submission, domain) == []


@given(st.integers(0, 3 * MIB))
@settings(max_examples=10, deadline=None)
def test_a_generated_document_is_what_its_checksum_says(size: int) -> None:
    content = Generated(size)
    spool = Checksum()
    digest = hashlib.sha1(usedforsecurity=False)
    for chunk in content.chunks():
        spool.write(chunk)
        digest.update(chunk)
    received = spool.finish()
    assert (
        (received.size, received.sha1)
        == (content.size, content.sha1())
        == (size, digest.hexdigest())
    )


def test_the_envelope_of_a_message_by_hand_is_well_formed() -> None:
    entry = material.provided(material.document_entry(TARGETS, PATIENT))
    message = MixedMessage(
        material.submission(TARGETS, PATIENT, entry), {entry.entry_uuid: b"x"}, {}
    )
    assert etree.fromstring(message.root()) is not None


@pytest.mark.parametrize("number", [ADD, REVISE, MERGE])
def test_the_identity_messages_by_hand_are_valid(number: str) -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "standards" / "hl7v3"
    schemas = shared / "schema" / "HL7V3" / "NE2008" / "multicacheschemas"
    if not schemas.is_dir():
        pytest.skip("the official schemas of HL7 v3 are not on this machine")
    subsumed = TARGETS.cx("Q") if number == MERGE else None
    message = etree.fromstring(message_of(number, PATIENT, subsumed))
    etree.XMLSchema(etree.parse(schemas / f"PRPA_IN{number}UV02.xsd")).assertValid(message)
