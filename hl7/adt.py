"""Patient Identity Feed, ITI-8: what an ADT message means to a Document Registry.

Covers ITI TF-2 3.8 for ADT^A01, A04, A05, A08 (Patient Identity Management) and ADT^A40
(Patient Identity Merge), HL7 2.3.1 with tolerance for the later 2.x versions. A registry
uses the identifiers of its own patient identification domain and nothing else: demographics
are neither read nor kept. Whether an identifier is known, or already subsumed, is judged by
whoever holds the patients.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
EVENTS = ADMISSIONS | {UPDATE, MERGE}

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
    ("PID", 5, "patient name"),
)
"""ITI TF-2 3.8.4.1.2; MSH-1 and MSH-2 are seen to by the reader."""

REQUIRED_IN_MERGE = (*REQUIRED, ("MRG", 1, "prior patient identifier list"))

NULL = '""'
"""HL7's explicit "delete this value": as an identifier, none."""

_TIME = re.compile(r"\d{4}(\d\d){0,5}(\.\d{1,4})?([+-]\d{4})?\Z")


@dataclass(frozen=True, slots=True)
class IdentityFeed:
    """One identity event, already read down to what a registry acts on.

    ``identifiers`` are the patient's ids in the registry's own domain, at least one; for A40
    exactly one, the survivor, and ``subsumed`` the id that goes. ``sender`` is
    ``facility|application``. ``control_id`` (MSH-10) and ``digest`` (SHA-256 of the message
    as received, hex) tell a redelivery from a new message.
    """

    event: str
    identifiers: tuple[CX, ...]
    subsumed: CX | None
    sender: str
    control_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class FeedOutcome:
    """What became of a feed: ``AA`` when its effect is durable, ``AE`` when it is refused.

    ``error_code`` (HL7 table 0357) and ``text`` explain a refusal.
    """

    ack_code: str
    error_code: str = ""
    text: str = ""


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


def read_identity_feed(
    message: Message, domain_authority: HD, raw: bytes | None = None
) -> IdentityFeed:
    """The identity event that ``message`` carries, in the domain of ``domain_authority``.

    ``raw`` is the message as received, for the digest. Raises Refused: AR for a type, event,
    processing id or version we do not take, AE with every fault found for wrong content.
    """
    _check_kind(message)
    event = message["MSH-9.2"]
    faults = list(_structure(message, event)) or list(_missing(message, event))
    identifiers: list[CX] = []
    subsumed: list[CX] = []
    if not faults:
        identifiers = _own_identifiers(message, "PID-3", domain_authority)
        if event == MERGE:
            subsumed = _own_identifiers(message, "MRG-1", domain_authority)
        faults = list(_identities(event, identifiers, subsumed))
    if faults:
        first, *further = faults
        raise Refused(ERROR, first.code, first.detail, first.location, further)
    return IdentityFeed(
        event=event,
        identifiers=tuple(identifiers),
        subsumed=subsumed[0] if subsumed else None,
        sender=f"{message['MSH-4']}|{message['MSH-3']}",
        control_id=message["MSH-10"],
        digest=_digest(message, raw),
    )


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
    """One PID, and one MRG in a merge.

    EVN and PV1 are not missed: a registry reads neither, and an identity event lost for
    want of them would cost more than the sender's slip.
    """
    for segment in ("PID", "MRG") if event == MERGE else ("PID",):
        found = message.count(segment)
        if found != 1:
            text = f"{found} {segment} segments in ADT^{event}; expected exactly one"
            yield Problem(SEGMENT_SEQUENCE, text, f"{segment}^{min(found + 1, 2)}")


def _missing(message: Message, event: str) -> Iterator[Problem]:
    for segment, number, name in REQUIRED_IN_MERGE if event == MERGE else REQUIRED:
        if message.field(segment, number) in ("", NULL):
            text = f"{segment}-{number} ({name}) is required"
            yield Problem(REQUIRED_FIELD_MISSING, text, f"{segment}^1^{number}")
    time = message["MSH-7"]
    if time and not _TIME.match(time):
        yield Problem(DATA_TYPE, "MSH-7 is no HL7 time: YYYYMMDDhhmmss expected", "MSH^1^7")


def _own_identifiers(message: Message, field: str, authority: HD) -> list[CX]:
    """The identifiers of ``field`` that the registry's domain gave out, in order, once each."""
    found: dict[CX, None] = {}
    for repetition in range(1, message.count(field) + 1):
        path = f"{field}[{repetition}]"
        identifier = message[f"{path}.1"]
        named = HD(message[f"{path}.4.1"], message[f"{path}.4.2"], message[f"{path}.4.3"])
        if identifier not in ("", NULL) and _same_authority(named, authority):
            found[CX.of(identifier, authority.universal_id)] = None
    return list(found)


def _same_authority(named: HD, own: HD) -> bool:
    """Whether the sender means our domain (ITI TF-2 3.8.4.1.2.3).

    The universal id decides; a namespace alone is completed from the configuration. A
    namespace beside our universal id is the sender's own label and is not compared.
    """
    if named.universal_id:
        same_type = named.universal_id_type in ("", own.universal_id_type)
        return named.universal_id == own.universal_id and same_type
    return bool(named.namespace) and named.namespace == own.namespace


def _identities(event: str, identifiers: Sequence[CX], subsumed: Sequence[CX]) -> Iterator[Problem]:
    if not identifiers:
        yield Problem(UNKNOWN_KEY, "PID-3 has no identifier of this domain", "PID^1^3^1^4")
    if event != MERGE:
        return
    if not subsumed:
        yield Problem(UNKNOWN_KEY, "MRG-1 has no identifier of this domain", "MRG^1^1^1^4")
    # Of two survivors, or two that go, nobody could say which pair is meant.
    for field, found in (("PID^1^3", identifiers), ("MRG^1^1", subsumed)):
        if len(found) > 1:
            text = "a merge names one identifier of this domain in each of PID-3 and MRG-1"
            yield Problem(UNKNOWN_KEY, text, f"{field}^2^1")
    if identifiers and list(identifiers) == list(subsumed):
        yield Problem(DUPLICATE_KEY, "MRG-1 is the same identifier as PID-3", "MRG^1^1^1^1")


def _digest(message: Message, raw: bytes | None) -> str:
    data = "\r".join(message.segments).encode() if raw is None else raw
    return hashlib.sha256(data).hexdigest()
