"""Subscriptions as an operator sees them: listed, ended, their dead letters tried again.

What a notification holds is not shown: it is health data, and an operator needs to know only
where it should have gone and why it did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from metadata.datatypes import DTM
from registry.subscriptions.broker import end
from registry.subscriptions.pull_points import end_pull_point
from registry.subscriptions.tables import DEAD, HELD, WAITING, notification, subscription
from storage.database import Database
from storage.statement import Statement

_N, _S = notification.c, subscription.c


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """One subscription; ``patient`` is empty for one across patients, times are DTM.

    ``waiting`` and ``dead`` count its notifications; ``attempts`` how often the next one failed.
    """

    id: str
    patient: str
    topic: str
    consumer: str
    created_at: str
    expires_at: str
    filter: str
    attempts: int
    waiting: int
    dead: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A notification that was given up, and what was last said of it."""

    number: int
    subscription: str
    topic: str
    created_at: str
    error: str


def _number_of(*states: str) -> ColumnElement[int]:
    return func.count(case((or_(*(_N.state == state for state in states)), 1)))


_COUNTS = (
    select(
        _N.subscription,
        _number_of(WAITING, HELD).label("waiting"),
        _number_of(DEAD).label("dead"),
    )
    .group_by(_N.subscription)
    .subquery()
)
_ALL = (
    select(
        *(_S.id, _S.patient, _S.topic, _S.consumer, _S.created_at, _S.expires_at),
        *(_S.filter, _S.attempts),
        func.coalesce(_COUNTS.c.waiting, 0),
        func.coalesce(_COUNTS.c.dead, 0),
    )
    .join_from(subscription, _COUNTS, _COUNTS.c.subscription == _S.id, isouter=True)
    .order_by(_S.created_at, _S.id)
    .limit(bindparam("limit"))
)
_LIST = Statement(_ALL)
_SHOW = Statement(_ALL.where(_S.id == bindparam("of")))
_DEAD = Statement(
    select(_N.number, _N.subscription, _N.topic, _N.created_at, _N.error)
    .where(_N.state == DEAD)
    .order_by(_N.number)
    .limit(bindparam("limit"))
)
_REVIVE = Statement(
    update(notification)
    .where(_N.subscription == bindparam("of"), _N.state == DEAD)
    .values(state=WAITING, error="", created_at=bindparam("now"))
)
_HURRY = Statement(
    update(subscription)
    .where(_S.id == bindparam("of"), _S.owner.is_(None))
    .values(attempts=0, due_at=0)
)
_STRAYS = delete(notification).where(~exists().where(_S.id == _N.subscription))
_TIDY = Statement(
    delete(subscription).where(
        _S.expires_at <= bindparam("before"), ~exists().where(_N.subscription == _S.id)
    )
)

MOST = 1000
"""Rows shown at once."""

# A registration that has matched a subscription may commit after its end: no transaction lasts
# nearly as long.
_GRACE = timedelta(hours=1)


def subscriptions(database: Database, limit: int = MOST) -> list[SubscriptionRecord]:
    """The oldest subscriptions, those that have ended but are not yet tidied away included."""
    with database.read() as connection:
        return [SubscriptionRecord(*row) for row in _LIST.rows(connection, {"limit": limit})]


def subscription_of(database: Database, identifier: str) -> SubscriptionRecord | None:
    """One subscription."""
    with database.read() as connection:
        rows = _SHOW.rows(connection, {"of": identifier, "limit": 1})
    return SubscriptionRecord(*rows[0]) if rows else None


def dead_letters(database: Database, limit: int = MOST) -> Sequence[DeadLetter]:
    """The oldest notifications that were given up."""
    with database.read() as connection:
        return [DeadLetter(*row) for row in _DEAD.rows(connection, {"limit": limit})]


def remove(database: Database, identifier: str) -> bool:
    """End a subscription or a pull point, what waits for it dropped; whether there was one."""
    return database.write(
        lambda connection: end(connection, identifier) or end_pull_point(connection, identifier)
    )


def retry(database: Database, identifier: str, now: datetime) -> int:
    """Let a subscription's dead letters be delivered, in their order and at once; how many.

    What waits for its consumer's return is not waited for any longer either.
    """

    def work(connection: Connection) -> int:
        revived = _REVIVE.run(connection, [{"of": identifier, "now": DTM.of(now)}])
        _HURRY.run(connection, [{"of": identifier}])
        return revived

    return database.write(work)


def tidy(database: Database, now: datetime) -> int:
    """Drop subscriptions that have ended and have nothing left to deliver; how many.

    Also notifications that a registration has kept for a subscription ended meanwhile.
    """

    def work(connection: Connection) -> int:
        connection.execute(_STRAYS)
        return _TIDY.run(connection, [{"before": DTM.of(now - _GRACE)}])

    return database.write(work)
