"""What an ITI-44 request means to a registry: the same as its ITI-8 twin.

Covers ITI TF-2 3.44.4.1.3 and 3.44.4.2.3: an added record is A01, a revised one A08, resolved
duplicates are A40. What decides the meaning must be there and right; what a registry does not
read (custodian, demographics, provider) may be absent, as PV1 may be in ITI-8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from lxml import etree

from hl7 import adt
from hl7.ack import ACCEPT, ERROR, REJECT
from hl7.adt import (
    PROCESSING_IDS,
    TIME,
    FeedOutcome,
    Identifiers,
    IdentityFeed,
    Place,
    Refused,
    check_identifiers,
    identity_feed,
    same_authority,
)
from hl7.errors import (
    DATA_TYPE,
    REQUIRED_FIELD_MISSING,
    SEGMENT_SEQUENCE,
    TABLE_VALUE,
    UNSUPPORTED_PROCESSING_ID,
    Problem,
)
from hl7.feed import perform
from hl7.v3 import acknowledgement
from hl7.v3.acknowledgement import Acknowledgement
from hl7.v3.names import ADD, II, MERGE, REVISE
from hl7.v3.request import EVENT, PATIENT, PRIOR, PRIOR_ROLE, IdentityRequest
from metadata.datatypes import CX, HD

_EVENTS = {ADD: "A01", REVISE: adt.UPDATE, MERGE: adt.MERGE}
_CODES = {
    ACCEPT: acknowledgement.ACCEPT,
    ERROR: acknowledgement.ERROR,
    REJECT: acknowledgement.REJECT,
}

# Elements of which there must be exactly one: nobody could say which of two is meant.
_ONCE = ("receiver", "sender", "controlActProcess", f"{EVENT}/statusCode", PATIENT)
_ONCE_IN_MERGE = (*_ONCE, PRIOR)

_REQUIRED = (
    ("id", "root", "message id"),
    ("creationTime", "value", "time of the message"),
    ("interactionId", "extension", "interaction"),
    ("processingCode", "code", "processing id"),
    ("sender/device/id", "root", "sending device"),
    ("receiver/device/id", "root", "receiving device"),
    (f"{EVENT}/statusCode", "code", "status of the registration"),
)

# Codes that change what a message says: where they are given, they must be these.
_FIXED = (
    ("processingModeCode", "T"),  # current processing, not an archive or a restore
    (f"{EVENT}/statusCode", "active"),
    (f"{PATIENT}/statusCode", "active"),
    (f"{PRIOR}/statusCode", "obsolete"),
)


def answer(
    request: IdentityRequest,
    apply: Callable[[IdentityFeed], FeedOutcome],
    domain_authority: HD,
    *,
    ignore_foreign: bool = False,
) -> Acknowledgement:
    """The acknowledgement of ``request``, once ``apply`` has done what it asks.

    As ``hl7.feed.answer`` it never raises, and leaves no passing failure without an answer.
    """
    verdict = perform(
        lambda: read_identity_feed(request, domain_authority),
        apply,
        location=_location(request, f"{PATIENT}/id"),
        ignore_foreign=ignore_foreign,
    )
    return Acknowledgement(
        status=_CODES[verdict.code],
        target=request.message_id,
        problems=tuple(verdict.problems),
        sender=request.receiver,
        receiver=request.sender,
    )


def read_identity_feed(request: IdentityRequest, domain_authority: HD) -> IdentityFeed:
    """The identity event that ``request`` carries, in the domain of ``domain_authority``.

    Raises Refused: AR for a processing id we do not take, AE with every fault for wrong content.
    """
    _check_kind(request)
    event = _EVENTS[request.interaction]
    faults = list(_structure(request)) or [*_missing(request), *_wrong(request)]
    adt.refuse(faults)
    found = Identifiers(
        own=_own(request.identifiers, domain_authority),
        prior=_own(request.replaced, domain_authority),
    )
    places = (_place(request, f"{steps}/id") for steps in (PATIENT, PRIOR_ROLE))
    check_identifiers(event, found, *places)
    control_id = str(request.message_id)
    return identity_feed(event, found, request.sender.root, control_id, _digest(request))


def _check_kind(request: IdentityRequest) -> None:
    code = request.value("processingCode", "code")
    if code and code not in PROCESSING_IDS:
        text = f"processingCode {code!r}; expected P, T or D"
        raise Refused(
            REJECT, UNSUPPORTED_PROCESSING_ID, text, _location(request, "processingCode/@code")
        )


def _structure(request: IdentityRequest) -> Iterator[Problem]:
    for steps in _ONCE_IN_MERGE if request.interaction == MERGE else _ONCE:
        found = request.count(steps)
        if found != 1:
            text = f"{found} elements {steps} in {request.interaction}; expected exactly one"
            yield Problem(SEGMENT_SEQUENCE, text, _location(request, steps))


def _missing(request: IdentityRequest) -> Iterator[Problem]:
    for steps, attribute, name in _REQUIRED:
        if not request.value(steps, attribute):
            place = f"{steps}/@{attribute}"
            text = f"{place} ({name}) is required"
            yield Problem(REQUIRED_FIELD_MISSING, text, _location(request, place))
    person = f"{PATIENT}/patientPerson/name"
    if not request.count(person):
        text = "patientPerson/name (patient name) is required"
        yield Problem(REQUIRED_FIELD_MISSING, text, _location(request, person))


def _wrong(request: IdentityRequest) -> Iterator[Problem]:
    expected = (
        *_names(request.interaction),
        *((steps, "code", code) for steps, code in _FIXED),
    )
    for steps, attribute, value in expected:
        found = request.value(steps, attribute)
        if found and found != value:
            text = f"{steps}/@{attribute} is {found[:32]!r}; expected {value}"
            yield Problem(TABLE_VALUE, text, _location(request, f"{steps}/@{attribute}"))
    time = request.value("creationTime", "value")
    if time and not TIME.match(time):
        place = _location(request, "creationTime/@value")
        yield Problem(DATA_TYPE, "creationTime is no HL7 time: YYYYMMDDhhmmss expected", place)


def _names(interaction: str) -> Iterator[tuple[str, str, str]]:
    """What the message must call itself."""
    yield "interactionId", "extension", interaction
    yield "controlActProcess/code", "code", interaction.replace("_IN", "_TE")


def _own(identifiers: Iterable[II], authority: HD) -> list[CX]:
    """Those of our domain, once each; a name alone is completed as in ITI-8."""
    return list(
        dict.fromkeys(
            CX.of(one.extension, authority.universal_id)
            for one in identifiers
            if one.extension and same_authority(HD(one.authority_name, one.root), authority)
        )
    )


def _place(request: IdentityRequest, steps: str) -> Place:
    location = _location(request, steps)
    return Place("/".join(steps.split("/")[-2:]), location, location, location)


def _location(request: IdentityRequest, steps: str) -> str:
    """An XPath for people: prefixes left out."""
    return f"/{request.interaction}/{steps}"


def _digest(request: IdentityRequest) -> str:
    """Of the canonical form: the same message in another envelope is the same message."""
    return hashlib.sha256(
        etree.tostring(request.element, method="c14n", exclusive=True)
    ).hexdigest()
