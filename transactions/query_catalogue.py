"""The stored queries of ITI-18 as data: one row for each, with the parameters it takes.

Covers ITI TF-2 3.18.4.1.2.3.7. ``transactions.stored_query`` reads and writes requests by
these tables, the registry runs them; a query that is not listed is unknown to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a parameter's values are, and with it how they are compared."""

    PATIENT = "patient identifier, compared after merging"
    TEXT = "compared exactly"
    LIKE = "pattern: % stands for any run of characters, _ for any one"
    CODE = "code and scheme, both compared exactly"
    FROM = "DTM, the earliest time that matches"
    TO = "DTM, the first time that no longer matches"
    STATUS = "availabilityStatus"
    TYPE = "objectType of a DocumentEntry; Stable when absent"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a stored query.

    ``slot`` is its name on the wire, ``key`` its name here. ``multiple`` allows a list, any
    member of which may match; ``conjunctive`` allows the slot to be repeated, all of which
    must match.
    """

    slot: str
    key: str
    kind: Kind
    required: bool = False
    multiple: bool = False
    conjunctive: bool = False


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """One stored query: ``alternatives`` are keys of which exactly one must be given.

    ``single_patient``: a LeafClass answer may concern one patient only.
    """

    name: str
    id: str
    parameters: tuple[Parameter, ...]
    alternatives: tuple[str, ...] = ()
    single_patient: bool = False


def _single(slot: str, key: str, kind: Kind, required: bool = False) -> Parameter:
    return Parameter(slot, key, kind, required)


def _several(slot: str, key: str, kind: Kind, required: bool = False) -> Parameter:
    return Parameter(slot, key, kind, required, multiple=True)


def _and_or(slot: str, key: str, kind: Kind, required: bool = False) -> Parameter:
    return Parameter(slot, key, kind, required, multiple=True, conjunctive=True)


_DE = "$XDSDocumentEntry"
_SS = "$XDSSubmissionSet"

_DOCUMENT_FILTERS = (
    _single(f"{_DE}PatientId", "patient_id", Kind.PATIENT, required=True),
    _several(f"{_DE}ClassCode", "class_code", Kind.CODE),
    _several(f"{_DE}TypeCode", "type_code", Kind.CODE),
    _several(f"{_DE}PracticeSettingCode", "practice_setting_code", Kind.CODE),
    _several(f"{_DE}HealthcareFacilityTypeCode", "healthcare_facility_type_code", Kind.CODE),
    _several(f"{_DE}FormatCode", "format_code", Kind.CODE),
    _and_or(f"{_DE}EventCodeList", "event_code_list", Kind.CODE),
    _and_or(f"{_DE}ConfidentialityCode", "confidentiality_code", Kind.CODE),
    _single(f"{_DE}CreationTimeFrom", "creation_time_from", Kind.FROM),
    _single(f"{_DE}CreationTimeTo", "creation_time_to", Kind.TO),
    _single(f"{_DE}ServiceStartTimeFrom", "service_start_time_from", Kind.FROM),
    _single(f"{_DE}ServiceStartTimeTo", "service_start_time_to", Kind.TO),
    _single(f"{_DE}ServiceStopTimeFrom", "service_stop_time_from", Kind.FROM),
    _single(f"{_DE}ServiceStopTimeTo", "service_stop_time_to", Kind.TO),
    _several(f"{_DE}AuthorPerson", "author_person", Kind.LIKE),
    _several(f"{_DE}Status", "status", Kind.STATUS, required=True),
    _several(f"{_DE}Type", "type", Kind.TYPE),
)

# What narrows the documents in an answer built from a container.
_CONTENT_FILTERS = (
    _several(f"{_DE}FormatCode", "format_code", Kind.CODE),
    _and_or(f"{_DE}ConfidentialityCode", "confidentiality_code", Kind.CODE),
    _several(f"{_DE}Type", "type", Kind.TYPE),
)

FIND_DOCUMENTS = StoredQuery(
    "FindDocuments", "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", _DOCUMENT_FILTERS
)

FIND_DOCUMENTS_BY_REFERENCE_ID = StoredQuery(
    "FindDocumentsByReferenceId",
    "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492",
    (
        *_DOCUMENT_FILTERS,
        # The prose says exact, its footnote LIKE: without wildcards the two agree.
        _and_or(f"{_DE}ReferenceIdList", "reference_id_list", Kind.LIKE, required=True),
    ),
)

FIND_SUBMISSION_SETS = StoredQuery(
    "FindSubmissionSets",
    "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9",
    (
        _single(f"{_SS}PatientId", "patient_id", Kind.PATIENT, required=True),
        _several(f"{_SS}SourceId", "source_id", Kind.TEXT),
        _single(f"{_SS}SubmissionTimeFrom", "submission_time_from", Kind.FROM),
        _single(f"{_SS}SubmissionTimeTo", "submission_time_to", Kind.TO),
        _single(f"{_SS}AuthorPerson", "author_person", Kind.LIKE),
        _several(f"{_SS}ContentType", "content_type", Kind.CODE),
        _several(f"{_SS}Status", "status", Kind.STATUS, required=True),
    ),
)

GET_DOCUMENTS = StoredQuery(
    "GetDocuments",
    "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
    (
        _several(f"{_DE}EntryUUID", "entry_uuid", Kind.TEXT),
        _several(f"{_DE}UniqueId", "unique_id", Kind.TEXT),
    ),
    alternatives=("entry_uuid", "unique_id"),
    single_patient=True,
)

GET_ASSOCIATIONS = StoredQuery(
    "GetAssociations",
    "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155",
    (_several("$uuid", "uuid", Kind.TEXT, required=True),),
)

GET_SUBMISSION_SET_AND_CONTENTS = StoredQuery(
    "GetSubmissionSetAndContents",
    "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83",
    (
        _single(f"{_SS}EntryUUID", "entry_uuid", Kind.TEXT),
        _single(f"{_SS}UniqueId", "unique_id", Kind.TEXT),
        *_CONTENT_FILTERS,
    ),
    alternatives=("entry_uuid", "unique_id"),
    single_patient=True,
)

STORED_QUERIES: Mapping[str, StoredQuery] = {
    query.id: query
    for query in (
        FIND_DOCUMENTS,
        FIND_DOCUMENTS_BY_REFERENCE_ID,
        FIND_SUBMISSION_SETS,
        GET_DOCUMENTS,
        GET_ASSOCIATIONS,
        GET_SUBMISSION_SET_AND_CONTENTS,
    )
}
