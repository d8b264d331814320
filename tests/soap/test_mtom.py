"""MTOM messages put together and taken apart, in every form senders give them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from soap.faults import MessageError
from soap.limits import SERVER, Limits
from soap.media import parse_media_type
from soap.message import ContentError, Incoming, InMemory, MemorySpool, Part, Received
from soap.mtom import Assembly, Ledger, package

SAMPLES = Path(__file__).parents[2].parent / "shared" / "standards" / "samples" / "soap"
TYPE = 'multipart/related; type="application/xop+xml"; boundary="b"'


def assemble(
    data: bytes, content_type: str = TYPE, limits: Limits = SERVER, step: int = 1000
) -> tuple[bytes, dict[str, Received]]:
    assembly = Assembly(parse_media_type(content_type), Ledger(MemorySpool), limits)
    for start in range(0, len(data), step):
        assembly.feed(data[start : start + step])
    root, attachments = assembly.finish()
    return root, dict(attachments)


def body(*parts: str) -> bytes:
    return "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"


ROOT = "Content-ID: <r>\r\n\r\n<root/>"
ONE = "Content-ID: <1>\r\n\r\none"
TWO = "Content-ID: <2>\r\n\r\ntwo"


@given(st.lists(st.binary(max_size=2000), max_size=5), st.integers(1, 3000), st.booleans())
def test_what_is_packed_is_unpacked(contents: list[bytes], step: int, known: bool) -> None:
    parts = [Part(f"{index}@test", InMemory(data)) for index, data in enumerate(contents)]
    packed = package([b"<a>", b"</a>"], parts if known else iter(parts), action="urn:a")
    data = b"".join(packed.chunks())
    assert packed.length == (len(data) if known else None)
    root, attachments = assemble(data, packed.content_type, step=step)
    assert root == b"<a></a>"
    assert [content.size for content in attachments.values()] == [len(data) for data in contents]
    assert [b"".join(content.chunks()) for content in attachments.values()] == contents


@pytest.mark.parametrize(
    ("content_type", "parts"),
    [
        (TYPE, (ROOT, ONE, TWO)),
        (TYPE + '; start="<r>"', (ONE, ROOT, TWO)),
        (TYPE + "; start=r", (TWO, ONE, ROOT)),
        (TYPE + '; START=" <r> "; start-info="x;y"', (TWO, ROOT, ONE)),
        ("Multipart/Related;boundary=b;type=application/xop+xml", (ROOT, TWO, ONE)),
        (TYPE, (ROOT.replace("Content-ID: <r>\r\n", ""), ONE, TWO)),
        (TYPE, (ROOT.upper().replace("<ROOT/>", "<root/>"), ONE.replace("ID", "iD"), TWO)),
        (TYPE, (ROOT, "Content-ID: <1>\r\nContent-Transfer-Encoding: base64\r\n\r\nb2\r\n5l", TWO)),
        (
            TYPE,
            (
                ROOT,
                ONE,
                "content-id:<2>\r\ncontent-transfer-encoding: Quoted-Printable\r\n\r\nt=77o",
            ),
        ),
        (
            TYPE,
            ("Content-Transfer-Encoding: base64\r\n\r\nPHJvb3QvPg==", TWO, ONE),
        ),
    ],
)
def test_the_forms_of_a_package_are_all_understood(content_type: str, parts: tuple[str]) -> None:
    root, attachments = assemble(body(*parts), content_type)
    assert root == b"<root/>"
    assert {key: b"".join(content.chunks()) for key, content in attachments.items()} == {
        "1": b"one",
        "2": b"two",
    }


@pytest.mark.parametrize(
    ("content_type", "parts"),
    [
        (TYPE, (ROOT, ONE, ONE)),
        (TYPE, (ONE, ONE.replace("one", "x"))),
        (TYPE + "; start=r", (ROOT, ONE, ROOT)),
        (TYPE + '; start="<other>"', (ROOT, ONE)),
        (TYPE, (ROOT, "Content-Transfer-Encoding: nonsense\r\n\r\n")),
        (TYPE, (ROOT, "Content-Transfer-Encoding: base64\r\n\r\nQUJ")),
        (TYPE.replace("boundary", "b"), (ROOT,)),
        (TYPE, (ROOT, *(f"Content-ID: <{index}>\r\n\r\n" for index in range(6)))),
        (TYPE, ("Content-ID: <r>\r\n\r\n" + "x" * 101,)),
    ],
)
def test_a_broken_package_is_refused(content_type: str, parts: tuple[str]) -> None:
    with pytest.raises(MessageError):
        assemble(body(*parts), content_type, replace(SERVER, parts=5, envelope=100))


def test_a_large_part_is_never_held_in_memory_on_its_way_out_and_in() -> None:
    mebibyte, count = bytes(1024 * 1024), 64
    arrived: list[int] = []

    class Large(InMemory):
        size = count * len(mebibyte)

        def chunks(self) -> Iterator[bytes]:
            return iter([mebibyte] * count)

    class Counting(MemorySpool):
        def write(self, data: bytes) -> None:
            arrived.append(len(data))

    packed = package([b"<root/>"], [Part("large@test", Large(b""))], action="urn:a")
    assembly = Assembly(parse_media_type(packed.content_type), Ledger(Counting))
    tracemalloc.start()
    for chunk in packed.chunks():
        assembly.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert assembly.finish()[0] == b"<root/>"
    assert sum(arrived) == Large.size
    assert peak < 8 * len(mebibyte)


def test_a_part_without_a_name_is_kept_for_what_it_is() -> None:
    _, attachments = assemble(body(ROOT, "\r\nnameless"))
    assert list(attachments) == ["(part 2 has no Content-ID)"]


def test_every_spool_is_given_up_unless_kept() -> None:
    events: list[str] = []

    class Spool(MemorySpool):
        def finish(self) -> InMemory:
            class Content(InMemory):
                def discard(self) -> None:
                    events.append("discarded")

            return Content(super().finish().data)

        def abort(self) -> None:
            events.append("aborted")

    ledger = Ledger(Spool)
    assert not ledger
    assembly = Assembly(parse_media_type(TYPE), ledger)
    assembly.feed(body(ROOT, ONE, TWO)[:-10])
    assert ledger
    ledger.close()
    ledger.close()
    assert sorted(events) == ["aborted", "discarded"]


def test_a_part_that_is_not_as_long_as_it_said_is_noticed() -> None:
    class Liar(InMemory):
        @property
        def size(self) -> int:
            return 5

    for data in (b"four", b"sixsix"):
        with pytest.raises(ValueError, match="not as long"):
            b"".join(package([], [Part("1", Liar(data))], action="a").chunks())


def test_a_media_type_cannot_add_headers() -> None:
    part = Part("1", InMemory(b""), "text/plain\r\nContent-ID: <other>\r\n\r\nevil")
    packed = package([b"<r/>"], [part], action="a")
    _, attachments = assemble(b"".join(packed.chunks()), packed.content_type)
    assert list(attachments) == ["1"]


def include(href: str, before: str = "", after: str = "") -> etree._Element:
    xop = '<x:Include xmlns:x="http://www.w3.org/2004/08/xop/include"'
    return etree.fromstring(f'<Document>{before}{xop} href="{href}"/>{after}</Document>')


@pytest.mark.parametrize(
    ("content_id", "href"),
    [
        ("1@x", "cid:1@x"),
        ("1@x", "CID:1@x"),
        ("1@x", "cid:1%40x"),
        ("urn:uuid:1", "cid:urn%3Auuid%3A1"),
        ("1%40x", "cid:1%40x"),
    ],
)
def test_an_include_finds_its_part(content_id: str, href: str, read: Any) -> None:
    incoming = Incoming(etree.Element("x"), attachments={content_id: InMemory(b"one")})
    assert incoming.unused_parts() == [content_id]
    assert read(incoming.content(include(href, "\n ", "\n"))) == b"one"
    assert incoming.unused_parts() == []


@pytest.mark.parametrize(
    "element",
    [
        include("cid:2"),
        include("http://127.0.0.1/1"),
        include("file:///etc/passwd"),
        include(""),
        include("cid:"),
        include("cid:1", before="QUJD"),
        include("cid:1", after="QUJD"),
        etree.fromstring("<Document><other/></Document>"),
        etree.fromstring("<Document>not base64!</Document>"),
    ],
)
def test_an_include_that_is_not_right_is_refused(element: etree._Element) -> None:
    with pytest.raises(ContentError):
        Incoming(etree.Element("x"), attachments={"1": InMemory(b"one")}).content(element)


def test_the_root_is_no_document_of_itself() -> None:
    root, attachments = assemble(body(ROOT, ONE), TYPE + '; start="<r>"')
    incoming = Incoming(etree.fromstring(root), attachments=attachments)
    with pytest.raises(ContentError):
        incoming.content(include("cid:r"))


def test_a_boundary_inside_a_document_is_content() -> None:
    text = "one\r\n--bb\r\n --b--\r\nx--b--"
    _, attachments = assemble(body(ROOT, ONE.replace("one", text)), step=3)
    assert b"".join(attachments["1"].chunks()) == text.encode()


def test_a_part_can_be_included_once_only() -> None:
    incoming = Incoming(etree.Element("x"), attachments={"1": InMemory(b"one")})
    incoming.content(include("cid:1"))
    with pytest.raises(ContentError):
        incoming.content(include("cid:1"))


@given(st.binary(max_size=300))
def test_inline_base64_with_line_breaks_is_the_same_content(data: bytes) -> None:
    import base64

    text = base64.encodebytes(data).decode()
    element = etree.fromstring(f"<Document>\n  {text}\n</Document>")
    assert b"".join(Incoming(element).content(element).chunks()) == data


def sample(name: str) -> bytes:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip("the published samples are not at hand")
    return path.read_bytes()


def test_the_published_mtom_sample_is_read() -> None:
    data = sample("sample_mtom_message_body.txt")
    boundary = data.split(None, 1)[0].decode()[2:]
    root, attachments = assemble(data, f'multipart/related; boundary="{boundary}"')
    assert b"ProvideAndRegisterDocumentSetRequest" in root
    assert attachments


def test_the_published_http_sample_is_read() -> None:
    head, _, data = _split_head(sample("http-mtom-pnr.txt"))
    content_type = next(
        line.partition(":")[2] for line in head.decode().splitlines() if "multipart" in line
    )
    root, _ = assemble(data, content_type)
    assert b"ProvideAndRegisterDocumentSetRequest" in root


def _split_head(data: bytes) -> tuple[bytes, bytes, bytes]:
    for blank in (b"\r\n\r\n", b"\n\n", b"\n \n", b"\r\n \r\n"):
        if blank in data[:2000]:
            return data.partition(blank)
    raise AssertionError("the sample has no HTTP head")
