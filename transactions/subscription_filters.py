"""The filters of DSUB as data: which parameters each takes, and which topics it goes with.

Covers ITI TF-2 3.52.5.2, the patient-independent filters and that of Folders included. A
filter is written like a stored query (a rim:AdhocQuery with coded values), so it is read and
written by ``transactions.stored_query``; it is compared with what is registered, never run.
"""

from __future__ import annotations

from collections.abc import Mapping

from transactions.query_catalogue import Kind, Parameter, StoredQuery
from transactions.wsn import Topic

_DE, _SS, _FD = "$XDSDocumentEntry", "$XDSSubmissionSet", "$XDSFolder"


def _patient(slot: str) -> Parameter:
    return Parameter(f"{slot}PatientId", "patient_id", Kind.PATIENT, required=True)


def _several(slot: str, key: str, kind: Kind) -> Parameter:
    return Parameter(slot, key, kind, multiple=True)


def _and_or(slot: str, key: str, kind: Kind) -> Parameter:
    return Parameter(slot, key, kind, multiple=True, conjunctive=True)


# Each key is also the name of the attribute that is compared.
_DOCUMENT = (
    _several(f"{_DE}ClassCode", "class_code", Kind.CODE),
    _several(f"{_DE}TypeCode", "type_code", Kind.CODE),
    _and_or(f"{_DE}ReferenceIdList", "reference_id_list", Kind.LIKE),
    _several(f"{_DE}PracticeSettingCode", "practice_setting_code", Kind.CODE),
    _several(f"{_DE}HealthcareFacilityTypeCode", "healthcare_facility_type_code", Kind.CODE),
    _and_or(f"{_DE}EventCodeList", "event_code_list", Kind.CODE),
    _and_or(f"{_DE}ConfidentialityCode", "confidentiality_code", Kind.CODE),
    _several(f"{_DE}FormatCode", "format_code", Kind.CODE),
    _several(f"{_DE}AuthorPerson", "author", Kind.LIKE),
)
_SUBMISSION_SET = (
    _several(f"{_SS}SourceId", "source_id", Kind.TEXT),
    _several(f"{_SS}AuthorPerson", "author", Kind.LIKE),
    _several(f"{_SS}IntendedRecipient", "intended_recipient", Kind.LIKE),
)

DOCUMENT_FILTER = StoredQuery(
    "DocumentEntry filter",
    "urn:uuid:aa2332d0-f8fe-11e0-be50-0800200c9a66",
    (_patient(_DE), *_DOCUMENT),
)
SUBMISSION_SET_FILTER = StoredQuery(
    "SubmissionSet filter",
    "urn:uuid:fbede94e-dbdc-4f6b-bc1f-d730e677cece",
    (_patient(_SS), *_SUBMISSION_SET),
)
FOLDER_FILTER = StoredQuery(
    "Folder filter",
    "urn:uuid:9376254e-da05-41f5-9af3-ac56d63d8ebd",
    (_patient(_FD), _and_or(f"{_FD}CodeList", "code_list", Kind.CODE)),
)
ANY_PATIENT_DOCUMENT_FILTER = StoredQuery(
    "patient-independent DocumentEntry filter",
    "urn:uuid:742790e0-aba6-43d6-9f1f-e43ed9790b79",
    _DOCUMENT,
)
ANY_PATIENT_SUBMISSION_SET_FILTER = StoredQuery(
    "patient-independent SubmissionSet filter",
    "urn:uuid:868cad3d-ec09-4565-b66c-1be10d034399",
    _SUBMISSION_SET,
)

FILTERS: Mapping[str, StoredQuery] = {
    one.id: one
    for one in (
        DOCUMENT_FILTER,
        SUBMISSION_SET_FILTER,
        FOLDER_FILTER,
        ANY_PATIENT_DOCUMENT_FILTER,
        ANY_PATIENT_SUBMISSION_SET_FILTER,
    )
}

_DOCUMENT_FILTERS = frozenset({DOCUMENT_FILTER.id, ANY_PATIENT_DOCUMENT_FILTER.id})
TOPIC_FILTERS: Mapping[Topic, frozenset[str]] = {
    Topic.FULL_DOCUMENT_ENTRY: _DOCUMENT_FILTERS,
    Topic.MINIMAL_DOCUMENT_ENTRY: _DOCUMENT_FILTERS,
    Topic.SUBMISSION_SET_METADATA: frozenset(
        {SUBMISSION_SET_FILTER.id, ANY_PATIENT_SUBMISSION_SET_FILTER.id}
    ),
    Topic.FOLDER_METADATA: frozenset({FOLDER_FILTER.id}),
}
"""The filters that may stand beside each topic, by their ids (3.52.5.2)."""
