"""Chains of merges as queries see them, and merges undone."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from metadata import identifiers as xds
from metadata.datatypes import CX
from registry import Registry
from registry.administration import Administration
from registry.merges import NotMerged
from registry.schema import identity_message, patient, patient_merge, patient_unmerge
from transactions.stored_query import find_documents, find_submission_sets, get_documents


@pytest.fixture
def admin(house: Any) -> Administration:
    house.feed("A01", "P3")
    return Administration(house.database, house.clock)


def document(house: Any, patient_id: str) -> str:
    """A document registered for a patient; its uniqueId."""
    draft = house.draft(patient_id)
    unique_id = str(draft.document().unique_id)
    house.accept(draft)
    return unique_id


def found(house: Any, patient_id: str) -> dict[str, CX]:
    """What FindDocuments shows of a patient: patientIds by uniqueId."""
    documents = house.answer(find_documents(house.cx(patient_id))).documents
    return {one.unique_id: one.patient_id for one in documents}


def unknown(house: Any, patient_id: str) -> bool:
    query = find_documents(house.cx(patient_id))
    return bool(house.query_errors(query) == ["XDSUnknownPatientId"])


def merged_three(house: Any) -> list[str]:
    """P1 merged into P2 merged into P3, a document registered for each before."""
    documents = [document(house, one) for one in ("P1", "P2", "P3")]
    assert house.feed("A40", "P2", subsumed="P1").ack_code == "AA"
    assert house.feed("A40", "P3", subsumed="P2").ack_code == "AA"
    return documents


def test_the_survivor_of_three_has_everything_under_its_own_id(
    house: Any, admin: Administration
) -> None:
    documents = merged_three(house)
    assert found(house, "P3") == dict.fromkeys(documents, house.cx("P3"))
    sets = house.answer(find_submission_sets(house.cx("P3"))).submission_sets
    assert {one.patient_id for one in sets} == {house.cx("P3")}
    assert len(sets) == 3
    [by_id] = house.answer(get_documents(unique_id=[documents[0]])).documents
    assert by_id.patient_id == house.cx("P3")
    assert by_id.source_patient_id == "local^^^&1.2.3&ISO"


def test_of_three_the_first_and_the_second_are_gone(house: Any, admin: Administration) -> None:
    merged_three(house)
    for gone in ("P1", "P2"):
        assert unknown(house, gone)
        draft = house.draft(gone)
        draft.document()
        assert house.errors(draft) == ["XDSUnknownPatientId"]


def test_a_domain_may_answer_nothing_for_who_is_gone(house: Any, admin: Administration) -> None:
    documents = merged_three(house)
    house.registry = Registry(
        house.database, replace(house.domain, unknown_patient="empty", merged_patient="empty")
    )
    assert (found(house, "P1"), found(house, "P2")) == ({}, {})
    assert found(house, "P3").keys() == set(documents)
    admin.unmerge(house.cx("P2"), "root", "wrong")
    assert found(house, "P1") == {}
    assert found(house, "P2").keys() == set(documents[:2])


def test_the_first_of_three_unmerged_leaves_the_others_merged(
    house: Any, admin: Administration
) -> None:
    one, two, three = merged_three(house)
    undone = admin.unmerge(house.cx("P1"), "root", "not the same person")
    assert (undone.merge.subsumed, undone.merge.surviving) == (house.cx("P1"), house.cx("P2"))
    assert undone.joining == []
    assert found(house, "P1") == {one: house.cx("P1")}
    assert found(house, "P3") == dict.fromkeys((two, three), house.cx("P3"))
    assert unknown(house, "P2")


def test_the_second_of_three_unmerged_takes_the_first_along(
    house: Any, admin: Administration
) -> None:
    one, two, three = merged_three(house)
    admin.unmerge(house.cx("P2"), "root", "not the same person")
    assert found(house, "P2") == dict.fromkeys((one, two), house.cx("P2"))
    assert found(house, "P3") == {three: house.cx("P3")}
    assert unknown(house, "P1")


@pytest.mark.parametrize("order", list(permutations(("P1", "P2"))))
def test_all_unmerged_is_as_it_was(
    house: Any, admin: Administration, order: tuple[str, str]
) -> None:
    documents = merged_three(house)
    for identifier in order:
        admin.unmerge(house.cx(identifier), "root", "all wrong")
    for identifier, unique_id in zip(("P1", "P2", "P3"), documents, strict=True):
        assert found(house, identifier) == {unique_id: house.cx(identifier)}


def test_what_the_survivor_got_in_between_stays_with_it(house: Any, admin: Administration) -> None:
    house.feed("A40", "P2", subsumed="P1")
    between = document(house, "P2")
    admin.unmerge(house.cx("P1"), "root", "wrong")
    assert found(house, "P2") == {between: house.cx("P2")}
    assert found(house, "P1") == {}


def test_what_was_joined_across_the_merge_is_named(house: Any, admin: Administration) -> None:
    old = house.registered()
    house.feed("A40", "P2", subsumed="P1")
    draft = house.draft("P2")
    draft.link(xds.RPLC, draft.document().entry_uuid, old.entry_uuid)
    house.accept(draft)
    [replacement] = [
        link.entry_uuid for link in house.links(old.entry_uuid) if link.association_type == xds.RPLC
    ]
    assert admin.unmerge(house.cx("P1"), "root", "wrong").joining == [replacement]


def test_an_unmerged_identifier_is_fed_and_submitted_to_again(
    house: Any, admin: Administration
) -> None:
    house.feed("A40", "P2", subsumed="P1")
    admin.unmerge(house.cx("P1"), "root", "wrong")
    assert house.feed("A01", "P1").ack_code == "AA"
    unique_id = document(house, "P1")
    assert house.feed("A40", "P3", subsumed="P1").ack_code == "AA"
    assert found(house, "P3") == {unique_id: house.cx("P3")}


def test_an_unmerge_is_kept_with_who_when_and_why(
    house: Any, admin: Administration, clock: Any
) -> None:
    house.feed("A40", "P2", subsumed="P1", control_id="M7")
    admin.unmerge(house.cx("P1"), "operator", "two brothers")
    with house.database.read() as connection:
        [row] = connection.execute(select(patient_unmerge)).all()
        assert connection.execute(select(patient_merge)).all() == []
    assert (row.subsumed, row.surviving) == (house.cx("P1"), house.cx("P2"))
    assert (row.operator, row.reason, row.control_id) == ("operator", "two brothers", "M7")
    assert row.unmerged_at == f"{clock.now:%Y%m%d%H%M%S}"


@pytest.mark.parametrize("identifier", ["P2", "nobody"])
def test_only_what_was_merged_can_be_unmerged(
    house: Any, admin: Administration, identifier: str
) -> None:
    house.feed("A40", "P2", subsumed="P1")
    with pytest.raises(NotMerged):
        admin.unmerge(house.cx(identifier), "root", "why not")
    with house.database.read() as connection:
        assert connection.execute(select(patient_unmerge)).all() == []


def test_the_redelivery_of_an_undone_merge_does_not_do_it_again(
    house: Any, admin: Administration
) -> None:
    message = {"control_id": "M1", "digest": "same"}
    house.feed("A40", "P2", subsumed="P1", **message)
    admin.unmerge(house.cx("P1"), "root", "wrong")
    assert house.feed("A40", "P2", subsumed="P1", **message).ack_code == "AA"
    assert house.patients.known(house.cx("P1"))


# --- What an operator sees -------------------------------------------------------------------


def test_a_patient_is_shown_with_its_chain_and_history(house: Any, admin: Administration) -> None:
    merged_three(house)
    admin.unmerge(house.cx("P1"), "root", "wrong")
    record = admin.show(house.cx("P2"))
    assert record is not None
    assert (record.id, record.survivor) == (house.cx("P2"), house.cx("P3"))
    assert [(one.id, one.documents, one.submission_sets) for one in record.chain] == [
        (house.cx("P2"), 1, 1),
        (house.cx("P3"), 1, 1),
    ]
    assert [(one.subsumed, one.surviving) for one in record.merges] == [
        (house.cx("P2"), house.cx("P3"))
    ]
    assert [one.reason for one in record.unmerged] == ["wrong"]
    assert admin.show(house.cx("nobody")) is None


def test_patients_are_listed_a_page_at_a_time(house: Any, admin: Administration) -> None:
    house.feed("A40", "P2", subsumed="P1")
    first = admin.page("", 2)
    assert [(one.id, one.survivor) for one in first] == [
        (house.cx("P1"), house.cx("P2")),
        (house.cx("P2"), house.cx("P2")),
    ]
    assert [one.id for one in admin.page(first[-1].id, 2)] == [house.cx("P3")]
    assert admin.page(house.cx("P3"), 2) == []


# --- Any order of merges and unmerges --------------------------------------------------------

NAMES = tuple("ABCDE")
names = st.sampled_from(NAMES)
steps = st.lists(
    st.tuples(
        st.sampled_from(["merge", "unmerge"]), st.sampled_from(NAMES), st.sampled_from(NAMES)
    ),
    max_size=12,
)


@settings(
    max_examples=25,  # each is a dozen commits
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_survivors_are_always_what_the_merges_in_force_say(
    house: Any, done: list[tuple[str, str, str]]
) -> None:
    def empty(connection: Any) -> None:
        for table in (patient, patient_merge, patient_unmerge, identity_message):
            connection.execute(delete(table))

    house.database.write(empty)
    admin = Administration(house.database, house.clock)
    for name in NAMES:
        house.feed("A01", name)
    into: dict[str, str] = {}
    for what, one, other in done:
        if what == "merge":
            legal = one != other and one not in into and other not in into
            outcome = house.feed("A40", other, subsumed=one)
            assert (outcome.ack_code == "AA") == legal
            into |= {one: other} if legal else {}
        elif one in into:
            del into[one]
            admin.unmerge(house.cx(one), "root", "why not")
        else:
            with pytest.raises(NotMerged):
                admin.unmerge(house.cx(one), "root", "why not")
    with house.database.read() as connection:
        rows = {row.id: row.survivor for row in connection.execute(select(patient))}
    assert rows == {house.cx(name): house.cx(end(into, name)) for name in NAMES}


def end(into: dict[str, str], name: str) -> str:
    return end(into, into[name]) if name in into else name
