"""The audit record of a transaction: a pure description, and its DICOM form.

Covers the audit message of DICOM PS3.15 A.5 (schema A.5.1) as ITI TF-2 3.20 uses it. What
each transaction records is told in ``transactions.audit_events`` and by the ``audit``
function of the transaction's own module; sending and keeping records is done elsewhere.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum, IntEnum
from functools import lru_cache
from typing import NamedTuple

from transactions.body import escape_attribute, escape_text


class Coded(NamedTuple):
    """A coded value of an audit record: code, coding system, meaning."""

    code: str
    system: str
    meaning: str


class Side(Enum):
    """Which end of an exchange writes the record: both do, each its own."""

    CLIENT = "client"
    SERVER = "server"


class Action(Enum):
    """EventActionCode: what was done to the objects."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventOutcomeIndicator; MAJOR_FAILURE when no answer came or could be given at all."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


# RoleIDCode of the two ends (PS3.15 A.5.3, ITI TF-2 3.20): who sends data, who receives it.
SOURCE = Coded("110153", "DCM", "Source Role ID")
DESTINATION = Coded("110152", "DCM", "Destination Role ID")

# AuditSourceTypeCode "application server process": the code may stand alone (PS3.15 A.5.1).
_APPLICATION_SERVER = "4"
# Written forms kept, some 300 bytes each: the nodes and people at work, the codes of transactions.
_KEPT = 1024
_MACHINE_NAME, _IP_ADDRESS = "1", "2"  # NetworkAccessPointTypeCode


class Node(NamedTuple):
    """One end of an exchange.

    ``user_id`` is the SOAP endpoint's URI, for a synchronous client its process, for HL7 v2
    ``facility|application``; ``address`` a host name or an IP address; ``process_id`` that of
    the process writing the record, empty for the other end.
    """

    user_id: str
    address: str = ""
    process_id: str = ""


class Participant(NamedTuple):
    """An ActiveParticipant: a node or a person who took part."""

    user_id: str
    is_requestor: bool
    roles: tuple[Coded, ...] = ()
    alternative_user_id: str = ""
    user_name: str = ""
    address: str = ""


class Scene(NamedTuple):
    """The circumstances of one exchange, seen from ``side``: when, between whom, for whom.

    ``patient_id`` is filled in where the writer knows the patient and the message does not
    say (retrievals); ``users`` are the people behind the request, ``purpose_of_use`` why.
    """

    side: Side
    when: datetime
    client: Node
    server: Node
    source_id: str
    site_id: str = ""
    patient_id: str | None = None
    users: tuple[Participant, ...] = ()
    purpose_of_use: tuple[Coded, ...] = ()


class ParticipantObject(NamedTuple):
    """A ParticipantObjectIdentification: what the exchange was about.

    ``details`` are (type, value) in clear; ``instances`` counts the DICOM instances of a study,
    ``sop_classes`` by SOP class; ``step`` is the UID of a performed procedure step (MPPS) of it.
    """

    id: str
    type_code: int
    role: int
    id_type: Coded
    query: bytes | None = None
    details: tuple[tuple[str, str], ...] = ()
    instances: int | None = None
    sop_classes: tuple[tuple[str, int], ...] = ()
    step: str = ""


class AuditEvent(NamedTuple):
    """One audit record."""

    id: Coded
    type: Coded
    action: Action
    outcome: Outcome
    when: datetime
    participants: tuple[Participant, ...]
    source_id: str
    site_id: str = ""
    objects: tuple[ParticipantObject, ...] = ()
    outcome_description: str = ""
    purpose_of_use: tuple[Coded, ...] = ()


def to_xml(event: AuditEvent) -> bytes:
    """The record as a DICOM AuditMessage in UTF-8 (PS3.15 A.5.1)."""
    return "".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>\n<AuditMessage>',
            _event(event),
            *map(_participant, event.participants),
            _source(event.site_id, event.source_id),
            *map(_object, event.objects),
            "</AuditMessage>",
        )
    ).encode()


def _attributes(pairs: Iterable[tuple[str, str]]) -> str:
    """The attributes that have a value."""
    return "".join(f' {name}="{escape_attribute(value)}"' for name, value in pairs if value)


@lru_cache(_KEPT)
def _coded(element: str, value: Coded) -> str:
    attributes = _attributes(
        (
            ("csd-code", value.code),
            ("codeSystemName", value.system),
            ("originalText", value.meaning),
        )
    )
    return f"<{element}{attributes}/>"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _event(event: AuditEvent) -> str:
    moment = event.when.astimezone(UTC).isoformat(timespec="milliseconds")
    description = escape_text(event.outcome_description)
    if description:
        description = f"<EventOutcomeDescription>{description}</EventOutcomeDescription>"
    purposes = "".join([_coded("PurposeOfUse", purpose) for purpose in event.purpose_of_use])
    return (
        f'<EventIdentification EventActionCode="{event.action.value}"'
        f' EventDateTime="{moment.replace("+00:00", "Z")}"'
        f' EventOutcomeIndicator="{int(event.outcome)}">'
        f"{_coded('EventID', event.id)}{_coded('EventTypeCode', event.type)}"
        f"{description}{purposes}</EventIdentification>"
    )


def _access_point_type(address: str) -> str:
    """Whether ``address`` is a machine's name or an IP address."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return _MACHINE_NAME if address else ""
    return _IP_ADDRESS


@lru_cache(_KEPT)
def _participant(participant: Participant) -> str:
    attributes = _attributes(
        (
            ("UserID", participant.user_id or "unknown"),
            ("AlternativeUserID", participant.alternative_user_id),
            ("UserName", participant.user_name),
            ("UserIsRequestor", "true" if participant.is_requestor else "false"),
            ("NetworkAccessPointID", participant.address),
            ("NetworkAccessPointTypeCode", _access_point_type(participant.address)),
        )
    )
    roles = "".join(_coded("RoleIDCode", role) for role in participant.roles)
    return f"<ActiveParticipant{attributes}>{roles}</ActiveParticipant>"


@lru_cache(_KEPT)
def _source(site_id: str, source_id: str) -> str:
    attributes = _attributes((("AuditEnterpriseSiteID", site_id), ("AuditSourceID", source_id)))
    return (
        f"<AuditSourceIdentification{attributes}>"
        f'<AuditSourceTypeCode csd-code="{_APPLICATION_SERVER}"/></AuditSourceIdentification>'
    )


def _object(item: ParticipantObject) -> str:
    query = "" if item.query is None else _query(item.query)
    details = "".join([_detail(kind, value) for kind, value in item.details])
    return (
        "<ParticipantObjectIdentification"
        f' ParticipantObjectID="{escape_attribute(item.id or "unknown")}"'
        f' ParticipantObjectTypeCode="{item.type_code}"'
        f' ParticipantObjectTypeCodeRole="{item.role}">'
        f"{_coded('ParticipantObjectIDTypeCode', item.id_type)}"
        f"{query}{details}{_description(item)}</ParticipantObjectIdentification>"
    )


def _query(message: bytes) -> str:
    return f"<ParticipantObjectQuery>{_base64(message)}</ParticipantObjectQuery>"


@lru_cache(_KEPT)
def _detail(kind: str, value: str) -> str:
    """A ParticipantObjectDetail: its value always travels in base64."""
    attributes = _attributes((("type", kind), ("value", _base64(value.encode()))))
    return f"<ParticipantObjectDetail{attributes}/>"


def _description(item: ParticipantObject) -> str:
    """What is said of a study: its step, its instances."""
    counts = list(item.sop_classes)
    if item.instances is not None:
        counts.append(("", item.instances))
    if not counts and not item.step:
        return ""
    step = f"<MPPS{_attributes((('UID', item.step),))}/>" if item.step else ""
    classes = "".join(
        f"<SOPClass{_attributes((('UID', uid), ('NumberOfInstances', str(count))))}/>"
        for uid, count in counts
    )
    return f"<ParticipantObjectDescription>{step}{classes}</ParticipantObjectDescription>"
