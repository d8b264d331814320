"""Identity messages at the same moment as each other, and as registrations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from metadata.datatypes import CX
from registry import schema
from registry.administration import Administration
from registry.merges import NotMerged
from tests.registry.test_rivals import at_once, verdicts
from transactions.stored_query import find_documents

ROUNDS = 6  # each one a race of its own: patients of one round meet no others


@pytest.fixture
def announced(house: Any) -> Callable[..., list[str]]:
    """Announces patients for one round; their identifiers."""

    def announce(number: int, *names: str) -> list[str]:
        identifiers = [f"{name}{number}" for name in names]
        for identifier in identifiers:
            assert house.feed("A01", identifier).ack_code == "AA"
        return identifiers

    return announce


def survivors(house: Any) -> dict[str, str]:
    with house.database.read() as connection:
        return {row.id: row.survivor for row in connection.execute(select(schema.patient))}


def assert_consistent(house: Any) -> None:
    """Every survivor is what the merges in force say, and there is no ring."""
    with house.database.read() as connection:
        into = {
            row.subsumed: row.surviving for row in connection.execute(select(schema.patient_merge))
        }
    for key, survivor in survivors(house).items():
        end, steps = key, 0
        while end in into:
            end, steps = into[end], steps + 1
            assert steps <= len(into)
        assert survivor == end


def test_of_two_merges_across_each_other_one_is_refused(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    for number in range(ROUNDS):
        a, b = announced(number, "a", "b")
        outcomes = at_once(
            [partial(house.feed, "A40", b, subsumed=a), partial(house.feed, "A40", a, subsumed=b)]
        )
        assert sorted(outcome.ack_code for outcome in outcomes) == ["AA", "AE"]
        survivor = b if outcomes[0].ack_code == "AA" else a
        assert {survivors(house)[house.cx(one)] for one in (a, b)} == {house.cx(survivor)}
    assert_consistent(house)


def test_merges_around_a_ring_leave_no_ring(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    for number in range(ROUNDS):
        ring = announced(number, *"abcde")
        outcomes = at_once(
            [
                partial(house.feed, "A40", ring[(place + 1) % len(ring)], subsumed=one)
                for place, one in enumerate(ring)
            ]
        )
        assert {outcome.ack_code for outcome in outcomes} == {"AA", "AE"}
    assert_consistent(house)


def test_chains_that_grow_at_both_ends_stay_whole(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    """Each merge locks a chain that the other is about to lengthen."""
    for number in range(ROUNDS):
        a, b, c, d = announced(number, *"abcd")
        house.feed("A40", b, subsumed=a)
        at_once(
            [
                partial(house.feed, "A40", c, subsumed=b),
                partial(house.feed, "A40", b, subsumed=d),
                partial(house.feed, "A40", d, subsumed=c),
            ]
        )
    assert_consistent(house)


def test_an_admission_during_a_merge_brings_nobody_back(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    for number in range(ROUNDS):
        gone, stays = announced(number, "gone", "stays")
        *admissions, merge = at_once(
            [
                *[partial(house.feed, "A01", gone)] * 4,
                partial(house.feed, "A40", stays, subsumed=gone),
            ]
        )
        assert merge.ack_code == "AA"
        assert {outcome.ack_code for outcome in admissions} <= {"AA", "AE"}
        assert survivors(house)[house.cx(gone)] == house.cx(stays)
        assert house.feed("A01", gone).ack_code == "AE"


def test_a_merge_of_who_is_just_being_admitted_is_all_or_nothing(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    for number in range(ROUNDS):
        [stays] = announced(number, "stays")
        new = f"new{number}"
        admission, merge = at_once(
            [partial(house.feed, "A01", new), partial(house.feed, "A40", stays, subsumed=new)]
        )
        merged = merge.ack_code == "AA"
        # Both came in some order: a merge that was first knew nobody and left the id usable.
        assert admission.ack_code == "AA"
        assert survivors(house)[house.cx(new)] == house.cx(stays if merged else new)


def test_no_registration_lands_on_a_local_id_that_has_moved(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    """What was registered before the link change moves with it, what comes after stays."""
    local = CX("local^^^&1.2.3&ISO")
    for number in range(ROUNDS):
        previous, current = announced(number, "previous", "current")
        drafts = [house.draft(previous) for _ in range(4)]
        for draft in drafts:
            draft.document(source_patient_id=local)

        def relink(previous: str = previous, current: str = current) -> set[str]:
            assert house.relink(previous, current, local).ack_code == "AA"
            return documents(house, current)

        tasks = [partial(house.registry.register, draft.request()) for draft in drafts]
        *responses, moved = at_once([*tasks, relink])
        assert verdicts(responses) == {(): len(drafts)}
        assert documents(house, current) == moved
        assert len(moved) + len(documents(house, previous)) == len(drafts)


def documents(house: Any, patient: str) -> set[str]:
    found = house.answer(find_documents(house.cx(patient))).documents
    assert {one.patient_id for one in found} <= {house.cx(patient)}
    return {one.unique_id for one in found}


def test_of_a_link_change_and_a_merge_of_the_same_patients_both_or_one(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    for number in range(ROUNDS):
        a, b = announced(number, "a", "b")
        draft = house.draft(a)
        draft.document()
        house.accept(draft)
        relinked, merged = at_once(
            [partial(house.relink, a, b), partial(house.feed, "A40", b, subsumed=a)]
        )
        assert merged.ack_code == "AA"
        assert relinked.ack_code in ("AA", "AE")
        assert documents(house, b) == {draft.submission.documents[0].unique_id}
    assert_consistent(house)


def test_an_unmerge_during_a_merge_of_the_survivor_leaves_chains_whole(
    house: Any, announced: Callable[..., list[str]]
) -> None:
    admin = Administration(house.database, house.clock)

    def unmerge(identifier: str) -> bool:
        try:
            admin.unmerge(house.cx(identifier), "root", "wrong")
        except NotMerged:
            return False
        return True

    for number in range(ROUNDS):
        a, b, c = announced(number, *"abc")
        house.feed("A40", b, subsumed=a)
        first, second, merge = at_once(
            [partial(unmerge, a), partial(unmerge, a), partial(house.feed, "A40", c, subsumed=b)]
        )
        assert sorted((first, second)) == [False, True]
        assert merge.ack_code == "AA"
        found = survivors(house)
        assert found[house.cx(a)] == house.cx(a)
        assert found[house.cx(b)] == house.cx(c)
    assert_consistent(house)
