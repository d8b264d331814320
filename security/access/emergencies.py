"""Breaking the glass: a right of its own, with a reason, for a while, and reviewed afterwards.

The user's assertion says that it is an emergency (purpose of use) and why. The first time it comes
is kept, with an alarm; so is every attempt without right or reason, which is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select, text

from security.access.decision import Policy
from security.access.schema import EMERGENCY
from security.assertions.claims import Claims
from security.assertions.refusal import TokenRefused
from soap.faults import FAILED_AUTHENTICATION
from storage.database import Database


@dataclass(frozen=True, slots=True)
class Override:
    """An emergency: by whose assertion, who, where, why, from when until when (UTC, ISO 8601)."""

    issuer: str
    id: str
    user: str
    node: str
    patients: str
    reason: str
    started: str
    until: str


_ADD = text(
    "INSERT INTO emergency (issuer, id, person, node, patients, reason, started, until)"
    " VALUES (:issuer, :id, :user, :node, :patients, :reason, :started, :until)"
    " ON CONFLICT DO NOTHING"
)


class Emergencies:
    """Those of a node; safe for many threads and processes."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        alarm: Callable[[Override], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._policy = policy
        self._alarm = alarm
        self._clock = clock
        self._known: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()

    def declared(self, claims: Claims, node: str) -> bool:
        """Whether the user acts in an emergency, which is kept before anything is shown.

        Raises TokenRefused where the assertion declares one without right, without reason or for
        too long, and StorageError where it cannot be kept.
        """
        if not self._policy.wants_emergency(claims):
            return False
        if not self._policy.may_break_glass(claims):
            raise TokenRefused(FAILED_AUTHENTICATION, "no right to declare an emergency")
        if not any(claims.reasons):
            raise TokenRefused(FAILED_AUTHENTICATION, "an emergency needs a reason")
        if self._clock() >= self._end(claims, node):
            raise TokenRefused(FAILED_AUTHENTICATION, "the emergency is over")
        return True

    def _end(self, claims: Claims, node: str) -> datetime:
        key = (claims.issuer, claims.id)
        until = self._known.get(key)
        if until is None:
            until = self._start(claims, node)
            with self._lock:
                now = self._clock()
                self._known = {one: end for one, end in self._known.items() if end > now}
                self._known[key] = until
        return until

    def _start(self, claims: Claims, node: str) -> datetime:
        now = self._clock()
        override = Override(
            issuer=claims.issuer,
            id=claims.id,
            user=claims.audit_name,
            node=node,
            patients=" ".join(claims.patients),
            reason="; ".join(claims.reasons),
            started=now.isoformat(),
            until=(now + timedelta(minutes=self._policy.emergency.minutes)).isoformat(),
        )
        with self._database.read() as connection:
            until = _until(connection, override)
        if until is None:
            self._alarm(override)  # first: what nobody could be told of does not begin
            until = self._database.write(lambda connection: _begin(connection, override))
        return datetime.fromisoformat(until)


def overrides(database: Database) -> list[Override]:
    """Every emergency that is kept, the last one first."""
    query = select(EMERGENCY).order_by(EMERGENCY.c.started.desc())
    with database.read() as connection:
        return [Override(*row) for row in connection.execute(query)]


def _begin(connection: Connection, override: Override) -> str:
    """When it ends; another process may have been faster."""
    connection.execute(_ADD, asdict(override))
    return _until(connection, override) or override.until


def _until(connection: Connection, override: Override) -> str | None:
    named = (EMERGENCY.c.issuer == override.issuer, EMERGENCY.c.id == override.id)
    return connection.execute(select(EMERGENCY.c.until).where(*named)).scalar_one_or_none()
