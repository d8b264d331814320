"""An audit message read: what a record is found by (DICOM PS3.15 A.5.1)."""

from __future__ import annotations

from datetime import UTC, datetime

from lxml import etree

from security.audit.trail import Record
from soap.faults import MessageError
from soap.xml import parse

# ParticipantObjectTypeCode and ...TypeCodeRole of a patient (PS3.15 A.5.1).
_PATIENT = ("1", "1")
_UNTOLD = 12  # major failure: what nobody can read is looked at


class BadAuditMessage(ValueError):
    """Bytes that are no DICOM audit message."""


def read_message(message: bytes, received: datetime) -> Record:
    """The record of a message; ``received`` stands in for a time that cannot be read.

    Messages in the form of RFC 3881 (``code`` for ``csd-code``) are read as well. Raises
    BadAuditMessage.
    """
    try:
        root = parse(message)
    except MessageError as error:
        raise BadAuditMessage("not well formed") from error
    event = root.find("EventIdentification")
    if root.tag != "AuditMessage" or event is None:
        raise BadAuditMessage("no AuditMessage with its EventIdentification")
    return Record(
        message=message,
        when=_moment(event.get("EventDateTime", ""), received),
        type=_code(event.find("EventTypeCode")) or _code(event.find("EventID")),
        action=event.get("EventActionCode", ""),
        outcome=_outcome(event.get("EventOutcomeIndicator", "")),
        patients=tuple(_patients(root)),
        users=tuple(_users(root)),
    )


def _code(element: etree._Element | None) -> str:
    if element is None:
        return ""
    return element.get("csd-code") or element.get("code") or ""


def _moment(text: str, received: datetime) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return received
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _outcome(text: str) -> int:
    return int(text) if text.isdecimal() else _UNTOLD


def _patients(root: etree._Element) -> list[str]:
    return [
        element.get("ParticipantObjectID", "")
        for element in root.iterchildren("ParticipantObjectIdentification")
        if _kind(element) == _PATIENT
    ]


def _kind(element: etree._Element) -> tuple[str | None, str | None]:
    return (
        element.get("ParticipantObjectTypeCode"),
        element.get("ParticipantObjectTypeCodeRole"),
    )


def _users(root: etree._Element) -> list[str]:
    names = ("UserID", "UserName")
    participants = root.iterchildren("ActiveParticipant")
    return [value for one in participants for name in names if (value := one.get(name))]
