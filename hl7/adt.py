"""Patient Identity Feed, ITI-8 and ITI-64: what an ADT message means to a Document Registry.

Covers ITI TF-2 3.8 for ADT^A01, A04, A05, A08 (Patient Identity Management) and ADT^A40
(Patient Identity Merge), HL7 2.3.1 with tolerance for the later 2.x versions, and ITI TF-2 3.64
for ADT^A43 (XAD-PID Link Change). A registry uses the identifiers of its own patient
identification domain and, of a link change, the local ones that moved: demographics are neither
read nor kept. Whether an identifier is known, or already subsumed, is judged by whoever holds
the patients. What ITI-44 says in HL7 v3 (``hl7.v3``) ends in the same ``IdentityFeed``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hl7.ack import ERROR, REJECT
from hl7.errors import (
    DATA_TYPE,
    DUPLICATE_KEY,
    REQUIRED_FIELD_MISSING,
    SEGMENT_SEQUENCE,
    UNKNOWN_KEY,
    UNSUPPORTED_EVENT,
    UNSUPPORTED_MESSAGE_TYPE,
    UNSUPPORTED_PROCESSING_ID,
    UNSUPPORTED_VERSION,
    Problem,
)
from hl7.message import Message
from metadata.datatypes import CX, HD

ADMISSIONS = frozenset({"A01", "A04", "A05"})
"""Events that make an identifier usable (ITI TF-2 3.8.4.1.4)."""

UPDATE = "A08"
MERGE = "A40"
LINK_CHANGE = "A43"
EVENTS = ADMISSIONS | {UPDATE, MERGE, LINK_CHANGE}

_NAMING_TWO = frozenset({MERGE, LINK_CHANGE})
"""Events about two identifiers of the domain: PID-3 has the one from now on, MRG-1 the former."""

PROCESSING_IDS = frozenset("PTD")
"""HL7 table 0103: production, training, debugging."""

VERSIONS = frozenset({"2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8"})
"""ITI-8 is 2.3.1; the fields a registry reads stand in the same places in all of these."""

REQUIRED = (
    ("MSH", 3, "sending application"),
    ("MSH", 4, "sending facility"),
    ("MSH", 5, "receiving application"),
    ("MSH", 6, "receiving facility"),
    ("MSH", 7, "date and time of the message"),
    ("MSH", 9, "message type"),
    ("MSH", 10, "message control id"),
    ("MSH", 11, "processing id"),
    ("MSH", 12, "version id"),
    ("PID", 3, "patient identifier list"),
)
"""ITI TF-2 3.8.4.1.2; MSH-1 and MSH-2 are seen to by the reader."""

NAME = ("PID", 5, "patient name")
"""Required by ITI-8 (3.8.4.1.2.3), not by ITI-64, which is about identifiers alone."""

PRIOR = ("MRG", 1, "prior patient identifier list")

NULL = '""'
"""HL7's explicit "delete this value": as an identifier, none."""

MOST_NAMED = 20
LONGEST_NAME = 256
"""Characters. What is told of a refused message is bounded: nobody has checked it; a CX of HL7
2.3.1 has 20 characters, and those of ITI TF-2 somewhat more."""

TIME = re.compile(r"\d{4}(\d\d){0,5}(\.\d{1,4})?([+-]\d{4})?\Z")


@dataclass(frozen=True, slots=True)
class IdentityFeed:
    """One identity event, already read down to what a registry acts on.

    ``identifiers`` are the patient's ids in the registry's own domain, at least one; for A40
    exactly one, the survivor, and ``subsumed`` the id that goes; for A43 exactly one, to which
    the ``local`` ids of other domains belong from now on, and ``previous`` the one they belonged
    to. ``sender`` is ``facility|application``, in HL7 v3 the sending device. ``control_id``
    (MSH-10, Message.id) and ``digest`` (SHA-256 of the message as received, hex) tell a
    redelivery from a new message. ``protected`` is what PD1-12 says of access to the patient's
    record (HL7 v2.3.1, 3.3.9.12); None where it says nothing. ``said_at`` is the message's own time
    (MSH-7), as it came; empty where it tells none.
    """

    event: str
    identifiers: tuple[CX, ...]
    subsumed: CX | None
    sender: str
    control_id: str
    digest: str
    previous: CX | None = None
    local: tuple[CX, ...] = ()
    protected: bool | None = None
    said_at: str = ""


@dataclass(frozen=True, slots=True)
class FeedOutcome:
    """What became of a feed: ``AA`` when its effect is durable, ``AE`` when it is refused.

    ``AR`` when nothing was done and the sender may send again.

    ``error_code`` (HL7 table 0357) and ``text`` explain a refusal.
    """

    ack_code: str
    error_code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Unapplied:
    """What a message that gives no identity event says of itself, as far as it could be read: one
    that is refused, has no effect, or is a report.

    ``identifiers`` (PID-3) and ``prior`` (MRG-1) are as they came, of whatever domain.
    """

    event: str
    sender: str
    control_id: str
    identifiers: tuple[str, ...]
    prior: str

    @classmethod
    def of(cls, message: Message) -> Unapplied:
        """What ``message`` says; of one that cannot be read, its header."""
        named = message.field("PID", 3).split(message.delimiters.repetition, MOST_NAMED)
        return cls(
            message["MSH-9.2"][:LONGEST_NAME],
            _sender(message)[:LONGEST_NAME],
            message["MSH-10"][:LONGEST_NAME],
            tuple(one[:LONGEST_NAME] for one in named[:MOST_NAMED] if one not in ("", NULL)),
            message.field("MRG", 1)[:LONGEST_NAME],
        )


class Refused(Exception):
    """A message that gives no identity event.

    ``ack_code`` is AE or AR; the first problem is spelt out, ``problems`` holds all of them.
    """

    def __init__(
        self,
        ack_code: str,
        error_code: str,
        text: str,
        location: str = "",
        further: Sequence[Problem] = (),
    ) -> None:
        super().__init__(text)
        self.ack_code = ack_code
        self.error_code = error_code
        self.text = text
        self.location = location
        self.problems = (Problem(error_code, text, location), *further)


class ForeignPatient(Refused):
    """A message without a single identifier of the registry's domain."""


class Place(NamedTuple):
    """Where a kind of message names identifiers: for people, and as locations for ERR-2."""

    name: str
    authority: str
    second: str
    identifier: str


PID_3 = Place("PID-3", "PID^1^3^1^4", "PID^1^3^2^1", "PID^1^3^1^1")
MRG_1 = Place("MRG-1", "MRG^1^1^1^4", "MRG^1^1^2^1", "MRG^1^1^1^1")


class Identifiers(NamedTuple):
    """The identifiers of one message: of our domain, formerly of our domain, of other domains."""

    own: Sequence[CX]
    prior: Sequence[CX] = ()
    local: Sequence[CX] = ()


def read_identity_feed(
    message: Message, domain_authority: HD, raw: bytes | None = None
) -> IdentityFeed:
    """The identity event that ``message`` carries, in the domain of ``domain_authority``.

    ``raw`` is the message as received, for the digest. Raises Refused: AR for a type, event,
    processing id or version we do not take, AE with every fault found for wrong content.
    """
    _check_kind(message)
    event = message["MSH-9.2"]
    refuse(list(_structure(message, event)) or list(_missing(message, event)))
    identifiers = _identifiers(message, domain_authority)
    check_identifiers(event, identifiers, PID_3, MRG_1)
    digest = _digest(message, raw)
    feed = identity_feed(event, identifiers, _sender(message), message["MSH-10"], digest)
    return replace(feed, protected=_PROTECTION.get(message["PD1-12"]), said_at=message["MSH-7"])


# Table 0136.
_PROTECTION = {"Y": True, "N": False}


def identity_feed(
    event: str, identifiers: Identifiers, sender: str, control_id: str, digest: str
) -> IdentityFeed:
    """The event of a message whose ``identifiers`` were found right."""
    prior = identifiers.prior[0] if identifiers.prior else None
    return IdentityFeed(
        event=event,
        identifiers=tuple(identifiers.own),
        subsumed=prior if event == MERGE else None,
        sender=sender,
        control_id=control_id,
        digest=digest,
        previous=prior if event == LINK_CHANGE else None,
        local=tuple(identifiers.local) if event == LINK_CHANGE else (),
    )


def refuse(faults: Sequence[Problem]) -> None:
    """Raise Refused, AE, when there are ``faults``."""
    if faults:
        first, *further = faults
        raise Refused(ERROR, first.code, first.detail, first.location, further)


def check_identifiers(event: str, identifiers: Identifiers, patient: Place, prior: Place) -> None:
    """Raise Refused when ``identifiers`` are not those that ``event`` needs."""
    faults = list(_identities(event, identifiers, patient, prior))
    if not identifiers.own and not identifiers.prior:
        first, *further = faults
        raise ForeignPatient(ERROR, first.code, first.detail, first.location, further)
    refuse(faults)


def _sender(message: Message) -> str:
    return f"{message['MSH-4']}|{message['MSH-3']}"


def _check_kind(message: Message) -> None:
    """Refuse what is not ours to judge; absent fields are left to the content checks."""
    kind, event = message["MSH-9.1"], message["MSH-9.2"]
    if kind != "ADT" and message.field("MSH", 9):
        text = f"message type {kind!r}; expected ADT"
        raise Refused(REJECT, UNSUPPORTED_MESSAGE_TYPE, text, "MSH^1^9^1^1")
    if kind == "ADT" and event not in EVENTS:
        text = f"event {event!r}; expected one of {', '.join(sorted(EVENTS))}"
        raise Refused(REJECT, UNSUPPORTED_EVENT, text, "MSH^1^9^1^2")
    processing_id = message["MSH-11.1"]
    if processing_id and processing_id not in PROCESSING_IDS:
        text = f"processing id {processing_id!r}; expected P, T or D"
        raise Refused(REJECT, UNSUPPORTED_PROCESSING_ID, text, "MSH^1^11^1^1")
    version = message["MSH-12.1"]
    if version and version not in VERSIONS:
        text = f"version {version!r}; expected 2.3.1"
        raise Refused(REJECT, UNSUPPORTED_VERSION, text, "MSH^1^12^1^1")


def _structure(message: Message, event: str) -> Iterator[Problem]:
    """One PID, and one MRG where two identifiers are named.

    EVN and PV1 are not missed: a registry reads neither, and an identity event lost for
    want of them would cost more than the sender's slip.
    """
    for segment in ("PID", "MRG") if event in _NAMING_TWO else ("PID",):
        found = message.count(segment)
        if found != 1:
            text = f"{found} {segment} segments in ADT^{event}; expected exactly one"
            yield Problem(SEGMENT_SEQUENCE, text, f"{segment}^{min(found + 1, 2)}")


def _missing(message: Message, event: str) -> Iterator[Problem]:
    required = [*REQUIRED] if event == LINK_CHANGE else [*REQUIRED, NAME]
    if event in _NAMING_TWO:
        required.append(PRIOR)
    for segment, number, name in required:
        # A name may be deleted (HL7 2.3.1 2.6: "" is a value); what we read must be there.
        absent = ("",) if (segment, number, name) == NAME else ("", NULL)
        if message.field(segment, number) in absent:
            text = f"{segment}-{number} ({name}) is required"
            yield Problem(REQUIRED_FIELD_MISSING, text, f"{segment}^1^{number}")
    time = message["MSH-7"]
    if time and not TIME.match(time):
        yield Problem(DATA_TYPE, "MSH-7 is no HL7 time: YYYYMMDDhhmmss expected", "MSH^1^7")


def _identifiers(message: Message, authority: HD) -> Identifiers:
    own, local = _by_domain(message, "PID-3", authority)
    prior, _ = _by_domain(message, "MRG-1", authority)
    return Identifiers(own, prior, local)


def _by_domain(message: Message, field: str, authority: HD) -> tuple[list[CX], list[CX]]:
    """The identifiers of ``field``, of our domain and of others, in order, once each.

    One of another domain without its OID is left out: nothing could be compared with it.
    """
    own: dict[CX, None] = {}
    local: dict[CX, None] = {}
    for repetition in range(1, message.count(field) + 1):
        path = f"{field}[{repetition}]"
        identifier = message[f"{path}.1"]
        named = HD(message[f"{path}.4.1"], message[f"{path}.4.2"], message[f"{path}.4.3"])
        if identifier in ("", NULL):
            continue
        if same_authority(named, authority):
            own[CX.of(identifier, authority.universal_id)] = None
        elif named.universal_id and named.universal_id_type in ("", "ISO"):
            local[CX.of(identifier, named.universal_id)] = None
    return list(own), list(local)


def same_authority(named: HD, own: HD) -> bool:
    """Whether the sender means our domain (ITI TF-2 3.8.4.1.2.3).

    The universal id decides; a namespace alone is completed from the configuration. A
    namespace beside our universal id is the sender's own label and is not compared.
    """
    if named.universal_id:
        same_type = named.universal_id_type in ("", own.universal_id_type)
        return named.universal_id == own.universal_id and same_type
    return bool(named.namespace) and named.namespace == own.namespace


def _identities(
    event: str, identifiers: Identifiers, patient: Place, prior: Place
) -> Iterator[Problem]:
    if not identifiers.own:
        text = f"{patient.name} has no identifier of this domain"
        yield Problem(UNKNOWN_KEY, text, patient.authority)
    if event not in _NAMING_TWO:
        return
    if not identifiers.prior:
        yield Problem(
            UNKNOWN_KEY, f"{prior.name} has no identifier of this domain", prior.authority
        )
    # Of two survivors, or two that go, nobody could say which pair is meant.
    for place, found in ((patient, identifiers.own), (prior, identifiers.prior)):
        if len(found) > 1:
            text = (
                f"expected one identifier of this domain in each of {patient.name} and {prior.name}"
            )
            yield Problem(UNKNOWN_KEY, text, place.second)
    if identifiers.own and list(identifiers.own) == list(identifiers.prior):
        text = f"{prior.name} is the same identifier as {patient.name}"
        yield Problem(DUPLICATE_KEY, text, prior.identifier)
    if event == LINK_CHANGE and not identifiers.local:
        text = f"{patient.name} has no identifier of another domain: which one moved?"
        yield Problem(UNKNOWN_KEY, text, patient.second)


def _digest(message: Message, raw: bytes | None) -> str:
    data = "\r".join(message.segments).encode() if raw is None else raw
    return hashlib.sha256(data).hexdigest()
