"""ITI-18: FindDocuments, FindDocumentsByReferenceId, FindSubmissionSets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import DTM, OID, XCN
from metadata.model import Author
from registry import Registry
from registry.schema import ON_DEMAND, document_entry
from transactions.iti_18 import AdhocQueryRequest
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    find_submission_sets,
)

ALL = [xds.APPROVED, xds.DEPRECATED]


def titles(house: Any, request: AdhocQueryRequest) -> set[str]:
    return {str(document.title) for document in house.answer(request).documents}


def add(house: Any, **documents: dict[str, Any]) -> None:
    """Register documents whose titles are the keywords."""
    draft = house.draft()
    for title, attributes in documents.items():
        draft.document(title=title, **attributes)
    house.accept(draft)


# --- One criterion at a time -----------------------------------------------------------------

CODES = [
    "class_code",
    "type_code",
    "format_code",
    "healthcare_facility_type_code",
    "practice_setting_code",
]


@pytest.mark.parametrize("attribute", CODES)
def test_a_code_is_compared_with_its_scheme(house: Any, attribute: str) -> None:
    add(
        house,
        mine={attribute: house.code("a")},
        other={attribute: house.code("b")},
        foreign={attribute: house.code("a", "9.9")},
    )

    def find(*codes: Any) -> set[str]:
        given: Any = {attribute: list(codes)}
        return titles(house, find_documents(house.patient, **given))

    assert find(house.code("a")) == {"mine"}
    assert find(house.code("a"), house.code("b")) == {"mine", "other"}
    assert find(house.code("A")) == set()
    assert find(replace(house.code("a", "9.9"), display_name="another")) == {"foreign"}


@pytest.mark.parametrize("attribute", ["event_code_list", "confidentiality_code"])
def test_values_in_one_slot_are_or_and_slots_are_and(house: Any, attribute: str) -> None:
    a, b, c = (house.code(value) for value in "abc")
    add(
        house,
        one={attribute: [a]},
        two={attribute: [a, b]},
        three={attribute: [b, c]},
    )

    def find(groups: Any) -> set[str]:
        given: Any = {attribute: groups}
        return titles(house, find_documents(house.patient, **given))

    assert find([a]) == {"one", "two"}
    assert find([a, c]) == {"one", "two", "three"}
    assert find([[a], [b]]) == {"two"}
    assert find([[a, b], [c]]) == {"three"}
    assert find([[a], [b], [c]]) == set()


@pytest.mark.parametrize("attribute", ["creation_time", "service_start_time", "service_stop_time"])
def test_times_are_from_inclusive_to_exclusive(house: Any, attribute: str) -> None:
    add(house, day={attribute: DTM("20041224")}, moment={attribute: DTM("20041224123000")})

    def find(**bounds: str) -> set[str]:
        given: Any = {f"{attribute}_{name}": value for name, value in bounds.items()}
        return titles(house, find_documents(house.patient, **given))

    assert find(**{"from": "20041224"}) == {"day", "moment"}
    assert find(to="20041224") == set()
    assert find(**{"from": "20041224000001"}) == {"moment"}
    assert find(to="20041224123000") == {"day"}
    assert find(to="20041224123001") == {"day", "moment"}
    assert find(**{"from": "2004", "to": "2005"}) == {"day", "moment"}
    assert find(**{"from": "2005"}) == set()


@pytest.mark.parametrize("bound", ["service_start_time_from", "service_stop_time_to"])
def test_a_document_without_a_service_time_is_not_filtered_by_it(house: Any, bound: str) -> None:
    add(house, timeless={})
    given: Any = {bound: "20200101"}
    assert titles(house, find_documents(house.patient, **given)) == {"timeless"}


def test_status_selects(house: Any) -> None:
    add(house, old={})
    [old] = house.answer(find_documents(house.patient)).documents
    draft = house.draft()
    draft.link(xds.RPLC, draft.document(title="new").entry_uuid, old.entry_uuid)
    house.accept(draft)
    assert titles(house, find_documents(house.patient)) == {"new"}
    assert titles(house, find_documents(house.patient, status=[xds.DEPRECATED])) == {"old"}
    assert titles(house, find_documents(house.patient, status=ALL)) == {"old", "new"}


def test_on_demand_documents_appear_when_asked_for(house: Any) -> None:
    add(house, stable={}, later={"class_code": house.code("od")})
    house.database.write(
        lambda connection: (
            connection.execute(
                document_entry.update()
                .where(document_entry.c.class_code.startswith("od^"))
                .values(object_type=ON_DEMAND, creation_time=None)
            ).rowcount
        )
    )

    def find(**filters: Any) -> set[str]:
        return titles(house, find_documents(house.patient, **filters))

    assert find() == {"stable"}
    assert find(type=[xds.ON_DEMAND]) == {"later"}
    assert find(type=[xds.STABLE, xds.ON_DEMAND]) == {"stable", "later"}
    assert find(type=[xds.ON_DEMAND], creation_time_from="2025") == {"later"}
    assert find(type=["urn:uuid:00000000-0000-0000-0000-000000000000"]) == set()


def test_the_author_is_any_person_of_any_author_by_pattern(house: Any) -> None:
    people = {
        "welby": [Author(person=XCN("^Welby^Marcus")), Author(person=XCN("^Kildare^James"))],
        "obrien": [Author(person=XCN("^O'Brien^Zoë"))],
        "percent": [Author(person=XCN("^100%^Sure_thing"))],
        "nobody": [],
    }
    add(house, **{title: {"author": authors} for title, authors in people.items()})

    def find(*patterns: str) -> set[str]:
        return titles(house, find_documents(house.patient, author_person=list(patterns)))

    assert find("%Welby%") == {"welby"}
    assert find("%welby%") == set()
    assert find("^_elby^Marcus") == {"welby"}
    assert find("%Kildare%", "%O'Brien%") == {"welby", "obrien"}
    assert find("^O'Brien^Zo_") == {"obrien"}
    assert find("^100%^Sure_thing") == {"percent"}
    assert find("^100\\%%") == set()
    assert find("%") == {"welby", "obrien", "percent"}


def test_reference_ids_are_or_and_and_patterns(house: Any, reference: Any) -> None:
    order, accession = (
        reference("1", xds.ORDER_REFERENCE),
        reference("2", xds.ACCESSION_REFERENCE),
    )
    add(
        house,
        one={"reference_id_list": [order]},
        both={"reference_id_list": [order, accession]},
        none={},
    )

    def find(references: Any) -> set[str]:
        return titles(house, find_documents_by_reference_id(house.patient, references))

    assert find([accession]) == {"both"}
    assert find([order, accession]) == {"one", "both"}
    assert find([[order], [accession]]) == {"both"}
    assert find([f"%{xds.ORDER_REFERENCE}"]) == {"one", "both"}
    assert find([order.upper()]) == set()


def test_criteria_are_met_together(house: Any) -> None:
    add(
        house,
        match={"class_code": house.code("a"), "event_code_list": [house.code("e")]},
        half={"class_code": house.code("a")},
    )
    request = find_documents(
        house.patient,
        class_code=[house.code("a")],
        event_code_list=[house.code("e")],
        confidentiality_code=[house.code("N")],
        author_person=["%Welby%"],
        creation_time_from="2025",
        creation_time_to="2027",
    )
    assert titles(house, request) == {"match"}


def test_submission_sets_are_found_by_each_criterion(house: Any) -> None:
    first, second = house.draft(), house.draft()
    second.set.source_id = OID("1.2.99")
    second.set.submission_time = DTM("2027")
    second.set.author = [Author(person=XCN("^Kildare"))]
    second.set.content_type_code = house.code("other")
    for draft in (first, second):
        draft.document()
        house.accept(draft)

    def find(**filters: Any) -> list[str | None]:
        found = house.answer(find_submission_sets(house.patient, **filters)).submission_sets
        return sorted((one.unique_id for one in found), key=str)

    mine, other = first.set.unique_id, second.set.unique_id
    assert find() == sorted([mine, other])
    assert find(source_id=["1.2.99"]) == [other]
    assert find(source_id=["1.2.99", "1.2.3.4"]) == sorted([mine, other])
    assert find(submission_time_from="2027") == [other]
    assert find(submission_time_to="2027") == [mine]
    assert find(author_person="%ldare") == [other]
    assert find(content_type=[house.code("other")]) == [other]
    assert find(status=[xds.DEPRECATED]) == []


# --- Patients --------------------------------------------------------------------------------


def test_only_the_patients_own_documents_are_found(house: Any) -> None:
    add(house, mine={})
    assert titles(house, find_documents(house.cx("P2"))) == set()


def test_an_unknown_patient_is_an_error_or_finds_nothing_by_policy(house: Any) -> None:
    request = find_documents(house.cx("nobody"))
    assert house.query_errors(request) == ["XDSUnknownPatientId"]
    lenient = AffinityDomain(house.domain.assigning_authority, unknown_patient="empty")
    response = Registry(house.database, lenient).query(request)
    assert (response.status, list(response.fragments)) == (xds.SUCCESS, [])


def test_a_merged_patient_is_an_error_or_finds_nothing_by_a_policy_of_its_own(house: Any) -> None:
    house.feed("A40", "P2", subsumed="P1")
    merged, nobody = find_documents(house.cx("P1")), find_documents(house.cx("nobody"))
    assert house.query_errors(merged) == ["XDSUnknownPatientId"]
    lenient = AffinityDomain(house.domain.assigning_authority, merged_patient="empty")
    registry = Registry(house.database, lenient)
    assert registry.query(merged).status == xds.SUCCESS
    assert registry.query(nobody).status == xds.FAILURE
    other = AffinityDomain(house.domain.assigning_authority, unknown_patient="empty")
    registry = Registry(house.database, other)
    assert registry.query(merged).status == xds.FAILURE
    assert registry.query(nobody).status == xds.SUCCESS


def test_the_survivor_of_a_chain_of_merges_finds_everything_under_its_own_id(house: Any) -> None:
    house.feed("A01", "P3")
    for identifier in ("P1", "P2", "P3"):
        draft = house.draft(identifier)
        draft.document(title=identifier)
        house.accept(draft)
    house.feed("A40", "P2", subsumed="P1")
    house.feed("A40", "P3", subsumed="P2")
    found = house.answer(find_documents(house.cx("P3"))).documents
    assert {str(document.title) for document in found} == {"P1", "P2", "P3"}
    assert {document.patient_id for document in found} == {house.cx("P3")}
    assert {document.source_patient_id for document in found} == {"local^^^&1.2.3&ISO"}
    sets = house.answer(find_submission_sets(house.cx("P3"))).submission_sets
    assert [one.patient_id for one in sets] == [house.cx("P3")] * 3
    assert house.query_errors(find_documents(house.cx("P1"))) == ["XDSUnknownPatientId"]
    assert house.query_errors(find_documents(house.cx("P2"))) == ["XDSUnknownPatientId"]


# --- Faults ----------------------------------------------------------------------------------


def test_an_unknown_query_is_refused(house: Any) -> None:
    request = AdhocQueryRequest("urn:uuid:00000000-0000-0000-0000-000000000000")
    assert house.query_errors(request) == ["XDSUnknownStoredQuery"]


def without(request: AdhocQueryRequest, slot: str) -> AdhocQueryRequest:
    kept = [(name, values) for name, values in request.parameters if name != slot]
    return replace(request, parameters=kept)


@pytest.mark.parametrize(
    "slot",
    [
        "$XDSDocumentEntryPatientId",
        "$XDSDocumentEntryStatus",
        "$XDSDocumentEntryReferenceIdList",
    ],
)
def test_a_required_parameter_is_missed(house: Any, slot: str) -> None:
    request = without(find_documents_by_reference_id(house.patient, ["x"]), slot)
    assert house.query_errors(request) == ["XDSStoredQueryMissingParam"]


def test_a_status_nobody_knows_counts_as_missing(house: Any) -> None:
    request = find_documents(house.patient, status=["urn:bogus"])
    assert house.query_errors(request) == ["XDSStoredQueryMissingParam"]


def test_two_patients_are_one_too_many(house: Any) -> None:
    request = find_documents(house.patient)
    slot = ("$XDSDocumentEntryPatientId", [f"('{house.patient}','{house.cx('P2')}')"])
    kept = without(request, slot[0]).parameters
    assert house.query_errors(replace(request, parameters=[*kept, slot])) == [
        "XDSStoredQueryParamNumber"
    ]


def test_unknown_parameters_are_ignored(house: Any) -> None:
    add(house, mine={})
    request = find_documents(house.patient)
    extended = replace(request, parameters=[*request.parameters, ("$Foo", ["'bar'"])])
    assert titles(house, extended) == {"mine"}


def test_more_results_than_allowed_are_refused_whole(house: Any) -> None:
    add(house, one={}, two={}, three={})
    for limit, status in ((3, xds.SUCCESS), (2, xds.FAILURE)):
        domain = AffinityDomain(house.domain.assigning_authority, max_results=limit)
        for return_type in ("LeafClass", "ObjectRef"):
            request = find_documents(house.patient, return_type=return_type)
            response = Registry(house.database, domain).query(request)
            assert response.status == status
    assert [error.code for error in response.errors] == ["XDSTooManyResults"]
    assert not response.fragments


def test_more_criteria_than_a_statement_can_hold_are_refused(house: Any) -> None:
    add(house, mine={"event_code_list": [house.code("a")]})

    def request(times: int) -> AdhocQueryRequest:
        return find_documents(house.patient, event_code_list=[[house.code("a")]] * times)

    assert titles(house, request(97)) == {"mine"}
    # Status, type and level count too.
    assert house.query_errors(request(98)) == ["XDSRegistryError"]


def test_object_ref_and_leaf_class_name_the_same_objects(house: Any) -> None:
    add(house, one={}, two={})
    leaves = house.answer(find_documents(house.patient)).documents
    refs = house.answer(find_documents(house.patient, return_type="ObjectRef")).object_refs
    assert sorted(refs) == sorted(document.entry_uuid for document in leaves)


# --- Hostile values --------------------------------------------------------------------------

INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE document_entry; --",
    "\\'; DELETE FROM patient; --",
    "%' OR 1=1 --",
    '") OR 1=1 --',
    "$1",
    "%(status_0)s",
    ":patient",
    "?",
    '["a"]',
    "{}",
    "\\",
    "é𝄞",
]


@pytest.mark.parametrize("value", INJECTIONS)
def test_no_value_means_anything_to_the_database(house: Any, value: str) -> None:
    add(house, mine={})
    for filters in (
        {"class_code": [house.code(value)]},
        {"event_code_list": [house.code(value)]},
        {"author_person": [value]},
        {"type": [value]},
    ):
        request = find_documents(house.patient, **filters)
        assert titles(house, request) == set()
    assert house.query_errors(find_documents(value)) == ["XDSUnknownPatientId"]
    assert titles(house, find_documents_by_reference_id(house.patient, [value])) == set()
    assert titles(house, find_documents(house.patient)) == {"mine"}


TEXT = st.text(
    st.sampled_from(list("'\"%_\\*?[];,()é𝄞 aB"))
    | st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Z")),
    min_size=1,
    max_size=20,
).filter(lambda text: text == text.strip() and "^" not in text)


@given(st.lists(TEXT, min_size=1, max_size=4, unique=True))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_was_registered_is_found_by_its_own_value_and_no_other(
    house: Any, values: list[str]
) -> None:
    """Code by code through the whole way: coding, statement, driver, fragment."""
    house.database.write(lambda connection: connection.execute(document_entry.delete()).rowcount)
    draft = house.draft()
    for value in values:
        draft.document(class_code=house.code(value), event_code_list=[house.code(value)])
    house.accept(draft)
    for value in values:
        for attribute in ("class_code", "event_code_list"):
            filters: Any = {attribute: [house.code(value)]}
            [found] = house.answer(find_documents(house.patient, **filters)).documents
            assert found.class_code == house.code(value)
