"""The SOAP 1.2 envelope and its WS-Addressing headers, read and written.

Covers SOAP 1.2 Part 1 (5.1 to 5.4: exactly one Body, mustUnderstand, faults), WS-Addressing
1.0 Core and SOAP Binding, and ITI TF-2 Appendix V.3. A body is written by joining its
pieces: it is never parsed again. Header blocks other than addressing and, where somebody
judges it, WS-Security are not acted upon; one that must be understood is refused.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree

from soap.faults import (
    HEADER_REQUIRED,
    INVALID_HEADER,
    MUST_UNDERSTAND,
    SENDER,
    SOAP12,
    VERSION_MISMATCH,
    WSA,
    WSSE,
    PeerFault,
    SoapFault,
)

ANONYMOUS = f"{WSA}/anonymous"
SECURITY = f"{{{WSSE}}}Security"

_ENVELOPE = f"{{{SOAP12}}}Envelope"
_HEADER = f"{{{SOAP12}}}Header"
_BODY = f"{{{SOAP12}}}Body"
_FAULT = f"{{{SOAP12}}}Fault"
_DETAIL = f"{{{SOAP12}}}Detail/*"
_MUST_UNDERSTAND = f"{{{SOAP12}}}mustUnderstand"
_ROLE = f"{{{SOAP12}}}role"
_OUR_ROLES = {None, "", f"{SOAP12}/role/next", f"{SOAP12}/role/ultimateReceiver"}
_ADDRESS = f"{{{WSA}}}Address"
_ADDRESSING = {
    f"{{{WSA}}}{name}": name
    for name in ("Action", "MessageID", "RelatesTo", "To", "From", "ReplyTo", "FaultTo")
}
_REPEATABLE = {"RelatesTo"}
_ENDPOINTS = {"From", "ReplyTo", "FaultTo"}

_OPEN = (
    f'<soap:Envelope xmlns:soap="{SOAP12}" xmlns:wsa="{WSA}"><soap:Header>'
    '<wsa:Action soap:mustUnderstand="1">'
)
_REPLY_TO = f"<wsa:ReplyTo><wsa:Address>{ANONYMOUS}</wsa:Address></wsa:ReplyTo>"
# Without mustUnderstand: whoever does not judge assertions may pass over one (ITI TF-2 3.40).
_SECURITY = f'<wsse:Security xmlns:wsse="{WSSE}">'
_CLOSE = b"</soap:Body></soap:Envelope>"


@dataclass(slots=True)
class Envelope:
    """What an envelope says: its addressing and the one element of its Body.

    ``repeated`` names the addressing headers given more than once; the first of them counts.
    ``security`` are its WS-Security headers.
    """

    body: etree._Element
    action: str = ""
    message_id: str | None = None
    relates_to: str | None = None
    to: str | None = None
    reply_to: str | None = None
    fault_to: str | None = None
    repeated: Sequence[str] = ()
    security: Sequence[etree._Element] = ()
    cut: Any = None
    """Whatever a gate has taken out of it before it was read."""
    judged: Any = None
    """Whatever a gate has found out of it so far."""


def read_envelope(root: etree._Element, *, understood: Container[str] = ()) -> Envelope:
    """Read a parsed message; ``understood`` are the names of further headers that are acted upon.

    Raises SoapFault: VersionMismatch for anything but a SOAP 1.2 Envelope, Sender for
    anything but one optional Header and one Body with one element, MustUnderstand for
    headers we do not know.
    """
    if root.tag != _ENVELOPE:
        raise SoapFault(VERSION_MISMATCH, "expected a SOAP 1.2 Envelope")
    children = list(root)
    header = children.pop(0) if children and children[0].tag == _HEADER else None
    if len(children) != 1 or children[0].tag != _BODY:
        raise SoapFault(SENDER, "an Envelope holds an optional Header, then exactly one Body")
    if len(children[0]) != 1:
        raise SoapFault(SENDER, f"the Body must hold one element, not {len(children[0])}")
    if header is None:
        return Envelope(children[0][0])
    properties, repeated = _read_header(header, understood)
    return Envelope(
        body=children[0][0],
        action=properties.get("Action", ""),
        message_id=properties.get("MessageID") or None,
        relates_to=properties.get("RelatesTo") or None,
        to=properties.get("To") or None,
        reply_to=properties.get("ReplyTo"),
        fault_to=properties.get("FaultTo"),
        repeated=repeated,
        security=list(header.iterchildren(SECURITY)),
    )


def _read_header(
    header: etree._Element, understood: Container[str]
) -> tuple[dict[str, str], list[str]]:
    """The addressing properties, and the names of those given more than once."""
    properties: dict[str, str] = {}
    not_understood, repeated = [], []
    for block in header:
        name = _ADDRESSING.get(block.tag)
        if name is None:
            if _must_understand(block) and block.tag not in understood:
                not_understood.append(block.tag)
        elif name not in properties:
            properties[name] = _value(block, name)
        elif name not in _REPEATABLE:
            repeated.append(name)
    if not_understood:
        raise SoapFault(
            MUST_UNDERSTAND,
            "header blocks that must be understood are not: " + ", ".join(not_understood),
            not_understood=not_understood,
            relates_to=properties.get("MessageID"),
        )
    return properties, repeated


def _must_understand(block: etree._Element) -> bool:
    flag = block.get(_MUST_UNDERSTAND)
    if flag is None or flag.strip() not in ("1", "true"):
        return False
    return block.get(_ROLE) in _OUR_ROLES


def _value(block: etree._Element, name: str) -> str:
    said: etree._Element | None = block
    if name in _ENDPOINTS:
        said = next(block.iterchildren(_ADDRESS), None)  # unlike findtext: compiles no path
    return ("" if said is None else said.text or "").strip()


def require_addressing(envelope: Envelope) -> None:
    """Insist on the headers every request carries (ITI TF-2 V.3.2.2): Action and MessageID,
    and none of them twice (WS-Addressing SOAP Binding 3.2).

    An absent ReplyTo means the anonymous address (WS-Addressing Core 3.2), so it may lack.
    """
    for name in envelope.repeated:
        raise SoapFault(SENDER, f"wsa:{name} is given twice", subcode=INVALID_HEADER)
    for name, value in (("Action", envelope.action), ("MessageID", envelope.message_id)):
        if not value:
            raise SoapFault(SENDER, f"wsa:{name} is required", subcode=HEADER_REQUIRED)


def write_response(
    body: Iterable[bytes], *, action: str, relates_to: str | None, headers: str = ""
) -> Iterable[bytes]:
    """The pieces of a response: its Action, what it relates to, further headers, its body.

    They are a Sequence if those of the body are.
    """
    head = f"{_OPEN}{escape(action)}</wsa:Action>"
    if relates_to:
        head += f"<wsa:RelatesTo>{escape(relates_to)}</wsa:RelatesTo>"
    opening = f"{head}{headers}</soap:Header><soap:Body>".encode()
    if isinstance(body, Sequence):
        return [opening, *body, _CLOSE]
    return chain([opening], body, [_CLOSE])


def security_header(token: str) -> str:
    """The WS-Security header whose content is ``token`` (XML); nothing without one."""
    return f"{_SECURITY}{token}</wsse:Security>" if token else ""


def write_request(
    body: Iterable[bytes], *, action: str, message_id: str, to: str, token: str = ""
) -> list[bytes]:
    """The pieces of a request that wants its answer on the same connection (V.3.2.2).

    ``token`` is the XML of what says who asks: the content of its WS-Security header.
    """
    security = security_header(token)
    head = (
        f"{_OPEN}{escape(action)}</wsa:Action><wsa:MessageID>{escape(message_id)}</wsa:MessageID>"
        f"{_REPLY_TO}<wsa:To>{escape(to)}</wsa:To>{security}</soap:Header><soap:Body>"
    )
    return [head.encode(), *body, _CLOSE]


def write_fault(fault: SoapFault, *, relates_to: str | None) -> Iterable[bytes]:
    """The pieces of the message that carries ``fault``."""
    subcode = ""
    if fault.subcode is not None:
        subcode = f"<soap:Subcode>{_qname('soap:Value', fault.subcode)}</soap:Subcode>"
    body = (
        f"<soap:Fault><soap:Code><soap:Value>soap:{fault.code}</soap:Value>{subcode}</soap:Code>"
        f'<soap:Reason><soap:Text xml:lang="en">{escape(fault.reason)}</soap:Text></soap:Reason>'
    )
    detail = b"<soap:Detail>%s</soap:Detail>" % fault.detail if fault.detail else b""
    pieces = [body.encode(), detail, b"</soap:Fault>"]
    return write_response(
        pieces, action=fault.action, relates_to=relates_to, headers=_fault_headers(fault)
    )


def _fault_headers(fault: SoapFault) -> str:
    if fault.code == VERSION_MISMATCH:  # SOAP 1.2 Part 1, 5.4.7: say which version we speak
        return '<soap:Upgrade><soap:SupportedEnvelope qname="soap:Envelope"/></soap:Upgrade>'
    return "".join(_not_understood(etree.QName(name)) for name in fault.not_understood)


def _not_understood(name: etree.QName) -> str:
    """SOAP 1.2 Part 1, 5.4.8."""
    if not name.namespace:
        return f'<soap:NotUnderstood qname="{escape(name.localname)}"/>'
    namespace = escape(name.namespace, {'"': "&quot;"})
    return f'<soap:NotUnderstood xmlns:n="{namespace}" qname="n:{name.localname}"/>'


def _qname(element: str, value: str) -> str:
    name = etree.QName(value)
    namespace = escape(name.namespace or "", {'"': "&quot;"})
    return f'<{element} xmlns:n="{namespace}">n:{name.localname}</{element}>'


def read_fault(body: etree._Element) -> PeerFault | None:
    """The fault in a Body's element, or None when it is something else."""
    if body.tag != _FAULT:
        return None
    code = body.find(f"{{{SOAP12}}}Code/{{{SOAP12}}}Value")
    subcode = body.find(f"{{{SOAP12}}}Code/{{{SOAP12}}}Subcode/{{{SOAP12}}}Value")
    reason = body.findtext(f"{{{SOAP12}}}Reason/{{{SOAP12}}}Text") or ""
    detail = (etree.tostring(one, with_tail=False) for one in body.iterfind(_DETAIL))
    return PeerFault(
        "" if code is None else _resolve(code).rpartition("}")[2],
        reason.strip(),
        subcode=None if subcode is None else _resolve(subcode),
        detail=b"".join(detail),
    )


def _resolve(element: etree._Element) -> str:
    """The QName in an element's text, in Clark notation; unknown prefixes are dropped."""
    prefix, colon, local = (element.text or "").strip().rpartition(":")
    namespace = element.nsmap.get(prefix if colon else None)
    return f"{{{namespace}}}{local}" if namespace else local
