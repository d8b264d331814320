"""Every case about notifications against brokers that subscribe rightly and tell wrongly."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from conformance.bench import Session
from conformance.results import Verdict
from conformance.run import all_cases, run_case
from metadata import ebrim
from metadata.datatypes import new_uuid_urn
from registry.subscriptions.pull_points import NOBODY, PullPoints
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_52 import SubscribeRequest, UnsubscribeResponse
from transactions.iti_53 import Notification, Notify
from transactions.iti_70 import PullRequest, PullResponse
from transactions.wsn import Topic

TOLD = [case for case in all_cases() if case.id.startswith(("D01", "D03", "D04"))]
Tell = Callable[[Notify], list[Notify]]


def nobody(request: Notify) -> list[Notify]:
    return []


def each(change: Callable[[Notification], Notification]) -> Tell:
    return lambda request: [Notify([change(one) for one in request.notifications])]


def as_others(one: Notification) -> Notification:
    """The same kind of object, another one."""
    [first, *_] = one.fragments
    uuid = ebrim.read_fragment(first).entry_uuid if b"ObjectRef" not in first else ""
    other = new_uuid_urn()
    fragment = first.replace(uuid.encode(), other.encode()) if uuid else ebrim.object_ref(other)
    return replace(one, fragments=[fragment])


def as_references(one: Notification) -> Notification:
    """References to what nobody knows, whatever was asked for."""
    return replace(one, fragments=[ebrim.object_ref(new_uuid_urn())])


def of_all(request: SubscribeRequest) -> SubscribeRequest:
    """A subscription that forgets what it is filtered by, but for the patient."""
    [query] = request.queries
    kept = [slot for slot in query.parameters if slot[0].endswith("PatientId")]
    return replace(request, queries=[AdhocQueryRequest(query.query_id, parameters=kept)])


def twice(request: Notify) -> list[Notify]:
    return [request, request]


def for_ever(request: SubscribeRequest) -> SubscribeRequest:
    return replace(request, termination="")


def nothing(_points: PullPoints, _request: PullRequest) -> PullResponse:
    return PullResponse([])


def the_same_again(points: PullPoints, request: PullRequest) -> PullResponse:
    return points.get(replace(request, received=0), NOBODY, lambda notify: notify)


def everything(points: PullPoints, request: PullRequest) -> PullResponse:
    return points.get(replace(request, maximum=None), NOBODY, lambda notify: notify)


def verdicts(system: Any, ids: set[str]) -> dict[str, Verdict]:
    """What becomes of these cases; some of them wait in vain, so they do not wait long."""
    session = Session(system.targets(timeout=0.5), secrets.token_hex(4))
    return {case.id: run_case(case, session).verdict for case in TOLD if case.id in ids}


@pytest.fixture
def lies(system: Any) -> Iterator[Any]:
    """The broker's way to do things, which is right again afterwards."""
    right = replace(system.lies)
    yield system.lies
    for name in ("hear", "leave", "tell", "give"):
        setattr(system.lies, name, getattr(right, name))


EVERY = {case.id for case in TOLD}
TOPICS = {f"D01-{topic.value.rpartition(':')[2]}" for topic in Topic}
PULLED = {one for one in EVERY if one.startswith("D04")}
FILTERED = {one for one in EVERY if "filter" in one}


@pytest.mark.parametrize("system", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("lie", "shown_by"),
    [
        ({"tell": nobody}, EVERY - PULLED),
        ({"give": nothing}, PULLED),
        ({"give": the_same_again}, {"D04-pull", "D04-maximum"}),
        ({"give": everything}, {"D04-maximum"}),
        ({"tell": each(as_others)}, TOPICS | {"D01-publish", "D03-down"}),
        ({"tell": each(as_references)}, TOPICS),
        ({"tell": twice}, TOPICS | {"D01-any-patient", "D03-down", "D03-restart"}),
        ({"hear": of_all}, FILTERED),
        ({"hear": for_ever}, {"D03-expired"}),
        ({"leave": lambda broker, request: UnsubscribeResponse()}, {"D01-unsubscribed"}),
    ],
    ids=[
        *("nothing", "nothing-pulled", "pulled-again", "pulled-all", "others"),
        *("references", "twice", "unfiltered", "for-ever", "still"),
    ],
)
def test_a_broker_that_tells_wrongly_fails_the_cases_about_it(
    lie: dict[str, Any], shown_by: set[str], system: Any, lies: Any
) -> None:
    for name, value in lie.items():
        setattr(lies, name, value)
    assert verdicts(system, shown_by) == dict.fromkeys(shown_by, Verdict.FAILED)
