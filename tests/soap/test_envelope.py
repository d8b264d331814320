"""Envelopes read and written; what is wrong with one becomes the right fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from soap.envelope import (
    Envelope,
    read_envelope,
    read_fault,
    require_addressing,
    write_fault,
    write_request,
    write_response,
)
from soap.faults import SOAP12, WSA, PeerFault, SoapFault
from soap.xml import parse

STANDARDS = Path(__file__).parents[2].parent / "shared" / "standards"
Make = Callable[..., str]


def read(text: str) -> Envelope:
    return read_envelope(parse(text.encode()))


def refused(text: str) -> SoapFault:
    with pytest.raises(SoapFault) as caught:
        read(text)
    return caught.value


def test_addressing_is_read_whatever_prefix_and_white_space() -> None:
    message = read(
        f"""<env:Envelope xmlns:env="{SOAP12}"
              xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b">
          <!-- c --><env:Header>
            <Action xmlns="{WSA}" env:mustUnderstand="true">
               urn:<![CDATA[test]]>:A<!-- x -->ct </Action>
            <w:MessageID xmlns:w="{WSA}"> urn:uuid:1 </w:MessageID>
            <w:RelatesTo xmlns:w="{WSA}">urn:uuid:0</w:RelatesTo>
            <w:RelatesTo xmlns:w="{WSA}" RelationshipType="urn:x">urn:uuid:9</w:RelatesTo>
            <w:ReplyTo xmlns:w="{WSA}"><w:Address> urn:here </w:Address></w:ReplyTo>
            <w:FaultTo xmlns:w="{WSA}"><w:Address>urn:there</w:Address></w:FaultTo>
          </env:Header>
          <env:Body> <x/> </env:Body></env:Envelope>"""
    )
    assert message.action == "urn:test:Act"
    assert (message.message_id, message.relates_to) == ("urn:uuid:1", "urn:uuid:0")
    assert (message.reply_to, message.fault_to) == ("urn:here", "urn:there")
    assert message.body.tag == "x"


def test_a_header_may_lack() -> None:
    assert read(f'<e:Envelope xmlns:e="{SOAP12}"><e:Body><x/></e:Body></e:Envelope>').action == ""


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<e:Header/>",
        "<e:Body/>",
        "<e:Body><x/><y/></e:Body>",
        "<e:Body><x/></e:Body><e:Body><x/></e:Body>",
        "<e:Body><x/></e:Body><e:Header/>",
        "<e:Header/><e:Header/><e:Body><x/></e:Body>",
        "<e:Header/><e:Body><x/></e:Body><z/>",
        "<Body><x/></Body>",
    ],
)
def test_an_envelope_without_one_body_of_one_element_is_the_senders_fault(content: str) -> None:
    fault = refused(f'<e:Envelope xmlns:e="{SOAP12}">{content}</e:Envelope>')
    assert (fault.code, fault.status) == ("Sender", 400)


@pytest.mark.parametrize("namespace", ["http://schemas.xmlsoap.org/soap/envelope/", "", "urn:x"])
def test_another_soap_is_a_version_mismatch(namespace: str) -> None:
    fault = refused(f'<Envelope xmlns="{namespace}"><Body><x/></Body></Envelope>')
    assert (fault.code, fault.status) == ("VersionMismatch", 500)


@pytest.mark.parametrize("flag", ["1", "true", " 1 "])
@pytest.mark.parametrize("role", ["", f'e:role="{SOAP12}/role/next"'])
def test_an_alien_header_that_must_be_understood_is_refused(
    envelope: Make, flag: str, role: str
) -> None:
    alien = f'<a:b xmlns:a="urn:a" xmlns:e="{SOAP12}" e:mustUnderstand="{flag}" {role}/>'
    fault = refused(envelope(headers=alien))
    assert (fault.code, fault.not_understood) == ("MustUnderstand", ("{urn:a}b",))
    assert fault.relates_to == "urn:uuid:1"


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        'e:mustUnderstand="0"',
        'e:mustUnderstand="false"',
        f'e:mustUnderstand="1" e:role="{SOAP12}/role/none"',
        'e:mustUnderstand="1" e:role="urn:other"',
    ],
)
def test_other_alien_headers_are_ignored(envelope: Make, attributes: str) -> None:
    read(envelope(headers=f'<a:b xmlns:a="urn:a" xmlns:e="{SOAP12}" {attributes}/>'))


@pytest.mark.parametrize("name", ["Action", "MessageID", "To", "ReplyTo", "FaultTo", "From"])
def test_an_addressing_header_given_twice_is_refused(envelope: Make, name: str) -> None:
    header = f'<w:{name} xmlns:w="{WSA}">x</w:{name}>'
    message = read(envelope(headers=header * 2))
    with pytest.raises(SoapFault) as caught:
        require_addressing(message)
    assert caught.value.subcode == f"{{{WSA}}}InvalidAddressingHeader"


@pytest.mark.parametrize("lacking", ["action", "message_id"])
def test_action_and_message_id_are_required(envelope: Make, lacking: str) -> None:
    message = read(envelope(**{lacking: None}))
    with pytest.raises(SoapFault) as caught:
        require_addressing(message)
    assert caught.value.subcode == f"{{{WSA}}}MessageAddressingHeaderRequired"


def test_a_request_carries_the_headers_of_the_framework() -> None:
    root = parse(b"".join(write_request([b"<x/>"], action="urn:a&b", message_id="m", to="u<v")))
    message = read_envelope(root)
    require_addressing(message)
    assert (message.action, message.message_id) == ("urn:a&b", "m")
    assert message.reply_to == f"{WSA}/anonymous"
    assert root.findtext(f".//{{{WSA}}}To") == "u<v"


def test_a_response_says_its_action_must_be_understood_and_what_it_relates_to() -> None:
    root = parse(b"".join(write_response([b"<x>", b"</x>"], action="urn:a", relates_to="<m>")))
    action = root.find(f".//{{{WSA}}}Action")
    assert action is not None
    assert action.get(f"{{{SOAP12}}}mustUnderstand") == "1"
    assert read_envelope(root).relates_to == "<m>"


@pytest.mark.parametrize(
    "fault",
    [
        SoapFault("Sender", "because < & >", subcode=f"{{{WSA}}}ActionNotSupported"),
        SoapFault("Receiver", "", subcode="{urn:x&y}z"),
        SoapFault("MustUnderstand", "é", not_understood=["{urn:a&b}c", "d"]),
        SoapFault("VersionMismatch", "old"),
    ],
)
def test_a_fault_comes_through(fault: SoapFault) -> None:
    root = parse(b"".join(write_fault(fault, relates_to="m")))
    message = read_envelope(root)
    read_back = read_fault(message.body)
    assert read_back is not None
    assert (read_back.code, read_back.reason, read_back.subcode) == (
        fault.code,
        fault.reason,
        fault.subcode,
    )
    assert isinstance(read_back, PeerFault)
    assert message.relates_to == "m"
    assert message.action.startswith(WSA)


def test_the_headers_of_faults_name_what_is_meant() -> None:
    lost = SoapFault("MustUnderstand", "x", not_understood=["{urn:a&b}c"])
    header = parse(b"".join(write_fault(lost, relates_to=None)))[0]
    block = header.find(f"{{{SOAP12}}}NotUnderstood")
    assert block is not None
    prefix, _, local = block.get("qname", "").partition(":")
    assert (block.nsmap[prefix], local) == ("urn:a&b", "c")
    header = parse(b"".join(write_fault(SoapFault("VersionMismatch", "x"), relates_to=None)))[0]
    supported = header.find(f"{{{SOAP12}}}Upgrade/{{{SOAP12}}}SupportedEnvelope")
    assert supported is not None
    assert supported.nsmap[supported.get("qname", "").partition(":")[0]] == SOAP12


def test_a_broken_fault_is_still_a_fault() -> None:
    for content in ("", "<s:Code><s:Value>:x y:</s:Value></s:Code>", "<s:Code/>"):
        fault = read_fault(parse(f'<s:Fault xmlns:s="{SOAP12}">{content}</s:Fault>'.encode()))
        assert fault is not None
        assert str(fault)


def test_another_body_is_no_fault() -> None:
    assert read_fault(etree.Element("Fault")) is None


def test_what_is_written_follows_the_published_schemas() -> None:
    folder = STANDARDS / "ws"
    if not folder.exists():
        pytest.skip("the published schemas are not at hand")
    schema = etree.XMLSchema(etree.parse(folder / "soap-1.2-envelope.xsd"))
    addressing = etree.XMLSchema(etree.parse(folder / "ws-addr.xsd"))
    fault = SoapFault("MustUnderstand", "x", subcode=f"{{{WSA}}}x", not_understood=["{u}a", "b"])
    for pieces in (
        write_request([b"<x/>"], action="urn:a", message_id="urn:m", to="urn:t"),
        write_response([b"<x/>"], action="urn:a", relates_to="urn:m"),
        write_fault(fault, relates_to="urn:m"),
        write_fault(SoapFault("VersionMismatch", "x"), relates_to=None),
    ):
        root = parse(b"".join(pieces))
        schema.assertValid(root)
        for header in root[0]:
            if header.tag.startswith(f"{{{WSA}}}"):
                addressing.assertValid(etree.fromstring(etree.tostring(header)))


def test_the_published_samples_are_read() -> None:
    folder = STANDARDS / "samples" / "soap"
    if not folder.exists():
        pytest.skip("the published samples are not at hand")
    for path in folder.glob("soap-*.xml"):
        assert read_envelope(parse(path.read_bytes())).body is not None, path.name
