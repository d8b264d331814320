"""Document Metadata Notification Broker: notifications that wait to be fetched (D04)."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Mismatch, NotificationFault, Same
from conformance.seen import Answer, Compared, Seen
from conformance.subscribing import FULL, contents, entry_told, subscribe
from conformance.targets import NotRun
from conformance.text import Text
from metadata.datatypes import CX
from transactions.iti_52 import SubscribeRequest, TopicExpression
from transactions.iti_53 import Notification
from transactions.iti_69 import ITI_69, ITI_69_DESTROY, CreateRequest, DestroyRequest, id_in
from transactions.iti_70 import ITI_70, PullRequest, PullResponse
from transactions.stored_query import encode
from transactions.subscription_filters import DOCUMENT_FILTER

CASES = Cases(Actor.BROKER, "subscriptions registry patients")

MADE = "ITI TF-2 3.69; WS-BaseNotification 1.3, 5.1"
FETCHED = "ITI TF-2 3.70; WS-BaseNotification 1.3, 5.2"


def _point(bench: Bench) -> str:
    """The address of a new pull point; raises NotRun where the broker has none."""
    broker = bench.targets.endpoint("subscriptions")
    answer = bench.wire.call(broker, ITI_69, CreateRequest())
    if answer.fault is not None:
        raise NotRun(Text(f"not offered: {answer.describe()}", f"absent : {answer.describe()}"))
    if answer.response is None:
        raise Mismatch("a pull point with its address", answer.describe())
    return answer.response.pull_point


def _subscribed(bench: Bench, patient: CX) -> str:
    """The address of a pull point that is told of a patient's documents."""
    point = _point(bench)
    filter_ = encode(DOCUMENT_FILTER, {"patient_id": patient})
    answer = subscribe(bench, SubscribeRequest(point, [TopicExpression(FULL)], [filter_]))
    if answer.response is None:
        raise Mismatch("a subscription of the pull point", answer.describe())
    return point


def _pull(bench: Bench, point: str, maximum: int | None = None) -> Answer[PullResponse]:
    """ITI-70, to the address of a pull point; without receipts, which only ours knows."""
    return bench.wire.call(point, ITI_70, PullRequest(id_in(point), maximum))


def _given(bench: Bench, point: str, maximum: int | None = None) -> list[Notification]:
    answer = _pull(bench, point, maximum)
    if answer.response is None:
        raise Mismatch("GetMessagesResponse", answer.describe())
    return list(answer.response.notifications)


@CASES.case(
    "D04-pull",
    "Two documents for a pull point: fetched once each, in order, then nothing",
    "Deux documents pour un point de retrait : retirés une fois chacun, dans l'ordre, puis rien",
    spec=FETCHED,
    expected=[Same("what was registered, once, in order")],
)
def _pulled(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    point = _subscribed(bench, patient)
    before = contents(_given(bench, point))
    entries = [bench.registered_entry(patient) for _ in range(2)]
    seen = [before, contents(_given(bench, point)), contents(_given(bench, point))]
    yield Compared("answers", [[], [entry_told(one) for one in entries], []], seen)


@CASES.case(
    "D04-maximum",
    "MaximumNumber bounds an answer; the next one has the rest",
    "MaximumNumber borne une réponse ; la suivante a le reste",
    spec=FETCHED,
    expected=[Same("one, then the other")],
)
def _bounded(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    point = _subscribed(bench, patient)
    entries = [bench.registered_entry(patient) for _ in range(2)]
    seen = [contents(_given(bench, point, 1)) for _ in range(2)]
    yield Compared("answers", [[entry_told(one)] for one in entries], seen)


@CASES.case(
    "D04-patient",
    "A document of another patient does not come to the pull point",
    "Un document d'un autre patient ne vient pas au point de retrait",
    spec=FETCHED,
    expected=[Same("what fits the filter")],
)
def _of_the_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    point = _subscribed(bench, one)
    bench.registered_entry(other)
    entry = bench.registered_entry(one)
    yield Compared("notifications", [entry_told(entry)], contents(_given(bench, point)))


@CASES.case(
    "D04-destroyed",
    "A destroyed pull point gives nothing more",
    "Un point de retrait détruit ne donne plus rien",
    spec=MADE,
    expected=[Same("DestroyPullPointResponse"), NotificationFault("ResourceUnknownFault")],
)
def _destroyed(bench: Bench) -> Iterator[Seen]:
    point = _point(bench)
    answer = bench.wire.call(point, ITI_69_DESTROY, DestroyRequest(id_in(point)))
    yield Compared("DestroyPullPointResponse", True, answer.response is not None)
    yield _pull(bench, point)
