"""ITI-18: FindFolders and GetAll; ITI-51: the queries across patients."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import DTM
from metadata.model import Submission
from registry import Registry
from registry.schema import ON_DEMAND, document_entry, folder
from transactions import stored_query as ask
from transactions.iti_18 import AdhocQueryRequest

ALL = [xds.APPROVED, xds.DEPRECATED]


def file_folder(house: Any, title: str, patient: str = "P1", **attributes: Any) -> None:
    draft = house.draft(patient)
    draft.folder(title=title, **attributes)
    house.accept(draft)


def titles(objects: Any) -> set[str]:
    return {str(one.title) for one in objects}


# --- FindFolders -------------------------------------------------------------------------------


def folders(house: Any, **filters: Any) -> set[str]:
    return titles(house.answer(ask.find_folders(house.patient, **filters)).folders)


def test_folders_are_found_by_code_with_its_scheme(house: Any) -> None:
    a, b, c = (house.code(value) for value in "abc")
    file_folder(house, "one", code_list=[a])
    file_folder(house, "two", code_list=[a, b])
    file_folder(house, "three", code_list=[b, c])
    file_folder(house, "foreign", code_list=[house.code("a", "9.9")])
    file_folder(house, "another's", patient="P2", code_list=[a])
    assert folders(house) == {"one", "two", "three", "foreign"}
    assert folders(house, code_list=[a]) == {"one", "two"}
    assert folders(house, code_list=[a, c]) == {"one", "two", "three"}
    assert folders(house, code_list=[[a], [b]]) == {"two"}
    assert folders(house, code_list=[[a, b], [c]]) == {"three"}


def test_folders_are_found_by_the_time_of_their_last_change(house: Any) -> None:
    file_folder(house, "old")
    early = DTM.of(house.clock.now)
    house.clock.now += timedelta(days=1)
    file_folder(house, "new")
    late = DTM.of(house.clock.now)
    assert folders(house, last_update_time_from=late) == {"new"}
    assert folders(house, last_update_time_to=late) == {"old"}
    assert folders(house, last_update_time_from=early, last_update_time_to=late) == {"old"}
    assert folders(house, last_update_time_to=early) == set()


def test_deprecated_folders_are_found_by_their_status(house: Any) -> None:
    file_folder(house, "old")
    deprecate = folder.update().values(status="Deprecated")
    house.database.write(lambda connection: connection.execute(deprecate).rowcount)
    file_folder(house, "new")
    assert folders(house) == {"new"}
    assert folders(house, status=[xds.DEPRECATED]) == {"old"}
    assert folders(house, status=ALL) == {"old", "new"}


def test_folders_of_merged_and_unknown_patients(house: Any) -> None:
    file_folder(house, "mine")
    house.feed("A40", "P2", subsumed="P1")
    found = house.answer(ask.find_folders(house.cx("P2"))).folders
    assert [one.patient_id for one in found] == [house.cx("P2")]
    for nobody in ("P1", "P9"):
        request = ask.find_folders(house.cx(nobody))
        assert house.query_errors(request) == ["XDSUnknownPatientId"]


# --- GetAll ------------------------------------------------------------------------------------


def everything(house: Any, **filters: Any) -> Submission:
    answer: Submission = house.answer(ask.get_all(house.patient, **filters))
    return answer


def test_everything_of_a_patient_is_shown_with_what_links_it(house: Any) -> None:
    document, filed_in = house.filed()
    other = house.draft("P2")
    other.document()
    house.accept(other)
    answer = everything(house)
    assert answer.documents == [document]
    assert answer.folders == [filed_in]
    assert len(answer.submission_sets) == 1
    # The set holds the document, the folder and the membership; the folder holds the document.
    assert len(answer.associations) == 4
    refs = house.answer(ask.get_all(house.patient, return_type="ObjectRef")).object_refs
    assert sorted(refs) == sorted(one.entry_uuid for one in answer.objects())


def test_each_kind_has_its_own_status(house: Any) -> None:
    document, _ = house.filed()
    draft = house.draft()
    draft.link(xds.RPLC, draft.document(title="new").entry_uuid, document.entry_uuid)
    house.accept(draft)
    assert titles(everything(house).documents) == {"new"}
    assert len(everything(house, document_status=ALL).documents) == 2
    none = everything(house, submission_set_status=[xds.DEPRECATED])
    assert (none.submission_sets, len(none.folders)) == ([], 1)
    assert everything(house, folder_status=[xds.DEPRECATED]).folders == []


def test_filters_narrow_the_documents_and_associations_may_dangle(house: Any) -> None:
    a, b = house.code("a"), house.code("b")
    draft = house.draft()
    draft.document(title="a", format_code=a, confidentiality_code=[a, b])
    draft.document(title="b", format_code=b, confidentiality_code=[b])
    house.accept(draft)
    answer = everything(house, format_code=[a])
    assert titles(answer.documents) == {"a"}
    assert len(answer.associations) == 2  # the set's membership of b touches the set
    assert titles(everything(house, confidentiality_code=[[a], [b]]).documents) == {"a"}
    house.database.write(
        lambda connection: (
            connection.execute(document_entry.update().values(object_type=ON_DEMAND)).rowcount
        )
    )
    assert everything(house).documents == []
    assert len(everything(house, type=[xds.ON_DEMAND]).documents) == 2


def test_everything_across_a_merge_is_the_survivors(house: Any) -> None:
    document, _ = house.filed()
    draft = house.draft("P2")
    draft.member(document.entry_uuid, xds.REFERENCE)
    draft.document()
    house.accept(draft)
    house.feed("A40", "P2", subsumed="P1")
    answer = house.answer(ask.get_all(house.cx("P2")))
    counts = (len(answer.documents), len(answer.submission_sets), len(answer.associations))
    assert counts == (2, 2, 6)
    described = [*answer.documents, *answer.submission_sets, *answer.folders]
    assert {one.patient_id for one in described} == {house.cx("P2")}
    assert house.query_errors(ask.get_all(house.patient)) == ["XDSUnknownPatientId"]


def test_everything_is_whole_or_refused(house: Any) -> None:
    house.filed()  # seven objects
    for limit, status in ((7, xds.SUCCESS), (6, xds.FAILURE), (2, xds.FAILURE)):
        domain = AffinityDomain(house.domain.assigning_authority, max_results=limit)
        response = Registry(house.database, domain).query(ask.get_all(house.patient))
        assert response.status == status
    assert [error.code for error in response.errors] == ["XDSTooManyResults"]


# --- ITI-51 ------------------------------------------------------------------------------------


def across(house: Any, request: AdhocQueryRequest) -> Submission:
    response = house.registry.query_patients(request)
    assert response.status == xds.SUCCESS, response.errors
    objects: Submission = response.objects()
    return objects


def across_errors(house: Any, request: AdhocQueryRequest) -> list[str]:
    response = house.registry.query_patients(request)
    assert response.status == xds.FAILURE
    assert not response.fragments
    return [error.code for error in response.errors]


@pytest.fixture
def two_patients(house: Any) -> Any:
    """A document and a folder each, some codes shared."""
    for patient in ("P1", "P2"):
        own, shared = house.code(patient), house.code("shared")
        draft = house.draft(patient)
        draft.document(
            title=patient,
            class_code=own,
            healthcare_facility_type_code=own,
            event_code_list=[own, shared],
        )
        draft.folder(title=patient, code_list=[own, shared])
        house.accept(draft)
    return house


@pytest.mark.parametrize("return_type", ["LeafClass", "ObjectRef"])
def test_patients_alone_are_enough(two_patients: Any, return_type: str) -> None:
    ids = [two_patients.cx("P1"), two_patients.cx("P2")]
    for make in (
        ask.find_documents_for_multiple_patients,
        ask.find_folders_for_multiple_patients,
    ):
        for count in (1, 2):
            found = across(two_patients, make(ids[:count], return_type=return_type))
            assert len(list(found.objects())) + len(found.object_refs) == count


@pytest.mark.parametrize(
    "attribute", ["class_code", "healthcare_facility_type_code", "event_code_list"]
)
def test_documents_of_any_patient_are_found_by_a_code(two_patients: Any, attribute: str) -> None:
    def find(*values: str, **filters: Any) -> set[str]:
        filters[attribute] = [two_patients.code(value) for value in values]
        request = ask.find_documents_for_multiple_patients(**filters)
        return titles(across(two_patients, request).documents)

    assert find("P1") == {"P1"}
    assert find("P1", "P2") == {"P1", "P2"}
    assert find("nothing") == set()
    assert find("P1", "P2", author_person=["%Welby%"], creation_time_from="2025") == {"P1", "P2"}
    assert find("P1", creation_time_to="2025") == set()
    assert find("P1", status=[xds.DEPRECATED]) == set()


def test_codes_of_any_patient_are_or_and_and(two_patients: Any) -> None:
    first, second, shared = (two_patients.code(value) for value in ("P1", "P2", "shared"))

    def events(groups: Any) -> set[str]:
        request = ask.find_documents_for_multiple_patients(event_code_list=groups)
        return titles(across(two_patients, request).documents)

    def codes(groups: Any) -> set[str]:
        request = ask.find_folders_for_multiple_patients(code_list=groups)
        return titles(across(two_patients, request).folders)

    for find in (events, codes):
        assert find([shared]) == {"P1", "P2"}
        assert find([[shared], [first]]) == {"P1"}
        assert find([[first], [second]]) == set()
        assert find([first, second]) == {"P1", "P2"}


def test_an_event_code_is_no_folders_code(two_patients: Any) -> None:
    """The two share an index."""
    draft = two_patients.draft()
    draft.document(event_code_list=[two_patients.code("event")])
    two_patients.accept(draft)
    request = ask.find_folders_for_multiple_patients(code_list=[two_patients.code("event")])
    assert across(two_patients, request).folders == []


def test_patients_and_codes_are_met_together(two_patients: Any) -> None:
    request = ask.find_documents_for_multiple_patients(
        [two_patients.cx("P1")], event_code_list=[two_patients.code("shared")]
    )
    assert titles(across(two_patients, request).documents) == {"P1"}


def test_one_of_the_selections_is_needed(two_patients: Any) -> None:
    for request in (
        ask.find_documents_for_multiple_patients(type_code=[two_patients.code("type")]),
        ask.find_folders_for_multiple_patients(last_update_time_from="2020"),
    ):
        assert across_errors(two_patients, request) == ["XDSStoredQueryMissingParam"]


def test_across_patients_a_merge_shows_the_survivor(two_patients: Any) -> None:
    two_patients.feed("A40", "P2", subsumed="P1")
    by_code = ask.find_documents_for_multiple_patients(class_code=[two_patients.code("P1")])
    by_patient = ask.find_documents_for_multiple_patients([two_patients.cx("P2")])
    for request, count in ((by_code, 1), (by_patient, 2)):
        found = across(two_patients, request).documents
        assert [one.patient_id for one in found] == [two_patients.cx("P2")] * count


def test_every_patient_that_is_not_known_is_named(two_patients: Any) -> None:
    ids = [two_patients.cx(name) for name in ("P1", "P8", "P9")]
    request = ask.find_documents_for_multiple_patients(ids)
    response = two_patients.registry.query_patients(request)
    assert [error.code for error in response.errors] == ["XDSUnknownPatientId"] * 2
    assert all(id_ in error.context for id_, error in zip(ids[1:], response.errors, strict=True))
    lenient = AffinityDomain(two_patients.domain.assigning_authority, unknown_patient="empty")
    response = Registry(two_patients.database, lenient).query_patients(request)
    assert (response.status, len(response.fragments)) == (xds.SUCCESS, 1)


def test_each_transaction_knows_its_own_queries_alone(two_patients: Any) -> None:
    request = ask.find_documents(two_patients.patient)
    assert across_errors(two_patients, request) == ["XDSUnknownStoredQuery"]
    request = ask.find_documents_for_multiple_patients([two_patients.patient])
    assert two_patients.query_errors(request) == ["XDSUnknownStoredQuery"]


def test_too_many_results_across_patients_are_refused(two_patients: Any) -> None:
    domain = AffinityDomain(two_patients.domain.assigning_authority, max_results=1)
    request = ask.find_documents_for_multiple_patients(
        event_code_list=[two_patients.code("shared")]
    )
    response = Registry(two_patients.database, domain).query_patients(request)
    assert [error.code for error in response.errors] == ["XDSTooManyResults"]
