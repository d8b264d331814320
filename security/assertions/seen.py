"""The assertions that were met, remembered by all processes of a node and across restarts.

A user's software brings one assertion with each of its calls until it expires, so bringing it
again is no replay. Bringing it from another node is; so is another assertion of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sqlalchemy import Connection, delete, select, text

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
_FIRST = select(ASSERTION_SEEN.c.digest, ASSERTION_SEEN.c.node)


class Seen:
    """The memory of a node; safe for many threads and processes."""

    def __init__(self, database: Database, reuse: Reuse) -> None:
        self._database = database
        self.reuse = reuse

    def meet(self, meeting: Meeting) -> None:
        """Remember an assertion, durably, before anything is done for its sake.

        Raises TokenRefused for a replay, StorageError when nothing can be remembered.
        """
        first = self._database.write(lambda connection: _meet(connection, meeting))
        if first is None:
            return
        if self.reuse is Reuse.NEVER or first != (meeting.digest, meeting.node):
            raise TokenRefused(FAILED_AUTHENTICATION, "the assertion was used before")

    def forget(self, before: datetime) -> int:
        """Drop what expired before a moment, which nobody can bring again; how many there were."""
        expired = delete(ASSERTION_SEEN).where(ASSERTION_SEEN.c.until < before.isoformat())
        return self._database.write(lambda connection: connection.execute(expired).rowcount)


def _meet(connection: Connection, meeting: Meeting) -> tuple[str, str] | None:
    """None at the first meeting; else what was remembered of it."""
    row = {
        "issuer": meeting.issuer,
        "id": meeting.id,
        "digest": meeting.digest,
        "node": meeting.node,
        "until": meeting.until.isoformat(),
    }
    if connection.execute(_ADD, row).rowcount:
        return None
    named = (ASSERTION_SEEN.c.issuer == meeting.issuer, ASSERTION_SEEN.c.id == meeting.id)
    digest, node = connection.execute(_FIRST.where(*named)).one()
    return digest, node
