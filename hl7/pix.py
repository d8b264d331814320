"""PIX Query, ITI-9: which identifier a patient has in another domain.

Covers the query QBP^Q23 and its answer RSP^K23 (HL7 2.5, ITI TF-2 3.9.4) as a Patient Identity
Consumer sees them: one identifier asked about, one domain asked for. It opens no connection.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from hl7.ack import ACCEPT, ERROR
from hl7.errors import UNKNOWN_KEY
from hl7.message import Message, build

_QUERY_NAME = ("IHE PIX Query", "", "")


class NoAnswer(Exception):
    """The answer is none: of another query, refused, or unintelligible. Ask again later."""


@dataclass(frozen=True, slots=True)
class PixQuery:
    """``tag`` (QPD-2) is how the answer is known; ``target`` is the OID of the domain asked for."""

    identifier: str
    authority: str
    target: str
    tag: str

    @classmethod
    def about(cls, identifier: str, authority: str, target: str) -> PixQuery:
        """A query with a tag of its own."""
        return cls(identifier, authority, target, secrets.token_hex(10))


def write_query(query: PixQuery, receiver: tuple[str, str]) -> bytes:
    """The message; ``receiver`` is its application and facility (MSH-5, MSH-6)."""
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    header = (
        *("MSH", "KOSMOS", "KOSMOS", *receiver, now, ""),
        *(("QBP", "Q23", "QBP_Q21"), query.tag, "P", "2.5"),
        *("", "", "", "", "", "UNICODE UTF-8"),
    )
    parameters = (
        "QPD",
        _QUERY_NAME,
        query.tag,
        (query.identifier, "", "", ("", query.authority, "ISO")),
        ("", "", "", ("", query.target, "ISO")),
    )
    return build([header, parameters, ("RCP", "I")])


def read_answer(answer: Message, query: PixQuery) -> tuple[str, ...]:
    """The patient's identifiers in the domain asked for; none where it has none or is not known.

    Raises NoAnswer.
    """
    code = answer["MSA-1"]
    if answer["MSH-9.1"] != "RSP" or answer["MSA-2"] != query.tag:
        raise NoAnswer("the answer is to another message")
    if code == ERROR and answer["ERR-3.1"] == UNKNOWN_KEY:
        return ()
    if code != ACCEPT:
        raise NoAnswer(f"the query was not accepted: {code}")
    found = []
    for number in range(1, answer.count("PID-3") + 1):
        path = f"PID-3[{number}]"
        if answer[f"{path}.4.2"] == query.target and answer[f"{path}.1"]:
            found.append(answer[f"{path}.1"])
    return tuple(dict.fromkeys(found))
