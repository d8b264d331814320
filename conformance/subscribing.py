"""The words of the cases about notifications: to subscribe, and to see what comes.

The kit subscribes an address of its own (``simulator``). That nothing comes is proven by what
comes after it: notifications of one subscription arrive in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conformance.bench import Bench
from conformance.expectation import Mismatch
from conformance.seen import Answer
from conformance.simulator import Inbox, Recipient, recipient
from conformance.targets import NotRun
from conformance.text import Text
from metadata.datatypes import CX
from metadata.model import DocumentEntry
from transactions.iti_52 import (
    ITI_52,
    ITI_52_UNSUBSCRIBE,
    SubscribeRequest,
    SubscribeResponse,
    TopicExpression,
    UnsubscribeRequest,
    UnsubscribeResponse,
    id_in,
)
from transactions.iti_53 import Notification
from transactions.query_catalogue import StoredQuery
from transactions.stored_query import encode
from transactions.subscription_filters import (
    ANY_PATIENT_DOCUMENT_FILTER,
    DOCUMENT_FILTER,
    FOLDER_FILTER,
)
from transactions.wsn import Topic

MOST_SECONDS = 30.0
"""How long a notification may take: a broker that was refused may wait before it tries again."""

QUIET_SECONDS = 1.0
"""How long to wait for what must not come, once another has been told of the same."""

FULL = Topic.FULL_DOCUMENT_ENTRY
OPTIONAL_FILTERS = (FOLDER_FILTER, ANY_PATIENT_DOCUMENT_FILTER)

Content = dict[str, list[str]]


@contextmanager
def place(bench: Bench) -> Iterator[Recipient]:
    """A recipient that does not listen yet."""
    host, port = bench.targets.listener_address()
    with recipient(host, port, bench.record) as made:
        yield made


@contextmanager
def listening(bench: Bench) -> Iterator[Recipient]:
    """A recipient that listens."""
    with place(bench) as made, made.listening():
        yield made


def subscribe(bench: Bench, request: SubscribeRequest) -> Answer[SubscribeResponse]:
    """ITI-52."""
    return bench.wire.call(bench.targets.endpoint("subscriptions"), ITI_52, request)


def unsubscribe(bench: Bench, subscription: str) -> Answer[UnsubscribeResponse]:
    """ITI-52, to the address of a subscription."""
    request = UnsubscribeRequest(id_in(subscription))
    return bench.wire.call(subscription, ITI_52_UNSUBSCRIBE, request)


def subscribed(
    bench: Bench, inbox: Inbox, topic: Topic, known: StoredQuery, *, end: str = "", **by: Any
) -> str:
    """The address of a subscription, which must be made; ``by`` are the filter's values.

    Raises NotRun where the broker refuses what is an option.
    """
    filter_ = encode(known, by)
    request = SubscribeRequest(inbox.address, [TopicExpression(topic)], [filter_], end)
    answer = subscribe(bench, request)
    if answer.fault is not None and known in OPTIONAL_FILTERS:
        raise NotRun(Text(f"not offered: {answer.describe()}", f"absent : {answer.describe()}"))
    if answer.response is None or not answer.response.subscription:
        raise Mismatch("a subscription with its address", answer.describe())
    return answer.response.subscription


def of_patient(bench: Bench, inbox: Inbox, patient: CX, **more: Any) -> str:
    """A subscription to whole entries of a patient."""
    return subscribed(bench, inbox, FULL, DOCUMENT_FILTER, patient_id=patient, **more)


def told(bench: Bench, inbox: Inbox, count: int = 1) -> list[Notification]:
    """The next notifications, as many as come in time."""
    found: list[Notification] = []
    while len(found) < count:
        notification = inbox.next(min(MOST_SECONDS, bench.targets.timeout))
        if notification is None:
            break
        found.append(notification)
    return found


def contents(notifications: list[Notification]) -> list[Content]:
    """The content of each notification."""
    return [content(one) for one in notifications]


def content(notification: Notification) -> Content:
    """The entryUUIDs of a notification, by the kind of object they are told as."""
    objects = notification.objects()
    kinds = {
        "ExtrinsicObject": [one.entry_uuid for one in objects.documents],
        "ObjectRef": objects.object_refs,
        "SubmissionSet": [one.entry_uuid for one in objects.submission_sets],
        "Folder": [one.entry_uuid for one in objects.folders],
    }
    return {kind: ids for kind, ids in kinds.items() if ids}


def entry_told(entry: DocumentEntry) -> Content:
    """What a subscription to whole entries is told of one."""
    return {"ExtrinsicObject": [entry.entry_uuid]}
