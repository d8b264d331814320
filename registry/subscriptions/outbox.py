"""The outbox of notifications as its statements: claim a subscription, serve it, let it go.

A subscription is served by one notifier at a time, whichever node it runs on: claiming writes
an owner and the end of a lease, and whatever the owner changes afterwards, it changes only
while it still is the owner. Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, func, null, select, update

from registry.subscriptions.tables import DEAD, WAITING, notification, subscription
from storage.statement import Statement

_N, _S = notification.c, subscription.c
_IS_WAITING = _N.state == WAITING
_OWNED = (_S.id == bindparam("subscription"), _S.owner == bindparam("owner_id"))

_ANY = Statement(select(_N.number).where(_IS_WAITING).limit(bindparam("limit")))
_DUE = Statement(
    select(_S.id, _S.consumer)
    .where(
        _S.due_at <= bindparam("now"),
        exists().where(_N.subscription == _S.id, _IS_WAITING),
    )
    .order_by(_S.due_at, _S.id)
    .limit(bindparam("limit"))
)
_CLAIM = Statement(
    update(subscription)
    .where(_S.id == bindparam("subscription"), _S.due_at <= bindparam("now"))
    .values(owner=bindparam("owner_id"), due_at=bindparam("until"))
)
_EXTEND = Statement(update(subscription).where(*_OWNED).values(due_at=bindparam("until")))
_SERVED = Statement(
    update(subscription).where(*_OWNED).values(attempts=0, due_at=bindparam("until"))
)
_POSTPONE = Statement(
    update(subscription)
    .where(*_OWNED)
    .values(owner=null(), attempts=bindparam("count"), due_at=bindparam("until"))
)
_FREE = Statement(
    update(subscription)
    .where(_S.owner.is_not(None), _S.due_at > bindparam("since"))
    .values(owner=null(), due_at=0)
)
_RELEASE = Statement(update(subscription).where(*_OWNED).values(owner=null(), due_at=0))
_NEXT = Statement(
    select(
        _N.number,
        _N.topic,
        _N.producer,
        _N.created_at,
        _N.objects,
        _S.consumer,
        _S.attempts,
    )
    .join_from(notification, subscription, _S.id == _N.subscription)
    .where(_N.subscription == bindparam("subscription"), _S.owner == bindparam("owner_id"))
    .where(_IS_WAITING)
    .order_by(_N.number)
    .limit(bindparam("limit"))
)
_DELETE = Statement(delete(notification).where(_N.number == bindparam("id")))
_BURY = Statement(
    update(notification)
    .where(_N.number == bindparam("id"))
    .values(state=DEAD, error=bindparam("reason"))
)
_COUNT = Statement(select(func.count()).select_from(notification).where(_IS_WAITING))


class Claim(NamedTuple):
    """A subscription that ``owner`` alone may serve for a while."""

    subscription: str
    owner: str


class Due(NamedTuple):
    """A subscription with something to deliver, and where to."""

    subscription: str
    consumer: str


class Waiting(NamedTuple):
    """The notification that is the next of its subscription; ``attempts`` have failed."""

    number: int
    topic: str
    producer: str
    created_at: str
    objects: bytes
    consumer: str
    attempts: int


def due(connection: Connection, now: int, limit: int) -> list[Due]:
    """Subscriptions that may be served at ``now``, the longest due first."""
    if not _ANY.rows(connection, {"limit": 1}):  # the quiet day: one look at an empty index
        return []
    return [Due(*row) for row in _DUE.rows(connection, {"now": now, "limit": limit})]


def claim(connection: Connection, claimed: Claim, now: int, until: int) -> bool:
    """Take a subscription for its owner; whether nobody else was faster."""
    return bool(_CLAIM.run(connection, [{**_key(claimed), "now": now, "until": until}]))


def extend(connection: Connection, claims: Iterable[Claim], until: int) -> None:
    """Put off the end of the leases."""
    _EXTEND.run(connection, [{**_key(claimed), "until": until} for claimed in claims])


def next_of(connection: Connection, claimed: Claim) -> Waiting | None:
    """The next notification; None when there is none, or the lease was lost."""
    rows = _NEXT.rows(connection, {**_key(claimed), "limit": 1})
    return Waiting(*rows[0]) if rows else None


def settle(connection: Connection, claimed: Claim, number: int, until: int) -> None:
    """It was delivered, whoever owns the subscription now: it is not sent again."""
    _DELETE.run(connection, [{"id": number}])
    _SERVED.run(connection, [{**_key(claimed), "until": until}])


def postpone(connection: Connection, claimed: Claim, attempts: int, until: int) -> None:
    """It was not delivered: the subscription is let go, and due again at ``until``."""
    _POSTPONE.run(connection, [{**_key(claimed), "count": attempts, "until": until}])


def bury(connection: Connection, claimed: Claim, number: int, reason: str, until: int) -> None:
    """Give it up and go on with the next one: a dead letter, kept for an operator."""
    _BURY.run(connection, [{"id": number, "reason": reason}])
    _SERVED.run(connection, [{**_key(claimed), "until": until}])


def release(connection: Connection, claimed: Claim) -> None:
    """Let a subscription go that has nothing more to deliver."""
    _RELEASE.run(connection, [_key(claimed)])


def free(connection: Connection) -> None:
    """End every lease: for whoever knows that no owner lives."""
    _FREE.run(connection, [{"since": 0}])


def count_waiting(connection: Connection) -> int:
    """How many notifications wait."""
    return int(_COUNT.rows(connection, {})[0][0])


def _key(claimed: Claim) -> dict[str, object]:
    return {"subscription": claimed.subscription, "owner_id": claimed.owner}
