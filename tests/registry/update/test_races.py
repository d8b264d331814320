"""Administrators and registrations at once: one comes second, and sees what the first did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

from metadata import identifiers as xds
from metadata.datatypes import LocalizedString
from registry import schema
from transactions.iti_62 import RemoveObjectsRequest
from transactions.stored_query import get_submission_set_and_contents

RIVALS = 12
ROUNDS = 6


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """Run all tasks at the same moment; their results in order."""
    start = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        start.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def codes(response: Any) -> tuple[str, ...]:
    return tuple(error.code for error in response.errors)


def whole(office: Any, draft: Any) -> list[str]:
    request = get_submission_set_and_contents(unique_id=draft.set.unique_id)
    return [obj.entry_uuid for obj in office.house.answer(request).objects()]


def removing(office: Any, *names: str) -> Callable[[], Any]:
    return partial(office.house.registry.remove, RemoveObjectsRequest(names))


def consistent(office: Any) -> None:
    """No association dangles, no document is without a SubmissionSet, one version is latest."""
    tables = office.everything()
    objects = {row[0] for row in tables["object"]}
    for row in office.rows(schema.association):
        assert {row.source, row.target} <= objects
    held = {row.target for row in office.rows(schema.association, type=xds.HAS_MEMBER)}
    for table in (schema.document_entry, schema.folder):
        for row in office.rows(table):
            assert row.entry_uuid in held
            office.stored(row.entry_uuid)
    unique_ids = {row[0] for row in tables["identity"]}
    assert {row[0] for row in tables["namesake"]} <= unique_ids
    assert {row.entry_uuid for row in office.rows(schema.identity)} <= objects


def test_one_of_many_updates_of_a_version_wins(office: Any) -> None:
    document, folder = office.house.filed()
    changes = [office.change() for _ in range(RIVALS)]
    for number, change in enumerate(changes):
        change.version(document, title=LocalizedString(f"By {number}"))
    outcome = Counter(map(codes, at_once(*(partial(office.update, one) for one in changes))))
    assert outcome == {(): 1, ("XDSMetadataVersionError",): RIVALS - 1}
    assert len(office.versions(document.entry_uuid)) == 2
    assert len(office.links(folder.entry_uuid)) == 1
    consistent(office)


def test_of_a_status_change_and_a_new_version_neither_is_lost(office: Any) -> None:
    for _ in range(ROUNDS):
        document = office.house.registered()
        version, status = office.change(), office.change()
        version.version(document)
        status.deprecate(document.entry_uuid)
        updated, changed = at_once(partial(office.update, version), partial(office.update, status))
        assert codes(updated) == ()
        latest = office.latest(document.entry_uuid)
        assert latest.version == "2"
        if codes(changed) == ():
            assert latest.availability_status == xds.DEPRECATED
        else:
            assert codes(changed) == ("XDSMetadataUpdateError",)
            assert latest.availability_status == xds.APPROVED


def test_a_document_and_its_folder_updated_at_once_stay_linked(office: Any) -> None:
    for _ in range(ROUNDS):
        document, folder = office.house.filed()
        one, two = office.change(), office.change()
        one.version(document)
        two.version(folder)
        assert list(
            map(codes, at_once(partial(office.update, one), partial(office.update, two)))
        ) == [
            (),
            (),
        ]
        ends = [office.latest(obj.entry_uuid).entry_uuid for obj in (folder, document)]
        assert office.pairs(*ends) == {("HasMember", *ends)}


def test_of_a_replacement_and_an_update_the_second_sees_the_first(office: Any) -> None:
    for _ in range(ROUNDS):
        document = office.house.registered()
        change, draft = office.change(), office.house.draft()
        change.version(document)
        draft.link(xds.RPLC, draft.document().entry_uuid, document.entry_uuid)
        updated, replaced = at_once(
            partial(office.update, change), partial(office.house.submit, draft)
        )
        assert codes(updated) == ()
        latest = office.latest(document.entry_uuid)
        if codes(replaced) == ():
            assert latest.availability_status == xds.DEPRECATED
        else:
            assert codes(replaced) == ("XDSRegistryDeprecatedDocumentError",)
        consistent(office)


def test_what_is_removed_gets_no_more_links(office: Any) -> None:
    for _ in range(ROUNDS):
        draft = office.house.draft()
        unique_id = draft.document().unique_id
        office.house.accept(draft)
        document = office.house.document(unique_id)
        linking = office.house.draft()
        linking.link(xds.APND, linking.document().entry_uuid, document.entry_uuid)
        linking.member(document.entry_uuid, xds.REFERENCE)
        removed, linked = at_once(
            removing(office, *whole(office, draft)), partial(office.house.submit, linking)
        )
        assert (codes(removed) == ()) != (codes(linked) == ())
        assert set(codes(removed)) <= {"ReferencesExistException"}
        assert set(codes(linked)) <= {"UnresolvedReferenceException"}
        consistent(office)


def test_a_folder_that_is_removed_gets_no_more_members(office: Any) -> None:
    for _ in range(ROUNDS):
        draft = office.house.draft()
        draft.folder()
        office.house.accept(draft)
        folder = office.house.folder(draft.set.unique_id)
        filing = office.house.draft()
        filing.file(filing.document().entry_uuid, folder.entry_uuid)
        removed, filed = at_once(
            removing(office, *whole(office, draft)), partial(office.house.submit, filing)
        )
        assert (codes(removed) == ()) != (codes(filed) == ())
        consistent(office)


def test_the_last_two_links_to_a_document_do_not_go_at_once(office: Any) -> None:
    for _ in range(ROUNDS):
        document = office.house.registered()
        draft = office.house.draft()
        draft.member(document.entry_uuid, xds.REFERENCE)
        office.house.accept(draft)
        links = [
            row.entry_uuid for row in office.rows(schema.association, target=document.entry_uuid)
        ]
        outcome = at_once(*(removing(office, link) for link in links))
        assert sorted(map(codes, outcome)) == [(), ("XDSUnreferencedObjectException",)]
        consistent(office)


def test_a_unique_id_never_stands_for_nothing(office: Any) -> None:
    """One goes while another with its uniqueId comes."""
    for number in range(ROUNDS):
        content = {"unique_id": f"1.2.3.8.{number}", "hash": "cd" * 20, "size": "7"}
        draft, again = office.house.draft(), office.house.draft()
        draft.document(**content)
        again.document(**content)
        office.house.accept(draft)
        outcome = at_once(
            removing(office, *whole(office, draft)), partial(office.house.submit, again)
        )
        assert list(map(codes, outcome)) == [(), ()]
        consistent(office)


def test_a_removal_named_many_times_at_once_happens_once(office: Any) -> None:
    draft = office.house.draft()
    draft.document()
    office.house.accept(draft)
    names = whole(office, draft)
    outcome = Counter(map(codes, at_once(*(removing(office, *names) for _ in range(4)))))
    assert outcome == {(): 1, ("UnresolvedReferenceException",) * len(names): 3}


def test_of_an_update_and_a_removal_the_second_sees_the_first(office: Any) -> None:
    for _ in range(ROUNDS):
        draft = office.house.draft()
        unique_id = draft.document().unique_id
        office.house.accept(draft)
        document = office.house.document(unique_id)
        change = office.change()
        change.version(document)
        removed, updated = at_once(
            removing(office, *whole(office, draft)), partial(office.update, change)
        )
        assert (codes(removed) == ()) != (codes(updated) == ())
        assert set(codes(removed)) <= {"ReferencesExistException"}
        assert set(codes(updated)) <= {"XDSMetadataUpdateError"}
        consistent(office)
