"""What an ADT message says of the patient as a person: for who keeps demographics (PIR).

Covers ADT^A08 and ADT^A40 as an image manager reads them in RAD-12 (RAD TF-2 4.12): PID-3, PID-5,
PID-7, PID-8 and MRG-1. Names, dates and sexes come out in the form of DICOM. Which identifiers
matter is left to whoever has images of the patient; a field that is absent changes nothing, and
one that is ``""`` says that the value is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hl7.adt import MERGE, NULL, UPDATE
from hl7.message import Message

_DATE = re.compile(r"[0-9]{8}")
# No DICOM value has one of these (PS3.5 6.1.3), and PostgreSQL does not store the first.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# HL7 table 0001 in DICOM's words (PS3.3 C.7.1.1); the rest of the table is "not known".
_SEXES = {"M": "M", "F": "F", "O": "O"}
# PN has family, given, middle, prefix and suffix; XPN has the suffix before the prefix.
_NAME_PARTS = (1, 2, 3, 5, 4)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A patient identifier; ``authority`` is an OID, or empty where only ``namespace`` is named."""

    value: str
    authority: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demographics:
    """The patient from now on; None leaves a value as it is.

    ``merged`` are the identifiers that stand for this patient from now on (A40). ``source`` is
    ``facility|application``.
    """

    identifiers: tuple[Identifier, ...]
    merged: tuple[Identifier, ...] = ()
    name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    source: str = ""


def read_demographics(message: Message) -> Demographics | None:
    """The demographics in an ADT^A08 or ADT^A40; None for any other message."""
    event = message["MSH-9.2"]
    if message["MSH-9.1"] != "ADT" or event not in (UPDATE, MERGE):
        return None
    return Demographics(
        identifiers=read_identifiers(message, "PID-3"),
        merged=read_identifiers(message, "MRG-1") if event == MERGE else (),
        name=_name(message),
        birth_date=_birth_date(message),
        sex=_sex(message),
        source=_printable(f"{message['MSH-4']}|{message['MSH-3']}"),
    )


def read_identifiers(message: Message, field: str) -> tuple[Identifier, ...]:
    """The patient identifiers in a field (CX), as they stand there; not those that no image has,
    for a control character in them."""
    found = []
    for number in range(1, message.count(field) + 1):
        path = f"{field}[{number}]"
        value = message[f"{path}.1"]
        authority, namespace = message[f"{path}.4.2"], message[f"{path}.4.1"]
        if value not in ("", NULL) and not _CONTROL.search(value + authority + namespace):
            found.append(Identifier(value, authority, namespace))
    return tuple(found)


def _name(message: Message) -> str | None:
    """The first name of PID-5 as a DICOM PN."""
    field = message.field("PID", 5)
    if field in ("", NULL):
        return "" if field == NULL else None
    parts = [message[f"PID-5.{number}"] for number in _NAME_PARTS]
    name = "^".join("" if part == NULL else part for part in parts)
    return _printable(name).rstrip("^")


def _printable(text: str) -> str:
    return _CONTROL.sub("", text)


def _birth_date(message: Message) -> str | None:
    """PID-7 as a date; one that names no day is not known to DICOM and changes nothing."""
    value = message["PID-7"]
    if value == NULL:
        return ""
    found = _DATE.match(value)
    return found[0] if found else None


def _sex(message: Message) -> str | None:
    value = message["PID-8"]
    return _SEXES.get(value.upper(), "") if value else None
