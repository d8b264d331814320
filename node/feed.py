"""HL7 messages of ``kosmos feed``: announcing a patient, merging two (ITI-8, ITI-44)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from hl7.message import FieldValue, Message, build
from hl7.v3 import request
from hl7.v3.names import II
from hl7.v3.request import IdentityRequest

# HL7 table 0001 in the words of HL7 v3's AdministrativeGender; what is not known is left out.
GENDERS = {"F": "F", "M": "M", "O": "UN"}


@dataclass(frozen=True, slots=True)
class Person:
    """Whom to announce; ``name`` is FAMILY^GIVEN, the date YYYYMMDD, the sex that of table 0001."""

    identifier: str
    name: str = ""
    birth_date: str = ""
    sex: str = ""


def announce(person: Person, authority: str) -> bytes:
    """ADT^A04, Register a patient: makes the identifier known to the registry."""
    return build(
        [_header("A04"), ("EVN", "A04", _now()), _pid(person, authority), ("PV1", "", "O")]
    )


def merge(survivor: Person, subsumed: str, authority: str) -> bytes:
    """ADT^A40, Merge patient: from now on ``subsumed`` is ``survivor``."""
    segments = [_header("A40"), ("EVN", "A40", _now()), _pid(survivor, authority)]
    return build([*segments, ("MRG", (subsumed, "", "", ("", authority, "ISO")))])


def request_v3(
    person: Person, subsumed: str | None, authority: str, device: str
) -> IdentityRequest:
    """The same in HL7 v3: a record added, or merged into ``person``; ``device`` sends it (OID)."""
    family, _, given = person.name.partition("^")
    role = request.PatientRole(
        identifiers=[II(authority, person.identifier)],
        family=family,
        given=given.partition("^")[0],
        birth_time=person.birth_date,
        gender=GENDERS.get(person.sex, ""),
    )
    if subsumed is None:
        return request.add(role, device, device)
    return request.merge(role, II(authority, subsumed), device, device)


def acknowledgement(answer: bytes) -> tuple[str, str]:
    """The code of an acknowledgement (AA, AE, AR) and its words, if any.

    Raises hl7.errors.InvalidMessage.
    """
    message = Message.read(answer)
    return message["MSA-1"], message["ERR-8"] or message["MSA-3"]


def _header(event: str) -> tuple[FieldValue, ...]:
    structure = {"A04": "ADT_A01", "A40": "ADT_A39"}[event]
    control_id = secrets.token_hex(10)  # MSH-10 has 20 characters in HL7 2.3.1
    return (
        "MSH",
        *("KOSMOS", "KOSMOS", "REGISTRY", "REGISTRY", _now(), ""),
        ("ADT", event, structure),
        *(control_id, "P", "2.3.1", "", "", "", "", "", "UNICODE UTF-8"),
    )


def _pid(person: Person, authority: str) -> tuple[FieldValue, ...]:
    identifier = (person.identifier, "", "", ("", authority, "ISO"))
    name = tuple(person.name.split("^"))
    return ("PID", "", "", identifier, "", name, "", person.birth_date, person.sex)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S")
