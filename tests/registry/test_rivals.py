"""Many at once: whoever comes second sees what the first one did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

from sqlalchemy import select

from metadata import identifiers as xds
from metadata.datatypes import new_oid, new_uuid_urn
from registry.schema import document_entry, folder, identity, patient
from transactions.stored_query import find_documents, find_submission_sets

RIVALS = 16  # as many as two pools of writers


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Run all tasks at the same moment; their results in order."""
    start = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        start.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def submitting(house: Any, drafts: list[Any]) -> list[Any]:
    return at_once([partial(house.registry.register, draft.request()) for draft in drafts])


def verdicts(responses: list[Any]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(error.code for error in response.errors) for response in responses)


def test_one_of_many_replacements_wins(house: Any) -> None:
    old, _ = house.filed()
    drafts = [house.draft() for _ in range(RIVALS)]
    for draft in drafts:
        draft.link(xds.RPLC, draft.document().entry_uuid, old.entry_uuid)
    outcome = verdicts(submitting(house, drafts))
    assert outcome == {(): 1, ("XDSRegistryDeprecatedDocumentError",): RIVALS - 1}
    [new] = house.answer(find_documents(house.patient)).documents
    assert new.unique_id != old.unique_id
    assert len(house.folders_of(new)) == 1


def test_one_of_many_sets_with_one_unique_id_is_stored(house: Any) -> None:
    drafts = [house.draft() for _ in range(RIVALS)]
    for draft in drafts:
        draft.document()
        draft.set.unique_id = "1.2.3.4.5"
    outcome = verdicts(submitting(house, drafts))
    assert outcome == {(): 1, ("XDSDuplicateUniqueIdInRegistry",): RIVALS - 1}
    assert len(house.answer(find_submission_sets(house.patient)).submission_sets) == 1
    assert len(house.answer(find_documents(house.patient)).documents) == 1


def test_a_unique_id_keeps_one_content_whoever_is_first(house: Any) -> None:
    drafts = [house.draft() for _ in range(RIVALS)]
    for number, draft in enumerate(drafts):
        draft.document(unique_id="1.2.3.4.6", hash=f"{number % 4:040x}", size="7")
    outcome = verdicts(submitting(house, drafts))
    assert outcome == {(): 4, ("XDSNonIdenticalHash",): RIVALS - 4}
    found = house.answer(find_documents(house.patient)).documents
    assert len({document.hash for document in found}) == 1
    assert len(found) == 4
    with house.database.read() as connection:
        rows = connection.execute(select(identity).where(identity.c.unique_id == "1.2.3.4.6")).all()
    assert len(rows) == 1


def test_a_uuid_is_registered_once(house: Any) -> None:
    entry_uuid = new_uuid_urn()
    drafts = [house.draft() for _ in range(RIVALS)]
    for draft in drafts:
        draft.document(entry_uuid)
    outcome = verdicts(submitting(house, drafts))
    assert outcome == {(): 1, ("XDSRegistryMetadataError",): RIVALS - 1}


def test_many_additions_to_one_folder_all_arrive(house: Any) -> None:
    _, shared = house.filed()
    drafts = [house.draft() for _ in range(RIVALS)]
    for draft in drafts:
        draft.file(draft.document().entry_uuid, shared.entry_uuid)
    assert verdicts(submitting(house, drafts)) == {(): RIVALS}
    members = [link for link in house.links(shared.entry_uuid) if link.source == shared.entry_uuid]
    assert len(members) == RIVALS + 1


def test_replacing_and_appending_at_once_leave_no_approved_orphan(house: Any) -> None:
    for _ in range(4):
        old = house.registered()
        replacing, appending = house.draft(), house.draft()
        replacing.link(xds.RPLC, replacing.document().entry_uuid, old.entry_uuid)
        addendum = appending.document()
        appending.link(xds.APND, addendum.entry_uuid, old.entry_uuid)
        replaced, appended = submitting(house, [replacing, appending])
        assert replaced.status == xds.SUCCESS
        if appended.status == xds.SUCCESS:
            stored = house.document(addendum.unique_id)
            assert stored.availability_status == xds.DEPRECATED
        else:
            assert verdicts([appended]) == {("XDSRegistryDeprecatedDocumentError",): 1}


def test_replacements_across_each_other_end(house: Any) -> None:
    """Each replaces two documents, named in opposite orders: no deadlock comes out."""
    for _ in range(4):
        targets = [house.registered().entry_uuid for _ in range(2)]
        drafts = [house.draft() for _ in range(2)]
        for draft, order in zip(drafts, (targets, targets[::-1]), strict=True):
            for target in order:
                draft.link(xds.RPLC, draft.document().entry_uuid, target)
        outcome = verdicts(submitting(house, drafts))
        assert outcome == {(): 1, ("XDSRegistryDeprecatedDocumentError",) * 2: 1}


def test_no_registration_lands_on_a_patient_that_a_merge_subsumes(house: Any) -> None:
    """Once the merge is answered, nothing can appear under the subsumed patient any more."""
    for number in range(6):
        gone, stays = f"gone-{number}", f"stays-{number}"
        house.feed("A01", gone)
        house.feed("A01", stays)
        drafts = [house.draft(gone) for _ in range(6)]
        for draft in drafts:
            draft.document()

        def merge(gone: str = gone, stays: str = stays) -> set[str]:
            assert house.feed("A40", stays, subsumed=gone).ack_code == "AA"
            return registered_for(house, gone)

        tasks = [partial(house.registry.register, draft.request()) for draft in drafts]
        *responses, at_merge = at_once([*tasks, merge])
        assert set(verdicts(responses)) <= {(), ("XDSUnknownPatientId",)}
        assert registered_for(house, gone) == at_merge
        assert len(at_merge) == verdicts(responses)[()]
        shown = house.answer(find_documents(house.cx(stays))).documents
        assert {document.entry_uuid for document in shown} == at_merge


def registered_for(house: Any, patient_id: str) -> set[str]:
    with house.database.read() as connection:
        of_patient = document_entry.c.patient == house.cx(patient_id)
        return set(
            connection.execute(select(document_entry.c.entry_uuid).where(of_patient)).scalars()
        )


def test_merges_of_one_patient_into_two_leave_one_survivor(house: Any) -> None:
    for number in range(4):
        a, b, c = (f"{letter}{number}" for letter in "abc")
        for identifier in (a, b, c):
            house.feed("A01", identifier)
        outcomes = at_once(
            [
                partial(house.feed, "A40", b, subsumed=a),
                partial(house.feed, "A40", c, subsumed=a),
                partial(house.feed, "A40", a, subsumed=b),
            ]
        )
        assert sum(outcome.ack_code == "AA" for outcome in outcomes) in (1, 2)
        with house.database.read() as connection:
            survivors = {row.id: row.survivor for row in connection.execute(select(patient))}
        assert all(survivors[survivor] == survivor for survivor in survivors.values())


def test_one_message_delivered_many_times_at_once_is_one_message(house: Any) -> None:
    house.feed("A01", "P3")
    outcomes = at_once(
        [lambda: house.feed("A40", "P3", subsumed="P1", control_id="M", digest="d")] * 8
    )
    assert {outcome.ack_code for outcome in outcomes} == {"AA"}


def test_admissions_of_one_patient_at_once_are_all_accepted(house: Any) -> None:
    identifier = new_oid()
    outcomes = at_once([lambda: house.feed("A04", identifier)] * 8)
    assert {outcome.ack_code for outcome in outcomes} == {"AA"}


def test_a_folder_is_touched_as_often_as_its_members_say(house: Any) -> None:
    """Row and fragment of a contended folder agree in the end."""
    _, shared = house.filed()
    drafts = [house.draft() for _ in range(8)]
    for draft in drafts:
        draft.file(draft.document().entry_uuid, shared.entry_uuid)
    submitting(house, drafts)
    with house.database.read() as connection:
        [row] = connection.execute(select(folder))
    assert row.last_update_time.encode() in row.ebrim
