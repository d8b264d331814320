"""Pull points: what waits there, for whom, until when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from registry.subscriptions import records
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import Notifier
from registry.subscriptions.pull_points import MOST_GIVEN, Owner, PullPoints, pull_points
from soap.faults import SoapFault
from transactions import iti_69
from transactions.iti_52 import SubscribeRequest, TopicExpression, UnsubscribeRequest, id_in
from transactions.iti_53 import Notify
from transactions.iti_69 import CreateRequest, DestroyRequest
from transactions.iti_70 import PullRequest
from transactions.stored_query import encode
from transactions.subscription_filters import DOCUMENT_FILTER
from transactions.wsn import Topic

MANAGER = "http://broker.example/subscriptions"
CLINIC, OTHER = Owner("CN=clinic", "ann"), Owner("CN=other", "ann")
Shown = Callable[[Notify], Notify | None]


class Desk:
    """A broker with pull points over the house's database, and a notifier that must not send."""

    def __init__(self, house: Any, messages: int = 1000) -> None:
        self.house = house
        self.broker = Broker(
            house.database,
            MANAGER,
            Consumers(),
            longest=timedelta(days=366),
            most=20,
            clock=house.clock,
        )
        self.points = PullPoints(
            house.database,
            MANAGER,
            most=2,
            messages=messages,
            longest=timedelta(days=30),
            clock=house.clock,
        )
        self.asked = 0

    def point(self, owner: Owner = CLINIC) -> str:
        """A new pull point."""
        return iti_69.id_in(self.points.create(CreateRequest(), owner).pull_point)

    def subscribe(self, point: str, owner: Owner = CLINIC) -> str:
        """Let it be told of the house's patient; the subscription."""
        request = SubscribeRequest(
            iti_69.address_of(MANAGER, point),
            [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)],
            [encode(DOCUMENT_FILTER, {"patient_id": self.house.patient})],
        )
        return id_in(self.broker.subscribe(request, owner).subscription)

    def pull(
        self,
        point: str,
        maximum: int | None = None,
        received: int | None = None,
        message: str = "",
        owner: Owner = CLINIC,
        shown: Shown = lambda request: request,
    ) -> tuple[list[str], int | None]:
        """The uniqueIds that are given, and the receipt."""
        self.asked += 1
        message = message or f"urn:uuid:{self.asked}"
        answer = self.points.get(PullRequest(point, maximum, received, message), owner, shown)
        told = [one for each in answer.notifications for one in each.objects().documents]
        return [one.unique_id or "" for one in told], answer.receipt

    def documents(self, count: int) -> list[str]:
        """Register so many; their uniqueIds."""
        return [self.house.registered().unique_id for _ in range(count)]

    def held(self) -> int:
        """How much waits at all pull points."""
        return sum(one.waiting for one in pull_points(self.house.database, 10))


@pytest.fixture
def desk(house: Any) -> Desk:
    return Desk(house)


def name_of(raised: pytest.ExceptionInfo[SoapFault]) -> str:
    return (raised.value.subcode or "").rpartition("}")[2]


def test_a_pull_point_gives_what_was_registered_once_and_in_order(desk: Desk) -> None:
    point = desk.point()
    subscription = desk.subscribe(point)
    assert desk.pull(point)[0] == []
    ids = desk.documents(3)
    (record,) = records.subscriptions(desk.house.database)
    assert (record.id, record.waiting) == (subscription, 3)
    assert desk.pull(point, 2)[0] == ids[:2]
    assert desk.pull(point, 2)[0] == ids[2:]
    assert desk.held() == 1  # nobody has said yet that it arrived
    assert desk.pull(point)[0] == []
    assert desk.held() == 0


def test_what_waits_at_a_pull_point_is_sent_to_nobody(desk: Desk) -> None:
    desk.subscribe(desk.point())
    desk.documents(1)
    sent: list[str] = []
    notifier = Notifier(
        desk.house.database,
        lambda address, _notify: sent.append(address),
        MANAGER,
        give_up_seconds=3600,
        clock=lambda: desk.house.clock.now.timestamp(),
    )
    notifier.run_once()
    assert (sent, desk.held()) == ([], 1)


def test_what_a_receipt_does_not_confirm_is_given_again(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    ids = desk.documents(3)
    given, receipt = desk.pull(point, 2, received=0)
    assert given == ids[:2]
    assert desk.pull(point, received=0)[0] == ids  # the answer was lost, or its reader died
    given, again = desk.pull(point, received=receipt)
    assert given == ids  # the last answer holds them now
    assert desk.pull(point, received=again)[0] == []
    assert desk.held() == 0


def test_a_repeated_request_is_given_the_same_again(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    ids = desk.documents(2)
    assert desk.pull(point, 1, message="urn:uuid:same")[0] == ids[:1]
    assert desk.pull(point, 1, message="urn:uuid:same")[0] == ids[:1]
    assert desk.pull(point, 1)[0] == ids[1:]


def test_asking_for_nothing_confirms_and_too_much_is_cut(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    desk.documents(1)
    assert len(desk.pull(point, MOST_GIVEN + 1)[0]) == 1
    assert desk.pull(point, 0)[0] == []
    assert desk.held() == 0


def test_nobody_else_fetches_destroys_or_subscribes_a_pull_point(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    desk.documents(1)
    for stranger in (OTHER, Owner(CLINIC.node, "bob"), Owner(CLINIC.node)):
        with pytest.raises(SoapFault) as raised:
            desk.pull(point, owner=stranger)
        assert name_of(raised) == "ResourceUnknownFault"
        with pytest.raises(SoapFault) as raised:
            desk.points.destroy(DestroyRequest(point), stranger)
        assert name_of(raised) == "ResourceUnknownFault"
        with pytest.raises(SoapFault) as raised:
            desk.subscribe(point, stranger)
        assert name_of(raised) == "SubscribeCreationFailedFault"
    assert len(desk.pull(point)[0]) == 1


def test_what_may_not_be_shown_now_is_not_given_and_does_not_hide_what_follows(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    ids = desk.documents(3)

    def but_the_first(request: Notify) -> Notify | None:
        return None if request.objects().documents[0].unique_id == ids[0] else request

    assert desk.pull(point, 1, shown=but_the_first)[0] == ids[1:2]
    assert desk.pull(point, 1, shown=but_the_first)[0] == ids[2:]


def test_a_look_that_fails_gives_nothing_and_loses_nothing(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    ids = desk.documents(1)

    def unknown(_request: Notify) -> Notify | None:
        raise SoapFault.busy()

    with pytest.raises(SoapFault):
        desk.pull(point, shown=unknown, message="urn:uuid:a")
    assert desk.pull(point, message="urn:uuid:a")[0] == ids


def test_destroying_a_pull_point_ends_its_subscriptions(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    desk.documents(1)
    desk.points.destroy(DestroyRequest(point), CLINIC)
    assert records.subscriptions(desk.house.database) == []
    assert pull_points(desk.house.database, 10) == []
    with pytest.raises(SoapFault) as raised:
        desk.pull(point)
    assert name_of(raised) == "ResourceUnknownFault"


def test_an_operator_ends_a_pull_point_by_its_id(desk: Desk) -> None:
    point = desk.point()
    desk.subscribe(point)
    assert records.remove(desk.house.database, point)
    assert not records.remove(desk.house.database, point)
    assert records.subscriptions(desk.house.database) == []


def test_unsubscribing_drops_what_waits_at_the_pull_point(desk: Desk) -> None:
    point = desk.point()
    subscription = desk.subscribe(point)
    desk.documents(1)
    desk.broker.unsubscribe(UnsubscribeRequest(subscription))
    assert desk.pull(point)[0] == []


def test_what_nobody_fetches_is_dropped_and_so_is_who_never_asks(desk: Desk) -> None:
    asked, silent = desk.point(), desk.point()
    desk.subscribe(asked)
    desk.subscribe(silent)
    desk.documents(1)
    desk.house.clock.now += timedelta(days=20)
    (late,) = desk.documents(1)
    desk.pull(asked, 0, received=0)
    desk.house.clock.now += timedelta(days=11)
    assert desk.points.tidy() == 1
    assert [one.id for one in pull_points(desk.house.database, 10)] == [asked]
    assert desk.pull(asked)[0] == [late]


def test_asking_in_vain_keeps_a_pull_point(desk: Desk) -> None:
    point = desk.point()
    desk.house.clock.now += timedelta(days=29)
    desk.pull(point)
    desk.house.clock.now += timedelta(days=29)
    assert desk.points.tidy() == 0


def test_of_too_many_the_oldest_are_dropped(house: Any) -> None:
    desk = Desk(house, messages=2)
    point = desk.point()
    desk.subscribe(point)
    ids = desk.documents(4)
    assert desk.points.trim() == 2
    assert desk.points.trim() == 0
    assert desk.pull(point)[0] == ids[2:]


def test_there_are_as_many_pull_points_as_may_be(desk: Desk) -> None:
    desk.point()
    desk.point()
    with pytest.raises(SoapFault) as raised:
        desk.point()
    assert name_of(raised) == "UnableToCreatePullPointFault"
