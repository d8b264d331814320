"""The assertions that were met, remembered by all processes of a node and across restarts.

A memory that is a file has one writing process; each further one has its own, and looks into the
others'. Each writes before it looks: of two that meet an assertion at once, one sees the other.

A user's software brings one assertion with each of its calls until it expires, so bringing it
again is no replay. Bringing it from another node is; so is another assertion of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sqlalchemy import Connection, bindparam, delete, select, text

from security.access.schema import ASSERTION_SEEN
from security.assertions.refusal import TokenRefused
from soap.faults import FAILED_AUTHENTICATION
from storage.database import Database


class Reuse(Enum):
    """Who may bring an assertion again while it holds."""

    SAME_NODE = "same-node"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Meeting:
    """An assertion that came: whose, which (SHA-256 of what was signed), by which node."""

    issuer: str
    id: str
    digest: str
    node: str
    until: datetime


_ADD = text(
    "INSERT INTO assertion_seen (issuer, id, digest, node, until)"
    " VALUES (:issuer, :id, :digest, :node, :until) ON CONFLICT DO NOTHING"
)
_NAMED = (
    ASSERTION_SEEN.c.issuer == bindparam("issuer"),
    ASSERTION_SEEN.c.id == bindparam("id"),
)
_FIRST = select(ASSERTION_SEEN.c.digest, ASSERTION_SEEN.c.node).where(*_NAMED)
_DROP = delete(ASSERTION_SEEN).where(*_NAMED)

_USED = "the assertion was used before"


class Seen:
    """The memory of a node, or of one of its processes, which knows those of the ``others``; safe
    for many threads and processes."""

    def __init__(self, database: Database, reuse: Reuse, others: Sequence[Database] = ()) -> None:
        self._database = database
        self._others = others
        self.reuse = reuse

    def meet(self, meeting: Meeting) -> None:
        """Remember an assertion, durably, before anything is done for its sake.

        Raises TokenRefused for a replay, StorageError when nothing can be remembered.
        """
        first = self._database.write(lambda connection: _meet(connection, meeting))
        if self._is_replay(meeting, first):
            raise TokenRefused(FAILED_AUTHENTICATION, _USED)
        if any(self._is_replay(meeting, _met(other, meeting)) for other in self._others):
            if first is None:  # else the one who may bring it could not any more
                self._database.write(lambda connection: connection.execute(_DROP, _names(meeting)))
            raise TokenRefused(FAILED_AUTHENTICATION, _USED)

    def _is_replay(self, meeting: Meeting, first: tuple[str, str] | None) -> bool:
        if first is None:
            return False
        return self.reuse is Reuse.NEVER or first != (meeting.digest, meeting.node)

    def forget(self, before: datetime) -> int:
        """Drop what expired before a moment, which nobody can bring again; how many there were."""
        expired = delete(ASSERTION_SEEN).where(ASSERTION_SEEN.c.until < before.isoformat())
        return self._database.write(lambda connection: connection.execute(expired).rowcount)


def _met(database: Database, meeting: Meeting) -> tuple[str, str] | None:
    """What a memory holds of an assertion of this name."""
    with database.read() as connection:
        row = connection.execute(_FIRST, _names(meeting)).first()
    return None if row is None else (row.digest, row.node)


def _names(meeting: Meeting) -> dict[str, str]:
    return {"issuer": meeting.issuer, "id": meeting.id}


def _meet(connection: Connection, meeting: Meeting) -> tuple[str, str] | None:
    """None at the first meeting; else what was remembered of it."""
    row = {
        **_names(meeting),
        "digest": meeting.digest,
        "node": meeting.node,
        "until": meeting.until.isoformat(),
    }
    if connection.execute(_ADD, row).rowcount:
        return None
    digest, node = connection.execute(_FIRST, _names(meeting)).one()
    return digest, node
