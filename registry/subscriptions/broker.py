"""The Document Metadata Notification Broker: subscriptions made and ended, publications taken.

Covers the broker's part of ITI TF-2 3.52 (Subscribe, Unsubscribe) and 3.54 (Publish). What a
Subscribe may say is judged by ``transactions.subscription_terms``; who is told of what is
decided by ``matching``; telling them is ``notifier``'s. Publications are compared with the
subscriptions like registrations of our own; references alone (ihe:MinimalDocumentEntry) have
no attributes to compare, so they are told to nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from metadata.datatypes import DTM
from metadata.model import Submission
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.matching import Described, announce, source_of
from registry.subscriptions.pull_points import NOBODY, Owner, busy_as_fault, is_owner
from registry.subscriptions.tables import notification, subscription
from soap.faults import SENDER, SoapFault
from storage.database import Database
from storage.errors import OutOfSpace
from storage.faultpoints import reach
from storage.statement import Statement
from transactions import iti_69, wsn
from transactions.iti_52 import (
    SubscribeRequest,
    SubscribeResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
    address_of,
)
from transactions.iti_53 import Notify
from transactions.subscription_terms import Terms, terms_of

# A filter as it is kept, in characters: hundreds of codes; more would weigh on every
# registration of the patient.
LONGEST_FILTER = 65_536

_COUNT = Statement(select(func.count()).select_from(subscription))
_INSERT = Statement(
    insert(subscription).values(
        {
            name: bindparam(name)
            for name in (
                *("patient", "id", "topic", "consumer", "created_at", "expires_at", "filter"),
                "pull_point",
            )
        }
    )
)
_DELETE = Statement(delete(subscription).where(subscription.c.id == bindparam("of")))
_DELETE_NOTIFICATIONS = Statement(
    delete(notification).where(notification.c.subscription == bindparam("of"))
)


class Broker:
    """Subscriptions of one registry. Safe for use by many threads.

    ``manager`` is the address of the broker, from which those of its subscriptions are made;
    ``longest`` how long a subscription may last, and lasts that names no end; ``most`` how
    many there may be.
    """

    def __init__(
        self,
        database: Database,
        manager: str,
        consumers: Consumers,
        *,
        longest: timedelta,
        most: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._manager = manager
        self._consumers = consumers
        self._longest = longest
        self._most = most
        self._clock = clock

    def subscribe(self, request: SubscribeRequest, asker: Owner = NOBODY) -> SubscribeResponse:
        """Make a subscription (ITI-52); durable when this returns.

        Its consumer may be a pull point of this broker, of which ``asker`` is the owner.

        Raises the fault (SoapFault) that the request deserves, the busy fault, and
        StorageError when the database failed.
        """
        now = self._clock()
        terms = terms_of(request, now, self._longest)
        point = self._pull_point(request.consumer)
        self._check(request, terms, point)
        identifier = str(uuid4())
        row = {
            "patient": terms.patient,
            "id": identifier,
            "topic": str(terms.topic),
            "consumer": request.consumer,
            "created_at": DTM.of(now),
            "expires_at": DTM.of(terms.expires),
            "filter": terms.filter,
            "pull_point": point or None,
        }

        def work(connection: Connection) -> None:
            if _COUNT.rows(connection, {})[0][0] >= self._most:
                raise _creation_failed(f"there are {self._most} subscriptions, as many as may be")
            if point and not is_owner(connection, point, asker):
                raise _creation_failed("no pull point of yours has that address")
            _INSERT.run(connection, [row])
            reach("broker.before_commit")

        with busy_as_fault():
            self._database.write(work)
        address = address_of(self._manager, identifier)
        return SubscribeResponse(address, wsn.write_time(now), wsn.write_time(terms.expires))

    def unsubscribe(self, request: UnsubscribeRequest) -> UnsubscribeResponse:
        """End a subscription and drop what was still to be delivered (ITI-52).

        Raises ResourceUnknownFault when there is none at this address,
        UnableToDestroySubscriptionFault when the database has no room for the change, and
        what ``subscribe`` raises of the database.
        """
        try:
            with busy_as_fault():
                known = self._database.write(lambda connection: end(connection, request.id))
        except OutOfSpace:
            raise wsn.fault(wsn.UNABLE_TO_DESTROY, "the broker is out of space") from None
        if not known:
            raise wsn.fault(wsn.RESOURCE_UNKNOWN, "no subscription has this address")
        return UnsubscribeResponse()

    def publish(self, request: Notify) -> None:
        """Take a publication (ITI-54); who is to be told is durable when this returns.

        Raises a Sender fault for objects that cannot be read, the busy fault, and StorageError.
        """
        told = [(one, _readable(one.objects())) for one in request.notifications]
        now = DTM.of(self._clock())

        def work(connection: Connection) -> None:
            for one, submission in told:
                sets = submission.submission_sets
                producer = one.producer or (source_of(sets[0]) if sets else "")
                for patient, objects in _by_patient(submission).items():
                    announce(connection, patient, objects, now, producer)
            reach("broker.before_commit")

        with busy_as_fault():
            self._database.write(work)

    def _pull_point(self, consumer: str) -> str:
        """The pull point of this broker at that address; empty for another's address."""
        point = iti_69.id_in(consumer)
        return point if consumer == iti_69.address_of(self._manager, point) else ""

    def _check(self, request: SubscribeRequest, terms: Terms, point: str) -> None:
        """Raise SubscribeCreationFailedFault for what is right but will not be done."""
        if request.parameterised:
            raise _creation_failed("reference parameters are not supported: use the address alone")
        if not point and not self._consumers.allow(request.consumer):
            raise _creation_failed("this node may not send notifications to that address")
        if len(terms.filter) > LONGEST_FILTER:
            raise _creation_failed(f"the filter has more than {LONGEST_FILTER} characters")


def end(connection: Connection, identifier: str) -> bool:
    """Remove a subscription with everything that waits for it; whether there was one."""
    known = bool(_DELETE.run(connection, [{"of": identifier}]))
    _DELETE_NOTIFICATIONS.run(connection, [{"of": identifier}])
    return known


def _creation_failed(reason: str) -> SoapFault:
    return wsn.fault(wsn.CREATION_FAILED, reason)


def _readable(submission: Submission) -> Submission:
    """``submission``, which can be rendered again; raises a Sender fault otherwise."""
    faults = [fault for fault in submission.faults if not fault.rule.is_warning]
    if faults:
        reason = "; ".join(fault.error("ITI-42").context for fault in faults)
        raise SoapFault(SENDER, f"the objects published cannot be read: {reason}")
    return submission


def _by_patient(submission: Submission) -> dict[str, list[Described]]:
    """The published objects by the patient they name; those that name none are left out."""
    found: dict[str, list[Described]] = {}
    described: tuple[Described, ...] = (
        *submission.submission_sets,
        *submission.documents,
        *submission.folders,
    )
    for one in described:
        if one.patient_id:
            found.setdefault(one.patient_id.normalised(), []).append(one)
    return found
