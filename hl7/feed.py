"""From the bytes of an identity message to the bytes of its acknowledgement (ITI-8).

The effect is applied, and committed, before AA is written. Trouble of our own (database
locked, disk full) is answered AR 207: HL7 lets a sender repeat a message that got AR, but
AE means "do not send this again" and would silently lose the event (ITI TF-2 C.2.3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hl7.ack import ERROR, REJECT, UNREADABLE, acknowledge
from hl7.adt import FeedOutcome, IdentityFeed, Refused, read_identity_feed
from hl7.errors import INTERNAL, TABLE_0357, InvalidMessage, Problem
from hl7.message import DEFAULT_LIMITS, Limits, Message
from metadata.datatypes import HD

log = logging.getLogger(__name__)


def answer(
    raw: bytes,
    apply: Callable[[IdentityFeed], FeedOutcome],
    domain_authority: HD,
    *,
    limits: Limits = DEFAULT_LIMITS,
    default_charset: str = "utf-8",
) -> bytes:
    """The acknowledgement for ``raw``, once ``apply`` has done what it asks.

    ``apply`` returns a verdict, durable when it is AA; anything it raises counts as a passing
    failure. Never raises: whatever a peer sends gets an answer.
    """
    try:
        message = Message.read(raw, limits=limits, default_charset=default_charset)
    except InvalidMessage as error:
        return acknowledge(_header_of(raw), ERROR, [error.problem])
    try:
        feed = read_identity_feed(message, domain_authority, raw)
    except Refused as refusal:
        return acknowledge(message, refusal.ack_code, refusal.problems)
    try:
        outcome = apply(feed)
    except Exception as error:  # noqa: BLE001 - logged with a code and answered AR
        # The type only: a database error's text may hold the patient's identifier.
        log.error(
            "HL7-207 identity event not applied, sender may repeat it: %s control_id=%r",
            type(error).__name__,
            feed.control_id,
        )
        return acknowledge(message, REJECT, [Problem(INTERNAL, "not applied; send it again")])
    return acknowledge(message, outcome.ack_code, _problems(outcome))


def _header_of(raw: bytes) -> Message:
    try:
        return Message.read_header(raw)
    except InvalidMessage:
        return UNREADABLE


def _problems(outcome: FeedOutcome) -> list[Problem]:
    if not outcome.error_code:
        return []
    code = outcome.error_code if outcome.error_code in TABLE_0357 else INTERNAL
    return [Problem(code, outcome.text, "PID^1^3")]
