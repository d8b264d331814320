"""The identity feed: its listener, and its way on to the process ``dicom``, for images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import structlog
from structlog.contextvars import bound_contextvars

from hl7 import feed
from hl7.ack import ACCEPT, REJECT, acknowledge
from hl7.adt import FeedOutcome, IdentityFeed, Unapplied
from hl7.client import MllpClient
from hl7.demographics import read_demographics
from hl7.errors import INTERNAL, InvalidMessage, Problem
from hl7.feed import Verdict
from hl7.message import Limits, Message
from imaging_source.corrections import Authorities
from imaging_source.identity import (
    Crossing,
    CrossReference,
    FirstToKnow,
    IdentityTable,
    PixManager,
    asking,
)
from node import metrics
from node.config import Settings
from node.wiring.audit import Auditor
from node.wiring.common import affinity_domain, client_tls
from node.wiring.hl7_records import Hl7Records
from node.wiring.keys import open_keys
from storage.errors import StorageError
from storage.inbox import Inbox
from transactions.audit import Node

log = structlog.get_logger(__name__)

Handle = Callable[[bytes, str], bytes]

# Below the data folder: messages that wait for the imaging source.
FEED_FOLDER = "imaging-feed"

# MSH is a few hundred bytes; MSH-10 has at most 199 characters (HL7 2.8; 20 before).
CONTROL_ID_WITHIN, MOST_CONTROL_ID = 2048, 199

# What an acknowledgement of an accepted message says, in original and in enhanced mode.
_ACCEPTED = ("AA", "CA")


def inbox(settings: Settings) -> Inbox:
    """Where the listener leaves messages for the imaging source."""
    return Inbox(settings.node.data_dir / FEED_FOLDER, open_keys(settings))


def authorities(settings: Settings) -> Authorities:
    """Who issues the patient identifiers of the images of this node."""
    section, domain = settings.imaging_source, settings.affinity_domain
    crossed = crossing(settings)
    source = section.source_assigning_authority or domain.assigning_authority
    own = {domain.assigning_authority, *section.same_authorities}
    if crossed is not None and source not in own:  # whose numbers mean something else
        return Authorities(frozenset({source}))
    return Authorities(frozenset(own | {source}), domain.namespace)


def crossing(settings: Settings, auditor: Auditor | None = None) -> Crossing | None:
    """How patients of other domains are identified; None where the site has not said."""
    section, domain = settings.imaging_source, settings.affinity_domain
    references = [*_references(settings, auditor)]
    if not references:
        return None
    return Crossing(
        FirstToKnow(references),
        section.source_assigning_authority or domain.assigning_authority,
        frozenset({domain.assigning_authority, *section.same_authorities}),
    )


def _references(settings: Settings, auditor: Auditor | None) -> Iterator[CrossReference]:
    section = settings.imaging_source.identity
    if section.table is not None:
        yield IdentityTable(section.table)
    if section.pix_manager is not None:
        name, _, port = section.pix_manager.rpartition(":")
        host, receiver = name.strip("[]"), (section.pix_application, section.pix_facility)
        ask = asking(partial(MllpClient, host, int(port), ssl_context=client_tls(settings)))
        if auditor is not None:
            application, facility = receiver
            ask = Hl7Records(auditor).asking(Node(f"{facility}|{application}", host), ask)
        yield PixManager(ask, receiver, settings.affinity_domain.assigning_authority)


def listener(
    settings: Settings,
    auditor: Auditor | None = None,
    apply: Callable[[IdentityFeed], FeedOutcome] | None = None,
) -> Handle:
    """The handler of messages by MLLP (ITI-8, ITI-64), each of them recorded.

    ``apply`` is the registry's; a node without one accepts what one with a registry would, and
    messages about the departments' own identifiers, which are what images have.
    """
    domain = affinity_domain(settings)
    applying = apply or _nothing
    recording = Hl7Records(auditor) if auditor else None
    applied = recording.feeding(applying) if recording else lambda feed, _peer: applying(feed)
    unapplied = recording.unapplied if recording else lambda *_: None
    reply = partial(
        feed.answer,
        domain_authority=domain.assigning_authority,
        limits=Limits(size=settings.limits.hl7_message_bytes),
        ignore_foreign=apply is None or settings.affinity_domain.foreign_patients == "ignore",
    )

    def handle(raw: bytes, peer: str) -> bytes:
        with bound_contextvars(correlation_id=_control_id(raw), peer=peer):
            acknowledgement = reply(
                raw,
                apply=lambda event: applied(event, peer),
                unapplied=lambda said, verdict: unapplied(said, verdict, peer),
            )
            code = acknowledgement.partition(b"\rMSA")[2][1:3].decode("ascii", "replace")
            log.info("hl7", ack=code)
        metrics.HL7_MESSAGES.labels(code).inc()
        return acknowledgement

    return handle


def _nothing(_event: IdentityFeed) -> FeedOutcome:
    """What a registry would do, where there is none."""
    return FeedOutcome(ACCEPT)


def handing_on(handle: Handle, settings: Settings, auditor: Auditor | None = None) -> Handle:
    """``handle``, whose accepted corrections are durable for the imaging source as well.

    Where they cannot be kept the answer is AR, which is recorded: the sender comes again, and to
    the registry the same message changes nothing.
    """
    messages = inbox(settings)

    def handle_and_hand_on(raw: bytes, peer: str) -> bytes:
        acknowledgement = handle(raw, peer)
        try:
            if _is_accepted(acknowledgement) and read_demographics(Message.read(raw)) is not None:
                messages.put(raw)
        except StorageError as error:
            log.error("correction not kept", code="HL7-207", error=type(error).__name__)
            verdict = Verdict(REJECT, [Problem(INTERNAL, "not applied; send it again")])
            message = Message.read(raw)
            if auditor is not None:
                with suppress(StorageError):  # the sender comes again all the same
                    Hl7Records(auditor).unapplied(Unapplied.of(message), verdict, peer)
            return acknowledge(message, *verdict)
        return acknowledgement

    return handle_and_hand_on


def _control_id(raw: bytes) -> str:
    """MSH-10, by which the sender finds the message again; empty where there is none.

    Of the header alone, whatever ends its line: elsewhere the tenth field is about a patient.
    """
    header = raw[:CONTROL_ID_WITHIN].replace(b"\n", b"\r").partition(b"\r")[0]
    fields = header.split(raw[3:4] or b"|") if header.startswith(b"MSH") else []
    return fields[9].decode("ascii", "replace")[:MOST_CONTROL_ID] if len(fields) > 9 else ""


def _is_accepted(acknowledgement: bytes) -> bool:
    try:
        return Message.read(acknowledgement)["MSA-1"] in _ACCEPTED
    except InvalidMessage:
        return False
