"""The identity feed on its way from the listener to the process ``dicom``, for images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import structlog

from hl7 import feed
from hl7.ack import ACCEPT, REJECT, acknowledge
from hl7.adt import FeedOutcome
from hl7.client import MllpClient
from hl7.demographics import read_demographics
from hl7.errors import INTERNAL, InvalidMessage, Problem
from hl7.message import Limits, Message
from imaging_source.corrections import Authorities
from imaging_source.identity import (
    Crossing,
    CrossReference,
    FirstToKnow,
    IdentityTable,
    PixManager,
)
from node.config import Settings
from node.wiring.common import affinity_domain, client_tls
from node.wiring.keys import open_keys
from storage.errors import StorageError
from storage.inbox import Inbox

log = structlog.get_logger(__name__)

Handle = Callable[[bytes, str], bytes]

# Below the data folder: messages that wait for the imaging source.
FEED_FOLDER = "imaging-feed"

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


def crossing(settings: Settings) -> Crossing | None:
    """How patients of other domains are identified; None where the site has not said."""
    section, domain = settings.imaging_source, settings.affinity_domain
    references = [*_references(settings)]
    if not references:
        return None
    return Crossing(
        FirstToKnow(references),
        section.source_assigning_authority or domain.assigning_authority,
        frozenset({domain.assigning_authority, *section.same_authorities}),
    )


def _references(settings: Settings) -> Iterator[CrossReference]:
    section = settings.imaging_source.identity
    if section.table is not None:
        yield IdentityTable(section.table)
    if section.pix_manager is not None:
        host, _, port = section.pix_manager.rpartition(":")
        yield PixManager(
            partial(MllpClient, host.strip("[]"), int(port), ssl_context=client_tls(settings)),
            (section.pix_application, section.pix_facility),
            settings.affinity_domain.assigning_authority,
        )


def listener(settings: Settings) -> Handle:
    """The handler of a node without a registry: it accepts what one with a registry would."""
    domain = affinity_domain(settings)
    reply = partial(
        feed.answer,
        apply=lambda _event: FeedOutcome(ACCEPT),
        domain_authority=domain.assigning_authority,
        limits=Limits(size=settings.limits.hl7_message_bytes),
        ignore_foreign=True,  # the departments' own identifiers are what images have
    )
    return lambda raw, _peer: reply(raw)


def handing_on(handle: Handle, settings: Settings) -> Handle:
    """``handle``, whose accepted corrections are durable for the imaging source as well.

    Where they cannot be kept the answer is AR: the sender comes again, and to the registry the
    same message changes nothing.
    """
    messages = inbox(settings)

    def handle_and_hand_on(raw: bytes, peer: str) -> bytes:
        acknowledgement = handle(raw, peer)
        try:
            if _is_accepted(acknowledgement) and read_demographics(Message.read(raw)) is not None:
                messages.put(raw)
        except StorageError as error:
            log.error("correction not kept", code="HL7-207", error=type(error).__name__)
            problem = Problem(INTERNAL, "not applied; send it again")
            return acknowledge(Message.read(raw), REJECT, [problem])
        return acknowledgement

    return handle_and_hand_on


def _is_accepted(acknowledgement: bytes) -> bool:
    try:
        return Message.read(acknowledgement)["MSA-1"] in _ACCEPTED
    except InvalidMessage:
        return False
