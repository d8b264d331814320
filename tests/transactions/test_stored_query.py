from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata import catalogue as rules
from metadata.catalogue import Fault, Rule
from metadata.datatypes import CX
from metadata.identifiers import APPROVED, DEPRECATED, ON_DEMAND, STABLE
from metadata.model import Code
from transactions import query_decoding, stored_query
from transactions.iti_18 import LEAF_CLASS, OBJECT_REF, AdhocQueryRequest
from transactions.query_catalogue import (
    FIND_DOCUMENTS,
    FIND_DOCUMENTS_BY_REFERENCE_ID,
    FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS,
    FIND_FOLDERS,
    FIND_FOLDERS_FOR_MULTIPLE_PATIENTS,
    GET_ALL,
    MULTI_PATIENT_QUERIES,
    STORED_QUERIES,
    Kind,
    Parameter,
    StoredQuery,
)
from transactions.query_decoding import DecodedQuery
from transactions.stored_query import encode

PATIENT = "MRN^^^&1.2.3&ISO"
A, B, C = Code("a", "1.1"), Code("b", "1.1"), Code("c", "1.2")

ALL_QUERIES = {**STORED_QUERIES, **MULTI_PATIENT_QUERIES}

SOME_VALUE = {
    Kind.CODE: "'a^^1.2'",
    Kind.FROM: "2026",
    Kind.TO: "2026",
    Kind.STATUS: f"'{APPROVED}'",
    Kind.LEVEL: "1",
}


def decode(request: AdhocQueryRequest) -> DecodedQuery | list[Fault]:
    """What the transaction that knows the query makes of it."""
    across = request.query_id in MULTI_PATIENT_QUERIES
    return query_decoding.decode(request, MULTI_PATIENT_QUERIES if across else STORED_QUERIES)


def decoded(request: AdhocQueryRequest) -> DecodedQuery:
    result = decode(request)
    assert isinstance(result, DecodedQuery), result
    return result


def faults(request: AdhocQueryRequest) -> list[tuple[Rule, str | None]]:
    """The rules broken, each with the parameter it is about."""
    result = decode(request)
    assert isinstance(result, list)
    codes = {fault.error("ITI-18").code for fault in result}
    assert all(code.startswith("XDS") for code in codes)
    return [(fault.rule, fault.details.get("parameter")) for fault in result]  # type: ignore[misc]


def with_slots(query: StoredQuery, *slots: tuple[str, list[str]]) -> AdhocQueryRequest:
    """A FindDocuments request that is complete but for what ``slots`` add or replace."""
    base = [
        ("$XDSDocumentEntryPatientId", [f"'{PATIENT}'"]),
        ("$XDSDocumentEntryStatus", [f"('{APPROVED}')"]),
    ]
    names = {name for name, _ in slots}
    return AdhocQueryRequest(
        query.id, LEAF_CLASS, [slot for slot in base if slot[0] not in names] + list(slots)
    )


def test_find_documents_means_what_it_asks() -> None:
    query = decoded(
        stored_query.find_documents(
            PATIENT,
            return_type=OBJECT_REF,
            status=[APPROVED, DEPRECATED],
            type=[STABLE, ON_DEMAND],
            class_code=[A, C],
            event_code_list=[[A, B], [C]],
            confidentiality_code=[A],
            creation_time_from="2025",
            creation_time_to="20260101",
            author_person=["%Welby%", "O'Brien_"],
        )
    )
    assert query.query is FIND_DOCUMENTS
    assert not query.leaf_class
    assert query.patient_id == CX(PATIENT)
    assert query.texts("status") == (APPROVED, DEPRECATED)
    assert query.texts("type") == (STABLE, ON_DEMAND)
    assert query.codes("class_code") == (A, C)
    assert query.code_groups("event_code_list") == ((A, B), (C,))
    assert query.code_groups("confidentiality_code") == ((A,),)
    assert query.time("creation_time_from") == "2025"
    assert query.time("creation_time_to") == "20260101"
    assert query.texts("author_person") == ("%Welby%", "O'Brien_")
    assert query.codes("type_code") == ()
    assert query.code_groups("practice_setting_code") == ()
    assert query.time("service_stop_time_to") is None


def test_without_more_a_search_is_for_approved_stable_documents() -> None:
    query = decoded(stored_query.find_documents(PATIENT))
    assert query.leaf_class
    assert query.texts("status") == (APPROVED,)
    assert query.texts("type") == (STABLE,)


def test_documents_are_found_by_reference_id() -> None:
    accession = "A1^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:accession"
    one = decoded(stored_query.find_documents_by_reference_id(PATIENT, [accession, "x"]))
    assert one.text_groups("reference_id_list") == ((accession, "x"),)
    both = decoded(stored_query.find_documents_by_reference_id(PATIENT, [[accession], ["x"]]))
    assert both.text_groups("reference_id_list") == ((accession,), ("x",))
    assert both.query is FIND_DOCUMENTS_BY_REFERENCE_ID


def test_submission_sets_are_found() -> None:
    query = decoded(
        stored_query.find_submission_sets(
            PATIENT,
            source_id=["1.2"],
            submission_time_from="2026",
            author_person="%",
            content_type=[A],
        )
    )
    assert query.patient_id == CX(PATIENT)
    assert query.texts("source_id") == ("1.2",)
    assert query.text("author_person") == "%"
    assert query.codes("content_type") == (A,)


def test_objects_are_got_by_their_ids() -> None:
    assert decoded(stored_query.get_documents(unique_id=["1", "2"])).texts("unique_id") == (
        "1",
        "2",
    )
    by_uuid = decoded(stored_query.get_documents(entry_uuid=["urn:uuid:x"], home="urn:oid:1.2"))
    assert by_uuid.texts("entry_uuid") == ("urn:uuid:x",)
    assert by_uuid.home == "urn:oid:1.2"
    assert by_uuid.patient_id is None
    assert decoded(stored_query.get_associations(["urn:uuid:x"])).texts("uuid") == ("urn:uuid:x",)
    contents = decoded(
        stored_query.get_submission_set_and_contents(unique_id="1.2", format_code=[A])
    )
    assert contents.text("unique_id") == "1.2"
    assert contents.codes("format_code") == (A,)
    assert contents.texts("type") == (STABLE,)


@pytest.mark.parametrize("query", ALL_QUERIES.values(), ids=lambda query: query.name)
def test_every_query_names_each_required_parameter_that_is_missing(query: StoredQuery) -> None:
    missing = faults(AdhocQueryRequest(query.id))
    required: list[tuple[Rule, str | None]] = [
        (rules.PARAMETER_MISSING, one.slot) for one in query.parameters if one.required
    ]
    if query.alternatives or query.any_of:
        required.append((rules.ALTERNATIVE_MISSING, None))
    assert missing == required
    assert {rule.code("ITI-18") for rule, _ in missing} == {"XDSStoredQueryMissingParam"}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [(query, one) for query in ALL_QUERIES.values() for one in query.parameters],
    ids=lambda value: value.name if isinstance(value, StoredQuery) else value.slot,
)
def test_every_parameter_takes_as_many_values_as_it_may(
    query: StoredQuery, parameter: Parameter
) -> None:
    needed = [one for one in query.parameters if one.required and one is not parameter]
    if parameter.key not in query.alternatives:
        needed += [one for one in query.parameters if one.key in query.alternatives[:1]]
    if parameter.key not in query.any_of:
        needed += [one for one in query.parameters if one.key in query.any_of[:1]]
    others = [(one.slot, [SOME_VALUE.get(one.kind, "'x'")]) for one in needed]
    literal = SOME_VALUE.get(parameter.kind, "'x'")

    def asking(*slots: list[str]) -> AdhocQueryRequest:
        return AdhocQueryRequest(
            query.id, LEAF_CLASS, [*others, *((parameter.slot, slot) for slot in slots)]
        )

    assert isinstance(decode(asking([literal])), DecodedQuery)
    two = asking([f"({literal})", f"({literal})"])
    if parameter.multiple:
        assert isinstance(decode(two), DecodedQuery)
    else:
        assert faults(two) == [(rules.PARAMETER_VALUES, parameter.slot)]
    repeated = asking([literal], [literal])
    if parameter.conjunctive:
        assert isinstance(decode(repeated), DecodedQuery)
    else:
        assert faults(repeated) == [(rules.PARAMETER_REPEATED, parameter.slot)]


def test_folders_are_found_by_code_and_time() -> None:
    query = decoded(
        stored_query.find_folders(
            PATIENT, code_list=[[A], [B, C]], last_update_time_from="2026", metadata_level=2
        )
    )
    assert query.query is FIND_FOLDERS
    assert query.code_groups("code_list") == ((A,), (B, C))
    assert query.time("last_update_time_from") == "2026"
    assert query.texts("status") == (APPROVED,)
    assert query.text("metadata_level") == "2"


def test_everything_of_a_patient_has_a_status_for_each_kind() -> None:
    query = decoded(stored_query.get_all(PATIENT, folder_status=[DEPRECATED], format_code=[A]))
    assert query.query is GET_ALL
    assert query.patient_id == CX(PATIENT)
    assert query.texts("document_status") == query.texts("submission_set_status") == (APPROVED,)
    assert query.texts("folder_status") == (DEPRECATED,)
    assert query.codes("format_code") == (A,)
    assert query.texts("type") == (STABLE,)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (stored_query.get_folders(entry_uuid=["x"]), "GetFolders"),
        (stored_query.get_folders(unique_id=["x"]), "GetFolders"),
        (
            stored_query.get_documents_and_associations(unique_id=["x"]),
            "GetDocumentsAndAssociations",
        ),
        (stored_query.get_submission_sets(["x"]), "GetSubmissionSets"),
        (
            stored_query.get_folder_and_contents(entry_uuid="x", type=[STABLE]),
            "GetFolderAndContents",
        ),
        (stored_query.get_folders_for_document(unique_id="x"), "GetFoldersForDocument"),
        (stored_query.get_related_documents(["t"], entry_uuid="x"), "GetRelatedDocuments"),
    ],
)
def test_each_query_about_known_objects_is_asked_by_its_name(
    request_: AdhocQueryRequest, name: str
) -> None:
    query = decoded(request_)
    assert query.query.name == name
    assert query.query.single_patient
    assert {key for key in ("entry_uuid", "unique_id", "uuid") if query.texts(key) == ("x",)}


@pytest.mark.parametrize(
    ("level", "meant"), [(1, "1"), (2, "2"), (3, "2"), ("007", "2"), ("'1'", "1"), ("01", "1")]
)
def test_the_level_is_1_or_what_is_asked(level: int | str, meant: str) -> None:
    request = with_slots(FIND_DOCUMENTS, ("$MetadataLevel", [str(level)]))
    assert decoded(request).text("metadata_level") == meant


@pytest.mark.parametrize("level", ["0", "1.5", "'x'", "-1", "'²'"])
def test_what_is_no_level_is_refused(level: str) -> None:
    request = with_slots(FIND_DOCUMENTS, ("$MetadataLevel", [level]))
    assert faults(request) == [(rules.PARAMETER_CODING, "$MetadataLevel")]


def test_who_asks_for_versions_means_all_of_them() -> None:
    by_version = stored_query.get_documents(logical_id=["x"])
    assert decoded(by_version).text("metadata_level") == "2"
    assert decoded(stored_query.get_documents(entry_uuid=["x"])).text("metadata_level") == "1"
    latest = stored_query.get_documents(logical_id=["x"], metadata_level=1)
    assert decoded(latest).text("metadata_level") == "1"


def test_queries_across_patients_take_several_patients_or_none() -> None:
    several = decoded(stored_query.find_documents_for_multiple_patients([PATIENT, "B"]))
    assert several.query is FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS
    assert several.texts("patient_id") == (PATIENT, "B")
    none = decoded(stored_query.find_folders_for_multiple_patients(code_list=[A]))
    assert none.query is FIND_FOLDERS_FOR_MULTIPLE_PATIENTS
    assert none.patient_id is None


def test_queries_across_patients_need_one_of_their_selections() -> None:
    request = stored_query.find_documents_for_multiple_patients(type_code=[A])
    assert faults(request) == [(rules.ALTERNATIVE_MISSING, None)]
    for selection in ("class_code", "event_code_list", "healthcare_facility_type_code"):
        assert decoded(stored_query.find_documents_for_multiple_patients(**{selection: [A]}))  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ALL_QUERIES.values(), ids=lambda query: query.name)
def test_a_query_is_known_to_one_transaction_alone(query: StoredQuery) -> None:
    known = [query.id in queries for queries in (STORED_QUERIES, MULTI_PATIENT_QUERIES)]
    assert sorted(known) == [False, True]
    other = MULTI_PATIENT_QUERIES if query.id in STORED_QUERIES else STORED_QUERIES
    [fault] = query_decoding.decode(AdhocQueryRequest(query.id), other)  # type: ignore[misc]
    assert fault.rule is rules.UNKNOWN_STORED_QUERY


def test_both_alternatives_are_refused() -> None:
    request = stored_query.get_documents(unique_id=["1"], entry_uuid=["urn:uuid:x"])
    ((rule, _),) = faults(request)
    assert rule is rules.ALTERNATIVES_BOTH
    assert rule.code("ITI-18") == "XDSStoredQueryParamNumber"


def test_an_unknown_query_is_refused() -> None:
    ((rule, _),) = faults(AdhocQueryRequest("urn:uuid:00000000-0000-0000-0000-000000000000"))
    assert rule.code("ITI-18") == "XDSUnknownStoredQuery"


def test_the_case_of_a_query_id_does_not_matter() -> None:
    request = stored_query.get_associations(["urn:uuid:x"])
    upper = AdhocQueryRequest(request.query_id.upper(), LEAF_CLASS, request.parameters)
    assert isinstance(decode(upper), DecodedQuery)


@pytest.mark.parametrize("return_type", ["RegistryObject", "LeafClassWithRepositoryItem", "", "x"])
def test_other_return_types_are_refused(return_type: str) -> None:
    request = stored_query.find_documents(PATIENT, return_type=return_type)
    assert faults(request) == [(rules.RETURN_TYPE, None)]


def test_unknown_parameters_are_ignored() -> None:
    request = with_slots(FIND_DOCUMENTS, ("$Foo", ["not coded"]), ("$MetadataLevel", ["2"]))
    assert isinstance(decode(request), DecodedQuery)


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ([f"('{APPROVED}','urn:x:Bogus')"], (APPROVED,)),
        ([f"('{DEPRECATED}')", f"('{APPROVED}')"], (DEPRECATED, APPROVED)),
        (["('urn:x:Bogus')"], None),
    ],
)
def test_unknown_statuses_are_ignored_unless_none_remains(
    values: list[str], statuses: tuple[str, ...] | None
) -> None:
    request = with_slots(FIND_DOCUMENTS, ("$XDSDocumentEntryStatus", values))
    if statuses is not None:
        assert decoded(request).texts("status") == statuses
    else:
        ((rule, _),) = faults(request)
        assert rule.code("ITI-18") == "XDSStoredQueryMissingParam"


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        ("$XDSDocumentEntryClassCode", "('a')"),
        ("$XDSDocumentEntryClassCode", "('a^^')"),
        ("$XDSDocumentEntryClassCode", "('^^1.2')"),
        ("$XDSDocumentEntryClassCode", "('a^name^1.2')"),
        ("$XDSDocumentEntryClassCode", "('a^^1.2^x')"),
        ("$XDSDocumentEntryClassCode", '("a^^1.2")'),
        ("$XDSDocumentEntryCreationTimeFrom", "'yesterday'"),
        ("$XDSDocumentEntryCreationTimeFrom", "20261301"),
        ("$XDSDocumentEntryCreationTimeTo", "2026.5"),
        ("$XDSDocumentEntryPatientId", PATIENT),
    ],
)
def test_badly_coded_values_are_named(slot: str, value: str) -> None:
    request = with_slots(FIND_DOCUMENTS, (slot, [value]))
    assert faults(request) == [(rules.PARAMETER_CODING, slot)]


@pytest.mark.parametrize("code", ["a^b", "a^^b", "^a", "a^"])
def test_a_code_may_hold_what_separates_it_from_its_scheme(code: str) -> None:
    slot = ("$XDSDocumentEntryClassCode", [f"('{code}^^1.2')"])
    [found] = decoded(with_slots(FIND_DOCUMENTS, slot)).codes("class_code")
    assert (found.code, found.scheme) == (code, "1.2")


def test_all_faults_are_reported_at_once() -> None:
    request = AdhocQueryRequest(
        FIND_DOCUMENTS.id,
        "Everything",
        [
            ("$XDSDocumentEntryPatientId", ["('a','b')"]),
            ("$XDSDocumentEntryClassCode", ["('a')"]),
            ("$XDSDocumentEntryTypeCode", ["('a^^1')"]),
            ("$XDSDocumentEntryTypeCode", ["('b^^1')"]),
        ],
    )
    assert faults(request) == [
        (rules.RETURN_TYPE, None),
        (rules.PARAMETER_VALUES, "$XDSDocumentEntryPatientId"),
        (rules.PARAMETER_CODING, "$XDSDocumentEntryClassCode"),
        (rules.PARAMETER_REPEATED, "$XDSDocumentEntryTypeCode"),
        (rules.PARAMETER_MISSING, "$XDSDocumentEntryStatus"),
    ]


def test_an_empty_slot_counts_as_absent() -> None:
    request = with_slots(FIND_DOCUMENTS, ("$XDSDocumentEntryClassCode", []))
    assert decoded(request).codes("class_code") == ()


def test_a_list_may_continue_from_value_to_value() -> None:
    values = ["('a^^1.1')", "('b^^1.1','c^^1.2')"]
    request = with_slots(FIND_DOCUMENTS, ("$XDSDocumentEntryEventCodeList", values))
    assert decoded(request).code_groups("event_code_list") == ((A, B, C),)


texts = st.text(
    st.sampled_from("'(),\"% \n") | st.characters(exclude_categories=["Cs"]), min_size=1
)
code_parts = st.text(st.sampled_from("'(),ab1.é"), min_size=1, max_size=20)
codes = st.builds(Code, code_parts, code_parts)
groups = st.lists(st.lists(codes, min_size=1, max_size=3), min_size=1, max_size=3)


@given(
    patient=texts,
    events=groups,
    classes=st.lists(codes, min_size=1, max_size=8),
    authors=st.lists(texts, min_size=1, max_size=4),
)
def test_whatever_is_asked_is_understood(
    patient: str, events: list[list[Code]], classes: list[Code], authors: list[str]
) -> None:
    query = decoded(
        stored_query.find_documents(
            patient, event_code_list=events, class_code=classes, author_person=authors
        )
    )
    assert query.patient_id == patient
    assert query.code_groups("event_code_list") == tuple(map(tuple, events))
    assert query.codes("class_code") == tuple(classes)
    assert query.texts("author_person") == tuple(authors)


def test_one_value_needs_no_list_around_it() -> None:
    query = decoded(
        encode(FIND_DOCUMENTS, {"patient_id": PATIENT, "status": APPROVED, "class_code": A})
    )
    assert query.codes("class_code") == (A,)
    assert query.texts("status") == (APPROVED,)
