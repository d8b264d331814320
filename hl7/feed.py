"""From the bytes of an identity message to the bytes of its acknowledgement (ITI-8, ITI-64).

The effect is applied, and committed, before AA is written. Trouble of our own (database
locked, disk full) is answered AR 207: HL7 lets a sender repeat a message that got AR, but
AE means "do not send this again" and would silently lose the event (ITI TF-2 C.2.3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hl7.ack import ACCEPT, ERROR, REJECT, acknowledge, header_of
from hl7.adt import (
    FeedOutcome,
    ForeignPatient,
    IdentityFeed,
    Refused,
    Unapplied,
    read_identity_feed,
)
from hl7.errors import INTERNAL, TABLE_0357, InvalidMessage, Problem
from hl7.message import DEFAULT_LIMITS, Limits, Message
from metadata.datatypes import HD

log = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """How a message is to be acknowledged: AA, AE or AR, and every problem."""

    code: str
    problems: Sequence[Problem] = ()


def _untold(_said: Unapplied, _verdict: Verdict) -> None:
    """Nobody keeps records."""


def answer(
    raw: bytes,
    apply: Callable[[IdentityFeed], FeedOutcome],
    domain_authority: HD,
    *,
    limits: Limits = DEFAULT_LIMITS,
    default_charset: str = "utf-8",
    ignore_foreign: bool = False,
    unapplied: Callable[[Unapplied, Verdict], None] = _untold,
) -> bytes:
    """The acknowledgement for ``raw``, once ``apply`` has done what it asks.

    ``apply`` returns a verdict, durable when it is AA; anything it raises counts as a passing
    failure. ``ignore_foreign`` accepts what names no patient of the domain, without effect.
    ``unapplied`` is told of a message that is refused before it could be applied, or accepted
    without effect, and may raise as ``apply`` does. Never raises: whatever a peer sends gets an
    answer.
    """
    try:
        message = Message.read(raw, limits=limits, default_charset=default_charset)
    except InvalidMessage as error:
        message = header_of(raw)
        verdict = _told(message, Verdict(ERROR, [error.problem]), unapplied)
        return acknowledge(message, *verdict)
    verdict = perform(
        lambda: read_identity_feed(message, domain_authority, raw),
        apply,
        location="PID^1^3",
        ignore_foreign=ignore_foreign,
        unapplied=lambda verdict: _told(message, verdict, unapplied),
    )
    return acknowledge(message, *verdict)


def _told(
    message: Message, verdict: Verdict, unapplied: Callable[[Unapplied, Verdict], None]
) -> Verdict:
    """``verdict`` on a message that is not applied, once ``unapplied`` knows of it."""
    said = Unapplied.of(message)
    try:
        unapplied(said, verdict)
    except Exception as error:  # noqa: BLE001 - logged with a code and answered AR
        return _to_be_repeated(error, said.control_id)
    return verdict


def _to_be_repeated(error: Exception, control_id: str) -> Verdict:
    """Trouble of our own; the type only: a database error's text may hold the patient's
    identifier."""
    log.error(
        "HL7-207 identity event not applied, sender may repeat it: %s control_id=%r",
        type(error).__name__,
        control_id,
    )
    return Verdict(REJECT, [Problem(INTERNAL, "not applied; send it again")])


def perform(
    read: Callable[[], IdentityFeed],
    apply: Callable[[IdentityFeed], FeedOutcome],
    *,
    location: str,
    ignore_foreign: bool = False,
    unapplied: Callable[[Verdict], Verdict] = lambda verdict: verdict,
) -> Verdict:
    """Do what a message asks, whichever its form; ``location`` is where it names the patient.

    ``unapplied`` is given the verdict on a message that is not applied, and has the last word.
    """
    try:
        feed = read()
    except Refused as refusal:
        if ignore_foreign and isinstance(refusal, ForeignPatient):
            return unapplied(Verdict(ACCEPT))
        return unapplied(Verdict(refusal.ack_code, refusal.problems))
    try:
        outcome = apply(feed)
    except Exception as error:  # noqa: BLE001 - logged with a code and answered AR
        return _to_be_repeated(error, feed.control_id)
    return Verdict(outcome.ack_code, _problems(outcome, location))


def _problems(outcome: FeedOutcome, location: str) -> list[Problem]:
    if not outcome.error_code:
        return []
    code = outcome.error_code if outcome.error_code in TABLE_0357 else INTERNAL
    return [Problem(code, outcome.text, location)]
