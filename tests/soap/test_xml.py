"""XML from outside: what is read, what is refused, and that neither costs much."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from soap import xml
from soap.limits import Limits
from soap.xml import MAX_DEPTH, XMLRefused, parse

SMALL = Limits(envelope=100_000, elements=100, attributes=100)


@pytest.mark.parametrize(
    "data",
    [
        "<r>é</r>".encode(),
        b"\xef\xbb\xbf" + "<r>é</r>".encode(),
        '<?xml version="1.0" encoding="utf-8"?><r>é</r>'.encode(),
        '<?xml version="1.0" encoding="UTF-16"?><r>é</r>'.encode("utf-16"),
        '<?xml version="1.0" encoding="UTF-16"?>\n<r>é</r>'.encode("utf-16-be"),
        '<?xml version="1.0" encoding="UTF-16LE"?><r>é</r>'.encode("utf-16-le"),
        b"\xfe\xff" + "<r>é</r>".encode("utf-16-be"),
        "<?xml version='1.0' encoding='ISO-8859-1'?><r>é</r>".encode("latin-1"),
    ],
)
def test_the_encodings_of_health_networks_are_read(data: bytes) -> None:
    assert parse(data).text == "é"


def test_comments_instructions_and_cdata_do_not_split_text() -> None:
    assert parse(b"<r>ad<!-- x -->mi<?y z?>n<![CDATA[ & ]]>!</r>").text == "admin & !"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"not xml",
        b"<r>",
        b"<r></s>",
        b"<r/><r/>",
        b"<r>&undefined;</r>",
        b'<r a="1" a="2"/>',
        b"<p:r/>",
        b"<r>\xff\xfe\x80</r>",
        b"<r>\xc3(</r>",
        b"<r>a\0b</r>",
        b"\0" * 100,
        b"<r>&#0;</r>",
        b"\xff\xfe<\0r\0",
        b"\xff\xfe\0\xd8<\0",
        b'<?xml version="1.0" encoding="UTF-7"?><r>+ADw-b/+AD4-</r>',
        "<?xml version='1.0' encoding='cp037'?><r/>".encode("cp037"),
        "<r/>".encode("utf-32"),
        b'<?xml version="1.0"' + b" " * 300 + b'encoding="UTF-7"?>+ADw-r/+AD4-',
        '<?xml version="1.0" encoding="utf-32"?><r/>'.encode("utf-32-be"),
        b'<?xml version="1.0" encoding="no-such-thing"?><r/>',
        b"<r " + b"x" * 60_000 + b'="1"/>',
    ],
)
def test_what_is_not_well_formed_is_refused(data: bytes) -> None:
    with pytest.raises(XMLRefused):
        parse(data)


BOMB = (
    '<!DOCTYPE r [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    + ']><r a="&a9;">&a9;</r>'
)


QUADRATIC = f'<!DOCTYPE r [<!ENTITY a "{"a" * 50_000}">]><r>{"&a;" * 20_000}</r>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "document",
    [
        "<!DOCTYPE r><r/>",
        "<!-- --><!DOCTYPE r SYSTEM 'http://127.0.0.1:9/x.dtd'><r/>",
        '<!DOCTYPE r [<!ENTITY e "x">]><r>admin&e;.evil</r>',
        '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><r>&e;</r>',
        '<!DOCTYPE r [<!ENTITY % e SYSTEM "file:///etc/passwd"> %e;]><r/>',
        '<!DOCTYPE r [<!ENTITY % e SYSTEM "file:///dev/zero"> %e;]><r/>',
        "<?a?> <!-- > --> <!DOCTYPE r SYSTEM 'file:///dev/zero'><r/>",
        '<!DOCTYPE r [<!ATTLIST r a CDATA "default">]><r/>',
        BOMB,
        QUADRATIC,
    ],
)
def test_a_document_type_is_refused_in_every_encoding(document: str, encoding: str) -> None:
    with pytest.raises(XMLRefused):
        parse(document.encode(encoding))


def test_the_word_doctype_in_a_text_is_no_document_type() -> None:
    assert parse(b"<r><![CDATA[<!DOCTYPE r>]]></r>").text == "<!DOCTYPE r>"


def test_no_reference_makes_the_parser_fetch_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        url = f"http://127.0.0.1:{canary.getsockname()[1]}/"
        for document in (
            f'<!DOCTYPE r SYSTEM "{url}"><r/>',
            f'<!DOCTYPE r [<!ENTITY e SYSTEM "{url}">]><r>&e;</r>',
            f'<!DOCTYPE r [<!ENTITY % e SYSTEM "{url}"> %e;]><r/>',
        ):
            with pytest.raises(XMLRefused):
                parse(document.encode())
        xi = "http://www.w3.org/2001/XInclude"
        parse(f'<r xmlns:xi="{xi}"><xi:include href="{url}"/></r>'.encode())
        with pytest.raises(BlockingIOError):
            canary.accept()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_reference_makes_the_parser_open_a_file(tmp_path: Path) -> None:
    canary, calls = tmp_path / "canary", tmp_path / "calls"
    canary.write_text("<!ELEMENT r ANY>")
    documents = [
        f'<!DOCTYPE r SYSTEM "file://{canary}"><r/>',
        f'<!DOCTYPE r SYSTEM "{canary}"><r/>',
        f'<!DOCTYPE r [<!ENTITY e SYSTEM "file://{canary}">]><r>&e;</r>',
        f'<!DOCTYPE r [<!ENTITY % e SYSTEM "file://{canary}"> %e;]><r/>',
        f'<r xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{canary}"/></r>',
        f'<?xml-stylesheet href="{canary}"?><r/>',
    ]
    (tmp_path / "documents").write_text("\n".join(documents))
    read = (
        "import sys; from soap.xml import XMLRefused, parse\n"
        "for line in open(sys.argv[1], 'rb'):\n"
        "    try: parse(line)\n"
        "    except XMLRefused: pass\n"
    )
    command = ["strace", "-f", "-e", "trace=%file,%network", "-o", str(calls)]
    command += [sys.executable, "-c", read, str(tmp_path / "documents")]

    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)

    told = calls.read_text()
    assert str(tmp_path / "documents") in told  # what is opened is told
    assert str(canary) not in told
    assert "connect(" not in told


def test_a_parser_itself_opens_nothing() -> None:
    for huge in (False, True):
        with pytest.raises(XMLRefused):
            etree.fromstring(b'<!DOCTYPE r SYSTEM "file:///dev/zero"><r/>', xml._parser(huge=huge))


_MILLION = 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"<r>" + b"<a/>" * _MILLION + b"</r>",
        b"<r>" + b'<Slot name="a"/>' * _MILLION + b"</r>",
        b"<r>" + b"a" * 100 * _MILLION + b"</r>",
        b"<r " + b" ".join(b'xmlns:a%d="u"' % i for i in range(300_000)) + b"/>",
        b"<a>" * 10_000 + b"</a>" * 10_000,
    ],
    ids=["elements", "slots", "text", "namespaces", "depth"],
)
def test_what_is_monstrous_is_refused_at_once_and_costs_nothing(data: bytes) -> None:
    before, began = _resident_bytes(), time.process_time()
    with pytest.raises(XMLRefused):
        parse(data)
    assert time.process_time() - began < 1
    assert _resident_bytes() - before < 64 * _MILLION


def test_as_many_namespaces_as_are_allowed_cost_little() -> None:
    names = b" ".join(b'xmlns:a%d="u%d"' % (i, i) for i in range(100_000))
    used = b"".join(b"<a%d:x/>" % i for i in range(100_000))
    began = time.process_time()
    assert len(parse(b"<r " + names + b">" + used + b"</r>")) == 100_000
    assert time.process_time() - began < 5


def test_limits_of_size_and_number_hold() -> None:
    parse(b"<r>" + b"<a/>" * 90 + b"</r>", SMALL)
    for data in (
        b"<r>" + b" " * 100_000 + b"</r>",
        b"<r>" + b"<a/>" * 300 + b"</r>",
        b"<r " + b" ".join(b'a%d="1"' % i for i in range(200)) + b"/>",
        b"<r " + b" ".join(b'xmlns:a%d="u"' % i for i in range(200)) + b"/>",
    ):
        with pytest.raises(XMLRefused, match=r"larger|more than"):
            parse(data, SMALL)


@pytest.mark.parametrize("padding", [0, xml.LIBXML_TEXT_LIMIT])
def test_depth_is_bounded_in_small_and_in_huge_documents(padding: int) -> None:
    text = b" " * padding
    deep = b"<a>" * (MAX_DEPTH - 1) + text + b"</a>" * (MAX_DEPTH - 1)
    assert parse(deep).tag == "a"
    for levels in (MAX_DEPTH + 1, 10_000):
        with pytest.raises(XMLRefused):
            parse(b"<a>" * levels + text + b"</a>" * levels)


def test_inline_documents_beyond_the_parsers_own_limit_are_read() -> None:
    text = b"QUJD" * 5_000_000
    assert len(parse(b"<r>" + text + b"</r>").text or "") == len(text)


def test_invented_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "NAMES_BUDGET", 1_000_000)

    def document(round_: int) -> bytes:
        names = (f"<invented-{round_}-{i}-{'x' * 80}/>" for i in range(10_000))
        return f"<r>{''.join(names)}</r>".encode()

    for round_ in range(10):  # let the allocator find its size
        parse(document(round_))
    before = _resident_bytes()
    for round_ in range(10, 60):  # 50 MB of names
        parse(document(round_))
    assert _resident_bytes() - before < 25_000_000


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_only_one_exception_ever_escapes(data: bytes) -> None:
    for candidate in (data, b"<r>" + data + b"</r>", b"<?xml " + data + b"?><r/>"):
        try:
            parse(candidate)
        except XMLRefused:
            continue
