"""Reports in HL7 v2: what an ORU^R01 or MDM message says of a document that it carries.

Covers ORU^R01 (HL7 2.3.1 chapter 7), MDM^T02 (a document), T10 (its replacement) and T11 (its
cancellation; chapter 9), with the study as RAD-28 and later versions name it: ZDS-1, IPC-3, an OBX
titled Study Instance UID; the accession number in IPC-1 or OBR-18. A document is a PDF or a CDA in
OBX-5: encapsulated data (ED; Base64, hexadecimal or plain) or text. Not covered: plain text that is
no CDA, references to documents elsewhere (RP), several documents in one message.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hl7.ack import REJECT
from hl7.adt import NULL, PROCESSING_IDS, TIME, VERSIONS, Refused, refuse
from hl7.demographics import Identifier, read_identifiers
from hl7.errors import (
    DATA_TYPE,
    REQUIRED_FIELD_MISSING,
    SEGMENT_SEQUENCE,
    TABLE_VALUE,
    UNSUPPORTED_EVENT,
    UNSUPPORTED_MESSAGE_TYPE,
    UNSUPPORTED_PROCESSING_ID,
    UNSUPPORTED_VERSION,
    Problem,
)
from hl7.escapes import unescape
from hl7.message import Message

RESULT, DOCUMENT = "ORU", "MDM"
REPLACEMENT, CANCELLATION = "T10", "T11"
EVENTS = {RESULT: ("R01",), DOCUMENT: ("T02", REPLACEMENT, CANCELLATION)}

# HL7 tables 0085 and 0123: final, corrected; and deleted, wrong, cancelled.
_FINAL = frozenset("FC")
_WITHDRAWN = frozenset("DWX")
# HL7 table 0271 (TXA-17): authenticated, legally authenticated.
_AUTHENTICATED = frozenset({"AU", "LA"})
# DCM: "DICOM Study" and "Study Instance UID".
_STUDY_CODES = frozenset({"113014", "110180"})
_TEXTS = frozenset({"TX", "FT", "ST"})
_DECLARED = re.compile(r"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
# Encodings in which XML is read from outside besides UTF-8 (soap.xml).
_LATIN = frozenset({"iso-8859-1", "iso-8859-15", "windows-1252", "us-ascii"})
_UID = re.compile(r"[0-9][0-9.]{0,63}")


class Completion(StrEnum):
    """How far a report is."""

    PRELIMINARY = "preliminary"
    FINAL = "final"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMessage:
    """What a message says of a report; empty is "not known", times are as HL7 writes them.

    ``numbers`` are what the sender calls the report, and then what it replaces. The author is
    ``(identifier, authority, family, given)``. A withdrawal may come without a ``document``.
    """

    sender: str
    numbers: tuple[str, ...]
    completion: Completion
    sent_at: str
    created: str
    title: str
    author: tuple[str, str, str, str]
    patient: tuple[Identifier, ...]
    study_instance_uid: str
    accession_number: str
    accession_authority: str
    filler_number: str
    """The number of the department's order, which many departments use as accession number."""
    document: bytes

    @property
    def is_pdf(self) -> bool:
        """Whether the document is a PDF; it is a CDA otherwise."""
        return self.document.startswith(b"%PDF-")


def read_report(message: Message) -> ReportMessage:
    """The report in ``message``.

    Raises Refused: AR for a type, event, processing id or version that is not taken, AE with
    every fault found for wrong content.
    """
    _check_kind(message)
    documents = [(n, _document(message, n)) for n in range(1, message.count("OBX") + 1)]
    held = [(number, found) for number, found in documents if isinstance(found, bytes) and found]
    where, document = held[0] if held else (1, b"")
    completion = _completion(message, where)
    unreadable = [found for _, found in documents if isinstance(found, Problem)]
    is_needed = completion is not Completion.WITHDRAWN and not unreadable
    refuse([*_missing(message), *unreadable, *_number_of_documents(held, is_needed)])
    accession, authority = _accession(message)
    report = ReportMessage(
        sender=f"{message['MSH-4']}|{message['MSH-3']}",
        numbers=_numbers(message),
        completion=completion,
        sent_at=message["MSH-7"],
        created=message["OBR-22"] or message["TXA-6"],
        title=message["OBR-4.2"] or message[f"OBX[{where}]-3.2"],
        author=_author(message),
        patient=read_identifiers(message, "PID-3"),
        study_instance_uid=_study(message),
        accession_number=accession,
        accession_authority=authority,
        filler_number=message["OBR-3.1"] or message["TXA-15.1"],
        document=document,
    )
    refuse(list(_unkeepable(report)))
    return report


def _unkeepable(report: ReportMessage) -> Iterator[Problem]:
    """What the report is found by has no NUL, which PostgreSQL does not store."""
    named = (report.sender, *report.numbers, report.accession_number, report.filler_number)
    if any("\0" in text for text in (*named, report.accession_authority)):
        yield Problem(DATA_TYPE, "an identifier has a control character")


def _number_of_documents(held: list[tuple[int, bytes]], is_needed: bool) -> Iterator[Problem]:
    if len(held) > 1:
        text = f"{len(held)} documents in one message; expected one"
        yield Problem(SEGMENT_SEQUENCE, text, f"OBX^{held[1][0]}^5")
    if not held and is_needed:
        text = "no OBX-5 holds a PDF or a CDA document"
        yield Problem(REQUIRED_FIELD_MISSING, text, "OBX^1^5")


def _check_kind(message: Message) -> None:
    """Refuse what is not ours to judge."""
    kind, event = message["MSH-9.1"], message["MSH-9.2"]
    if kind not in EVENTS:
        text = f"message type {kind!r}; expected ORU or MDM"
        raise Refused(REJECT, UNSUPPORTED_MESSAGE_TYPE, text, "MSH^1^9^1^1")
    if event not in EVENTS[kind]:
        text = f"event {event!r}; expected one of {', '.join(EVENTS[kind])}"
        raise Refused(REJECT, UNSUPPORTED_EVENT, text, "MSH^1^9^1^2")
    if message["MSH-11.1"] not in PROCESSING_IDS:
        text = f"processing id {message['MSH-11.1']!r}; expected P, T or D"
        raise Refused(REJECT, UNSUPPORTED_PROCESSING_ID, text, "MSH^1^11^1^1")
    if message["MSH-12.1"] not in VERSIONS:
        text = f"version {message['MSH-12.1']!r}; expected 2.3.1 to 2.8"
        raise Refused(REJECT, UNSUPPORTED_VERSION, text, "MSH^1^12^1^1")


def _missing(message: Message) -> Iterator[Problem]:
    """Which report, and whose, must be said; two patients in one message are none."""
    found = message.count("PID")
    if found != 1:
        text = f"{found} PID segments; expected exactly one"
        yield Problem(SEGMENT_SEQUENCE, text, f"PID^{min(found + 1, 2)}")
    elif not read_identifiers(message, "PID-3"):
        yield Problem(REQUIRED_FIELD_MISSING, "PID-3 (patient identifiers) is required", "PID^1^3")
    for path, name in (("MSH-3", "sending application"), ("MSH-10", "message control id")):
        if message[path] in ("", NULL):
            segment, _, number = path.partition("-")
            text = f"{path} ({name}) is required"
            yield Problem(REQUIRED_FIELD_MISSING, text, f"{segment}^1^{number}")
    if not TIME.match(message["MSH-7"]):
        yield Problem(DATA_TYPE, "MSH-7 is no HL7 time: YYYYMMDDhhmmss expected", "MSH^1^7")
    if not _numbers(message):
        text, place = "OBR-3 (filler order number) or OBR-2 is required", "OBR^1^3"
        if message["MSH-9.1"] == DOCUMENT:
            text, place = "TXA-12 (unique document number) is required", "TXA^1^12"
        yield Problem(REQUIRED_FIELD_MISSING, text, place)


def _numbers(message: Message) -> tuple[str, ...]:
    """What the report is called; orders and documents may have the same numbers."""
    if message["MSH-9.1"] == RESULT:
        order = _entity(message, "OBR-3") or _entity(message, "OBR-2")
        return (f"order {order}",) if order else ()
    own, before = _entity(message, "TXA-12"), _entity(message, "TXA-13")
    if not own:
        return ()
    replaced = (f"document {before}",) if before and message["MSH-9.2"] == REPLACEMENT else ()
    return (f"document {own}", *replaced)


def _entity(message: Message, path: str) -> str:
    """An entity identifier (EI) as one text; empty without its first part."""
    parts = [message[f"{path}.{number}"] for number in (1, 2, 3)]
    return "" if parts[0] in ("", NULL) else "^".join(parts).rstrip("^")


def _completion(message: Message, where: int) -> Completion:
    """How far the report is: as far as the least of what is said of it."""
    result, order = message[f"OBX[{where}]-11"], message["OBR-25"]
    if message["MSH-9.2"] == CANCELLATION or {result, order} & _WITHDRAWN:
        return Completion.WITHDRAWN
    said = {result, order} - {""}
    is_final = bool(said) and said <= _FINAL
    if message["MSH-9.1"] == DOCUMENT and message["TXA-17"]:
        is_final = message["TXA-17"] in _AUTHENTICATED and said <= _FINAL
    return Completion.FINAL if is_final else Completion.PRELIMINARY


def _document(message: Message, number: int) -> bytes | Problem:
    """The document in an OBX; empty where there is none, a Problem where it cannot be read."""
    kind, location = message[f"OBX[{number}]-2"], f"OBX^{number}^5"
    field = message.field("OBX", 5, number)
    marks, codec = message.delimiters, message.codec
    if kind in _TEXTS:
        text = unescape(field, marks, codec).lstrip()
        if not text.startswith("<"):
            return b""
        document = _encoded(text)
    elif kind == "ED":
        parts = field.split(marks.component, 4)
        if len(parts) < 5:
            return Problem(DATA_TYPE, "ED has five components, the data last", location)
        try:
            document = _decoded(parts[3], unescape(parts[4], marks, codec))
        except ValueError as error:
            return Problem(DATA_TYPE, f"OBX-5.5: {error}", location)
    else:
        return b""
    if document.startswith(b"%PDF-") or b"ClinicalDocument" in document:
        return document
    return Problem(TABLE_VALUE, "OBX-5 is neither a PDF nor a CDA document", location)


def _decoded(encoding: str, data: str) -> bytes:
    """The bytes that ``data`` stands for (HL7 table 0299). Raises ValueError."""
    match encoding.strip().upper():
        case "BASE64":
            try:
                return base64.b64decode("".join(data.split()), validate=True)
            except binascii.Error:
                raise ValueError("this is no Base64") from None
        case "HEX":
            try:
                return bytes.fromhex(data)
            except ValueError:
                raise ValueError("these are no hexadecimal digits") from None
        case "A":
            return _encoded(data.lstrip())
    raise ValueError("the encoding (component 4) is Base64, Hex or A")


def _encoded(text: str) -> bytes:
    """XML that came as text of the message, in the encoding that it says itself."""
    declared = _DECLARED.match(text)
    name = declared[1].lower() if declared else ""
    return text.encode(name if name in _LATIN else "utf-8", "xmlcharrefreplace")


def _study(message: Message) -> str:
    """The Study Instance UID; empty for one that is no UID."""
    named = [message["ZDS-1.1"], message["IPC-3.1"]]
    for number in range(1, message.count("OBX") + 1):
        if message[f"OBX[{number}]-3.1"] in _STUDY_CODES:
            named.append(message[f"OBX[{number}]-5.1"])
    return next((uid for one in named if _UID.fullmatch(uid := one.strip())), "")


def _accession(message: Message) -> tuple[str, str]:
    """The accession number and its authority's OID."""
    if message["IPC-1.1"] not in ("", NULL):
        return message["IPC-1.1"], message["IPC-1.3"]
    number = message["OBR-18.1"]
    return ("", "") if number == NULL else (number, "")


def _author(message: Message) -> tuple[str, str, str, str]:
    """Who answers for the report: principal interpreter (OBR-32), else who signed (TXA-22)."""
    for identifier, authority, family, given in (
        ("OBR-32.1.1", "OBR-32.1.10", "OBR-32.1.2", "OBR-32.1.3"),
        ("TXA-22.1", "TXA-22.9.2", "TXA-22.2", "TXA-22.3"),
        ("TXA-9.1", "TXA-9.9.2", "TXA-9.2", "TXA-9.3"),
    ):
        if message[identifier] or message[family]:
            return message[identifier], message[authority], message[family], message[given]
    return "", "", "", ""
