"""Acknowledgements (HL7 2.3.1 2.13; ITI TF-2 C.2.3, 3.8.4.1.4, 3.8.4.2.4).

AA: the message was accepted and its effect is durable. AE: its content is wrong, it must not
be sent again as it is. AR: it was not taken in for another reason (type, event, version, or
our own trouble), so that sending it later may succeed. Each problem becomes an ERR segment in
the layout of HL7 2.5, as ITI TF-2 C.2.3 asks even of older versions.

Of enhanced mode a sender may have this: one that wants an accept acknowledgement (MSH-15) and no
application acknowledgement (MSH-16) gets CA, CE or CR. We have no other to send later, for the
effect is durable before anything is answered; and always answer, for over MLLP silence is a fault.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from hl7.charset import CODECS, FALLBACK
from hl7.errors import TABLE_0357, InvalidMessage, Problem
from hl7.escapes import STANDARD, Delimiters, escape
from hl7.message import Message

ACCEPT = "AA"
ERROR = "AE"
REJECT = "AR"

DEFAULT_VERSION = "2.3.1"
"""The version of ITI-8, for answering a message that states none."""

UNREADABLE = Message(["MSH|^~\\&"], STANDARD, "utf-8")
"""Stands in for a message without a readable MSH, so that it can be answered at all."""


def header_of(raw: bytes) -> Message:
    """The header of a message of which nothing else can be read, or what stands in for it."""
    try:
        return Message.read_header(raw)
    except InvalidMessage:
        return UNREADABLE


def acknowledge(
    message: Message,
    code: str,
    problems: Iterable[Problem] = (),
    *,
    control_id: str | None = None,
    now: datetime | None = None,
) -> bytes:
    """The ACK for ``message``.

    Sender and receiver change places; delimiters, processing id, version and charset are the
    sender's own. ``control_id`` (MSH-10) defaults to a fresh one of 20 characters, the
    length that every version allows; ``now`` to the current time.
    """
    marks = message.delimiters
    segments = [
        _header(message, control_id or secrets.token_hex(10), now or datetime.now(UTC)),
        marks.field.join(("MSA", _in_mode(message, code), message.field("MSH", 10))),
        *(_error(problem, marks) for problem in problems),
    ]
    return "".join(segment + "\r" for segment in segments).encode(_codec(message), "replace")


def _in_mode(message: Message, code: str) -> str:
    """``AA`` as ``CA`` where the sender asks for an accept acknowledgement alone."""
    never = ("", "NE")
    accept_only = message["MSH-15"] not in never and message["MSH-16"] in never
    return f"C{code[1:]}" if accept_only else code


def _header(message: Message, control_id: str, now: datetime) -> str:
    marks = message.delimiters
    fields = [
        "MSH",
        "".join(marks[1:]),
        message.field("MSH", 5),
        message.field("MSH", 6),
        message.field("MSH", 3),
        message.field("MSH", 4),
        now.astimezone(UTC).strftime("%Y%m%d%H%M%S"),
        "",
        _message_type(message),
        control_id,
        message.field("MSH", 11) or "P",
        message.field("MSH", 12) or DEFAULT_VERSION,
        *[""] * 5,
        message.field("MSH", 18),
    ]
    return marks.field.join(fields).rstrip(marks.field)


def _message_type(message: Message) -> str:
    """``ACK^A04``; from HL7 2.4 on with the message structure that MSH-9 then requires."""
    trigger, mark = message.raw("MSH-9.2"), message.delimiters.component
    if not trigger:
        return "ACK"
    return f"ACK{mark}{trigger}" + ("" if message["MSH-12"] < "2.4" else f"{mark}ACK")


def _error(problem: Problem, marks: Delimiters) -> str:
    """An ERR segment: ERR-2 location, ERR-3 code, ERR-4 severity, ERR-8 text for people."""
    location = problem.location.replace("^", marks.component)
    code = marks.component.join((problem.code, TABLE_0357[problem.code], "HL70357"))
    fields = ["ERR", "", location, code, "E", "", "", "", escape(problem.detail, marks)]
    return marks.field.join(fields)


def _codec(message: Message) -> str:
    """The codec to answer in: what MSH-18 says, else what the message was read with."""
    declared = message["MSH-18"].upper()
    return CODECS.get(declared, message.codec) if declared else message.codec or FALLBACK
