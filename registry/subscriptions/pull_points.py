"""Pull points: notifications wait here for recipients that nobody can reach.

Covers the Notification Pull Point of DSUB: ITI TF-2 3.69 (made and ended) and 3.70 (fetched), which
is WS-BaseNotification 1.3, 5. A subscription whose consumer is a pull point has its notifications
kept by the commit that registers; what is fetched stays until the recipient shows that it arrived:

- who sends back receipts (``transactions.iti_70``) has arrived what his receipt says, and is given
  everything else again;
- for any other, the next GetMessages shows it, unless it repeats the one before (its MessageID).

A pull point is known to its owner alone. One that was not asked for too long, and a message that
was not fetched for as long, are dropped, and the oldest of too many (``tidy``, ``trim``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import structlog
from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from metadata.datatypes import DTM
from registry.subscriptions.tables import notification, pull_point, subscription
from soap.faults import SoapFault
from storage.database import Database
from storage.errors import DatabaseBusy, OutOfSpace
from storage.statement import Statement
from transactions import iti_52, iti_69, wsn
from transactions.iti_53 import Notification, Notify
from transactions.iti_69 import (
    CreateRequest,
    CreateResponse,
    DestroyRequest,
    DestroyResponse,
)
from transactions.iti_70 import PullRequest, PullResponse

_log = structlog.get_logger("kosmos.subscriptions")

MOST_GIVEN = 100
"""Notifications in one answer: whole entries of some 8 KB each, so below a megabyte."""

# How exactly it is known when a pull point was last asked: asking in vain writes once in this time.
_ASKED = timedelta(hours=1)

_P, _N, _S = pull_point.c, notification.c, subscription.c
_OWN = (
    _P.id == bindparam("of"),
    _P.node == bindparam("owner_node"),
    _P.user_name == bindparam("owner_user"),
)
_HELD = _N.pull_point == bindparam("of")

_COUNT = Statement(select(func.count()).select_from(pull_point))
_INSERT = Statement(
    insert(pull_point).values(
        {
            name: bindparam(name)
            for name in ("id", "node", "user_name", "created_at", "asked_at", "answers", "last")
        }
    )
)
_FIND = Statement(select(_P.answers, _P.last, _P.asked_at).where(*_OWN))
_LOCK = Statement(select(_P.answers, _P.last, _P.asked_at).where(*_OWN).with_for_update())
_ANSWERED = Statement(
    update(pull_point)
    .where(_P.id == bindparam("of"))
    .values(answers=bindparam("count"), last=bindparam("message"), asked_at=bindparam("now"))
)
_ANY = Statement(select(_N.number).where(_HELD).limit(bindparam("limit")))
_ARRIVED = Statement(delete(notification).where(_HELD, _N.given <= bindparam("answer")))
_NEXT = Statement(
    select(_N.number, _N.subscription, _N.topic, _N.producer, _N.objects)
    .where(_HELD, or_(_N.given.is_(None), _N.given < bindparam("answer")))
    .order_by(_N.number)
    .limit(bindparam("limit"))
)
_GIVEN = Statement(
    update(notification).where(_N.number == bindparam("id")).values(given=bindparam("answer"))
)
_DELETE = Statement(delete(pull_point).where(_P.id == bindparam("of")))
_DELETE_SUBSCRIPTIONS = Statement(delete(subscription).where(_S.pull_point == bindparam("of")))
_DELETE_HELD = Statement(delete(notification).where(_HELD))
_OLD = Statement(
    delete(notification).where(_N.pull_point.is_not(None), _N.created_at <= bindparam("before"))
)
_UNASKED = Statement(select(_P.id).where(_P.asked_at <= bindparam("before")))
_TOO_MANY = Statement(
    select(_N.pull_point)
    .where(_N.pull_point.is_not(None))
    .group_by(_N.pull_point)
    .having(func.count() > bindparam("most"))
)
_OLDEST_KEPT = (
    select(_N.number)
    .where(_HELD)
    .order_by(_N.number.desc())
    .limit(1)
    .offset(bindparam("most"))
    .scalar_subquery()
)
_TRIM = Statement(delete(notification).where(_HELD, _N.number <= _OLDEST_KEPT))
_ALL = Statement(
    select(_P.id, _P.node, _P.user_name, _P.created_at, _P.asked_at, func.count(_N.number))
    .join_from(pull_point, notification, _N.pull_point == _P.id, isouter=True)
    .group_by(*(_P.id, _P.node, _P.user_name, _P.created_at, _P.asked_at))
    .order_by(_P.created_at, _P.id)
    .limit(bindparam("limit"))
)


class Owner(NamedTuple):
    """Whose a pull point is: a node, and its user where it asked for one."""

    node: str = ""
    user: str = ""


NOBODY = Owner()
"""Who asks where nobody is asked who he is."""


class PullPointRecord(NamedTuple):
    """A pull point as an operator sees it; times are DTM, ``waiting`` counts its notifications."""

    id: str
    node: str
    user: str
    created_at: str
    asked_at: str
    waiting: int


class _State(NamedTuple):
    """What a pull point remembers."""

    answers: int
    last: str
    asked_at: str


class _Held(NamedTuple):
    """A notification that waits to be fetched."""

    number: int
    subscription: str
    topic: str
    producer: str
    objects: bytes


class PullPoints:
    """The pull points of one broker, whose address is ``manager``. Safe for many threads.

    ``most`` is how many there may be, ``messages`` how many notifications each may hold,
    ``longest`` how long a notification, and a pull point that nobody asks, are kept.
    """

    def __init__(
        self,
        database: Database,
        manager: str,
        *,
        most: int,
        messages: int,
        longest: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._manager = manager
        self._most = most
        self._messages = messages
        self._longest = longest
        self._clock = clock

    def create(self, _request: CreateRequest, owner: Owner) -> CreateResponse:
        """Make a pull point (ITI-69); durable when this returns.

        Raises UnableToCreatePullPointFault where there are as many as may be, the busy fault, and
        StorageError.
        """
        identifier, now = str(uuid4()), DTM.of(self._clock())
        row = {"id": identifier, "node": owner.node, "user_name": owner.user, "answers": 0}

        def work(connection: Connection) -> None:
            if _COUNT.rows(connection, {})[0][0] >= self._most:
                reason = f"there are {self._most} pull points, as many as may be"
                raise wsn.fault(wsn.UNABLE_TO_CREATE_PULL_POINT, reason)
            _INSERT.run(connection, [row | {"created_at": now, "asked_at": now, "last": ""}])

        with busy_as_fault():
            self._database.write(work)
        return CreateResponse(iti_69.address_of(self._manager, identifier))

    def destroy(self, request: DestroyRequest, owner: Owner) -> DestroyResponse:
        """End a pull point with its subscriptions and what waits for them (ITI-69).

        Raises ResourceUnknownFault when ``owner`` has none at this address,
        UnableToDestroyPullPointFault when the database has no room, and what ``create`` raises.
        """

        def work(connection: Connection) -> bool:
            known = _LOCK.rows(connection, _key(request.id, owner))
            return bool(known) and end_pull_point(connection, request.id)

        try:
            with busy_as_fault():
                known = self._database.write(work)
        except OutOfSpace:
            reason = "the broker is out of space"
            raise wsn.fault(wsn.UNABLE_TO_DESTROY_PULL_POINT, reason) from None
        if not known:
            raise wsn.fault(wsn.NOTHING_TO_DESTROY, "no pull point of yours has this address")
        return DestroyResponse()

    def get(
        self, request: PullRequest, owner: Owner, shown: Callable[[Notify], Notify | None]
    ) -> PullResponse:
        """Give what waits, the oldest first, of what ``shown`` lets pass now (ITI-70).

        Raises ResourceUnknownFault when ``owner`` has no pull point at this address, the busy
        fault, StorageError, and what ``shown`` raises: all is given again then.
        """
        wanted = min(MOST_GIVEN if request.maximum is None else request.maximum, MOST_GIVEN)
        with busy_as_fault():
            if (answers := self._idle(request, owner)) is not None:
                return PullResponse([], answers)
            answer = self._database.write(
                lambda connection: self._begin(connection, request, owner)
            )
        given: list[Notification] = []
        while len(given) < wanted and (held := self._take(request.id, answer, wanted - len(given))):
            for one in held:
                told = shown(Notify([self._notification(one)]))
                given += told.notifications if told else ()
        return PullResponse(given, answer)

    def trim(self) -> int:
        """Drop the oldest notifications of pull points that hold too many; how many went."""
        with self._database.read() as connection:
            crowded = [row[0] for row in _TOO_MANY.rows(connection, {"most": self._messages})]

        def work(connection: Connection) -> int:
            return sum(
                _TRIM.run(connection, [{"of": one, "most": self._messages}]) for one in crowded
            )

        return self._database.write(work) if crowded else 0

    def tidy(self) -> int:
        """Drop what nobody fetches: old notifications, pull points not asked; how many of these."""
        before = {"before": DTM.of(self._clock() - self._longest)}

        def work(connection: Connection) -> int:
            _OLD.run(connection, [before])
            unasked = [row[0] for row in _UNASKED.rows(connection, before)]
            return sum(end_pull_point(connection, one) for one in unasked)

        return self._database.write(work)

    def _idle(self, request: PullRequest, owner: Owner) -> int | None:
        """The number of answers where there is nothing to give, to confirm or to remember."""
        with self._database.read() as connection:
            state = _known(_FIND.rows(connection, _key(request.id, owner)))
            waits = _ANY.rows(connection, {"of": request.id, "limit": 1})
        stale = DTM(state.asked_at).earliest() + _ASKED <= self._clock()
        return None if waits or stale else state.answers

    def _begin(self, connection: Connection, request: PullRequest, owner: Owner) -> int:
        """Drop what has arrived; the number of the answer to come.

        The row of the pull point is locked: two requests at once are answered one by one.
        """
        state = _known(_LOCK.rows(connection, _key(request.id, owner)))
        repeated = bool(request.message_id) and request.message_id == state.last
        arrived = request.received
        if arrived is None:
            arrived = 0 if repeated else state.answers
        _ARRIVED.run(connection, [{"of": request.id, "answer": arrived}])
        answer, now = state.answers + 1, DTM.of(self._clock())
        _ANSWERED.run(
            connection,
            [{"of": request.id, "count": answer, "message": request.message_id, "now": now}],
        )
        return answer

    def _take(self, identifier: str, answer: int, limit: int) -> list[_Held]:
        """The next that this answer does not hold yet, held by it from now on."""

        def work(connection: Connection) -> list[_Held]:
            key = {"of": identifier, "answer": answer}
            rows = [_Held(*row) for row in _NEXT.rows(connection, key | {"limit": limit})]
            if rows:
                _GIVEN.run(connection, [{"id": one.number, "answer": answer} for one in rows])
            return rows

        with busy_as_fault():
            return self._database.write(work)

    def _notification(self, one: _Held) -> Notification:
        return Notification(
            fragments=[one.objects],
            topic=one.topic,
            subscription=iti_52.address_of(self._manager, one.subscription),
            producer=one.producer or self._manager,
        )


def pull_points(database: Database, limit: int) -> list[PullPointRecord]:
    """The oldest pull points, for an operator."""
    with database.read() as connection:
        return [PullPointRecord(*row) for row in _ALL.rows(connection, {"limit": limit})]


def is_owner(connection: Connection, identifier: str, owner: Owner) -> bool:
    """Whether ``owner`` has this pull point, which nobody ends before the transaction does."""
    return bool(_LOCK.rows(connection, _key(identifier, owner)))


def end_pull_point(connection: Connection, identifier: str) -> bool:
    """Remove a pull point, its subscriptions and what waits for them; whether there was one."""
    key = [{"of": identifier}]
    known = bool(_DELETE.run(connection, key))
    _DELETE_SUBSCRIPTIONS.run(connection, key)
    _DELETE_HELD.run(connection, key)
    return known


@contextmanager
def busy_as_fault() -> Iterator[None]:
    """A database that is busy becomes the busy fault."""
    try:
        yield
    except DatabaseBusy:
        raise SoapFault.busy() from None


def _known(rows: list[tuple[int, str, str]]) -> _State:
    if not rows:
        raise wsn.fault(wsn.NOTHING_TO_GET_FROM, "no pull point of yours has this address")
    return _State(*rows[0])


def _key(identifier: str, owner: Owner) -> dict[str, str]:
    return {"of": identifier, "owner_node": owner.node, "owner_user": owner.user}
