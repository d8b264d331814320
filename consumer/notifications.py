"""Subscribing to a broker and being told: the two ends of DSUB outside the broker.

Covers the Document Metadata Subscriber (ITI-52), Publisher (ITI-54) and Notification Recipient
(ITI-53) of ITI TF-1 26, and the Notification Puller (ITI-69, ITI-70) of one that nobody can reach.
A recipient hands each notification to a function and accepts it when that returns; a broker may
repeat what it did not hear accepted, so the function should take the same objects twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from consumer.errors import Faulted, NoAnswer
from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.faults import PeerError, PeerFault
from soap.server import Router, running_server
from transactions import iti_69
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_52 import (
    ITI_52,
    ITI_52_UNSUBSCRIBE,
    SubscribeRequest,
    SubscribeResponse,
    TopicExpression,
    UnsubscribeRequest,
    id_in,
)
from transactions.iti_53 import ITI_53, Notification, Notify
from transactions.iti_54 import ITI_54
from transactions.iti_69 import ITI_69, ITI_69_DESTROY, CreateRequest, DestroyRequest
from transactions.iti_70 import ITI_70, PullRequest
from transactions.query_catalogue import StoredQuery
from transactions.stored_query import encode
from transactions.wsn import Topic

T = TypeVar("T")

# A recipient of tests and small users: notifications come one at a time from each broker.
THREADS = 4


def subscription_filter(known: StoredQuery, **criteria: object) -> AdhocQueryRequest:
    """A filter of ``transactions.subscription_filters`` with these values, by attribute name.

    A value is one text or Code, a sequence of them (any may match), or, where the filter allows
    it, a sequence of sequences (one of each must).
    """
    return encode(known, criteria)


@dataclass(slots=True)
class PullPoint:
    """A pull point at a broker: ``address`` is the consumer of subscriptions, and to be kept.

    ``receipt`` is that of the last answer whose notifications were taken; keeping it too spares
    repetitions after a restart. All methods raise ``ConsumerError``.
    """

    address: str
    client: SoapClient = field(default_factory=SoapClient)
    receipt: int = 0

    def fetch(self, handle: Callable[[Notification], None], maximum: int | None = None) -> int:
        """Hand what waits to ``handle``, one answer of the broker (ITI-70); how many these were.

        What ``handle`` raises leaves all of them at the broker, which gives them again.
        """
        request = PullRequest(iti_69.id_in(self.address), maximum, self.receipt)
        answer = _asking("ITI-70", lambda: self.client.call(self.address, ITI_70, request))
        for notification in answer.notifications:
            handle(notification)
        self.receipt = answer.receipt or 0
        return len(answer.notifications)

    def destroy(self) -> None:
        """End it with its subscriptions (ITI-69)."""
        request = DestroyRequest(iti_69.id_in(self.address))
        _asking("ITI-69", lambda: self.client.call(self.address, ITI_69_DESTROY, request))


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Subscribes at one broker. All methods raise ``ConsumerError``."""

    broker_url: str
    client: SoapClient = field(default_factory=SoapClient)

    def subscribe(
        self, consumer: str, topic: Topic, filter_: AdhocQueryRequest, termination: str = ""
    ) -> SubscribeResponse:
        """Let ``consumer``, an address, be told; ``termination`` is xs:dateTime or xs:duration."""
        request = SubscribeRequest(consumer, [TopicExpression(topic)], [filter_], termination)
        return _asking("ITI-52", lambda: self.client.call(self.broker_url, ITI_52, request))

    def unsubscribe(self, subscription: str) -> None:
        """End the subscription at the address that ``subscribe`` was given."""
        request = UnsubscribeRequest(id_in(subscription))
        _asking("ITI-52", lambda: self.client.call(subscription, ITI_52_UNSUBSCRIBE, request))

    def pull_point(self) -> PullPoint:
        """A new pull point (ITI-69), whose address can be subscribed."""
        made = _asking("ITI-69", lambda: self.client.call(self.broker_url, ITI_69, CreateRequest()))
        return PullPoint(made.pull_point, self.client)

    def publish(self, publication: Notify) -> None:
        """Tell the broker what was registered elsewhere (ITI-54)."""
        _asking("ITI-54", lambda: self.client.send(self.broker_url, ITI_54, publication))


def recipient(handle: Callable[[Notification], None]) -> Operation[Notify, None]:
    """The operation of a Notification Recipient, for an endpoint of one's own.

    What ``handle`` raises refuses the message: the broker sends all of it again.
    """

    def receive(request: Notify, _context: CallContext) -> None:
        for notification in request.notifications:
            handle(notification)

    return Operation(ITI_53, receive)


@contextmanager
def running_recipient(handle: Callable[[Notification], None]) -> Iterator[str]:
    """A Notification Recipient on a free loopback port; yields its address."""
    with ThreadPoolExecutor(THREADS, "recipient") as pool:
        endpoint = Endpoint(
            [recipient(handle)],
            pool=pool,
            title="notifications",
            service_name="NotificationConsumer",
        )
        with running_server(Router({"/notifications": endpoint})) as base:
            yield f"{base}/notifications"


def _asking(number: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except PeerFault as fault:
        name = (fault.subcode or fault.code).rpartition("}")[2]
        raise Faulted(f"{number} ended in a SOAP fault: {name}") from fault
    except PeerError as error:
        raise NoAnswer(f"{number} brought no answer from the broker") from error
