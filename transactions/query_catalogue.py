"""The stored queries of ITI-18 and ITI-51 as data: one row for each, with its parameters.

Covers ITI TF-2 3.18.4.1.2.3.7 and 3.51.4.1.2.3, with what Metadata Update adds to them.
``transactions.stored_query`` writes requests by these tables, ``transactions.query_decoding``
reads them, the registry runs them; a query that is not listed is unknown to all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    LEVEL = "$MetadataLevel: 1 hides what only Metadata Update knows of, 2 shows it"


# Of these a value is assumed where none is sent.
_ASSUMED = (Kind.TYPE, Kind.LEVEL)


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

    ``any_of`` are keys of which at least one must. ``single_patient``: a LeafClass answer may
    concern one patient only.
    """

    name: str
    id: str
    parameters: tuple[Parameter, ...]
    alternatives: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    single_patient: bool = False
    missed: tuple[Parameter, ...] = field(init=False, repr=False, compare=False)
    """Those whose absence means something, in the order of ``parameters``."""

    def __post_init__(self) -> None:
        missed = tuple(one for one in self.parameters if one.required or one.kind in _ASSUMED)
        object.__setattr__(self, "missed", missed)


def _single(slot: str, key: str, kind: Kind, required: bool = False) -> Parameter:
    return Parameter(slot, key, kind, required)


def _several(slot: str, key: str, kind: Kind, required: bool = False) -> Parameter:
    return Parameter(slot, key, kind, required, multiple=True)


def _and_or(slot: str, key: str, kind: Kind, required: bool = False) -> Parameter:
    return Parameter(slot, key, kind, required, multiple=True, conjunctive=True)


_DE = "$XDSDocumentEntry"
_SS = "$XDSSubmissionSet"
_FD = "$XDSFolder"

# What every query takes. Last in each row: its default follows from the others.
_LEVEL = _single("$MetadataLevel", "metadata_level", Kind.LEVEL)
_ASSOCIATION_STATUS = _several("$XDSAssociationStatus", "association_status", Kind.STATUS)

_DOCUMENT_FILTERS = (
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
    _several(f"{_DE}DocumentAvailability", "document_availability", Kind.TEXT),
    _several(f"{_DE}Status", "status", Kind.STATUS, required=True),
    _several(f"{_DE}Type", "type", Kind.TYPE),
    _LEVEL,
)

_FOLDER_FILTERS = (
    _single(f"{_FD}LastUpdateTimeFrom", "last_update_time_from", Kind.FROM),
    _single(f"{_FD}LastUpdateTimeTo", "last_update_time_to", Kind.TO),
    _and_or(f"{_FD}CodeList", "code_list", Kind.CODE),
    _several(f"{_FD}Status", "status", Kind.STATUS, required=True),
    _LEVEL,
)

# What narrows the documents in an answer built from something else than their own attributes.
_CONTENT_FILTERS = (
    _several(f"{_DE}FormatCode", "format_code", Kind.CODE),
    _and_or(f"{_DE}ConfidentialityCode", "confidentiality_code", Kind.CODE),
    _several(f"{_DE}Type", "type", Kind.TYPE),
)

_DOCUMENTS_BY_ID = (
    _several(f"{_DE}EntryUUID", "entry_uuid", Kind.TEXT),
    _several(f"{_DE}UniqueId", "unique_id", Kind.TEXT),
)
_DOCUMENT_BY_ID = (
    _single(f"{_DE}EntryUUID", "entry_uuid", Kind.TEXT),
    _single(f"{_DE}UniqueId", "unique_id", Kind.TEXT),
)
_BY_ID = ("entry_uuid", "unique_id")
_BY_ID_OR_VERSION = (*_BY_ID, "logical_id")

FIND_DOCUMENTS = StoredQuery(
    "FindDocuments",
    "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
    (
        _single(f"{_DE}PatientId", "patient_id", Kind.PATIENT, required=True),
        *_DOCUMENT_FILTERS,
    ),
)

FIND_DOCUMENTS_BY_REFERENCE_ID = StoredQuery(
    "FindDocumentsByReferenceId",
    "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492",
    (
        _single(f"{_DE}PatientId", "patient_id", Kind.PATIENT, required=True),
        # The prose says exact, its footnote LIKE: without wildcards the two agree.
        _and_or(f"{_DE}ReferenceIdList", "reference_id_list", Kind.LIKE, required=True),
        *_DOCUMENT_FILTERS,
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
        _LEVEL,
    ),
)

FIND_FOLDERS = StoredQuery(
    "FindFolders",
    "urn:uuid:958f3006-baad-4929-a4de-ff1114824431",
    (_single(f"{_FD}PatientId", "patient_id", Kind.PATIENT, required=True), *_FOLDER_FILTERS),
)

GET_ALL = StoredQuery(
    "GetAll",
    "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3",
    (
        _single("$patientId", "patient_id", Kind.PATIENT, required=True),
        _several(f"{_DE}Status", "document_status", Kind.STATUS, required=True),
        _several(f"{_SS}Status", "submission_set_status", Kind.STATUS, required=True),
        _several(f"{_FD}Status", "folder_status", Kind.STATUS, required=True),
        *_CONTENT_FILTERS,
        _ASSOCIATION_STATUS,
        _LEVEL,
    ),
)

GET_DOCUMENTS = StoredQuery(
    "GetDocuments",
    "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
    (*_DOCUMENTS_BY_ID, _several(f"{_DE}LogicalID", "logical_id", Kind.TEXT), _LEVEL),
    alternatives=_BY_ID_OR_VERSION,
    single_patient=True,
)

GET_FOLDERS = StoredQuery(
    "GetFolders",
    "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4",
    (
        _several(f"{_FD}EntryUUID", "entry_uuid", Kind.TEXT),
        _several(f"{_FD}UniqueId", "unique_id", Kind.TEXT),
        _several(f"{_FD}LogicalID", "logical_id", Kind.TEXT),
        _LEVEL,
    ),
    alternatives=_BY_ID_OR_VERSION,
    single_patient=True,
)

GET_ASSOCIATIONS = StoredQuery(
    "GetAssociations",
    "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155",
    (_several("$uuid", "uuid", Kind.TEXT, required=True), _ASSOCIATION_STATUS, _LEVEL),
)

GET_DOCUMENTS_AND_ASSOCIATIONS = StoredQuery(
    "GetDocumentsAndAssociations",
    "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a",
    (*_DOCUMENTS_BY_ID, _ASSOCIATION_STATUS, _LEVEL),
    alternatives=_BY_ID,
    single_patient=True,
)

GET_SUBMISSION_SETS = StoredQuery(
    "GetSubmissionSets",
    "urn:uuid:51224314-5390-4169-9b91-b1980040715a",
    (_several("$uuid", "uuid", Kind.TEXT, required=True), _LEVEL),
    single_patient=True,
)

GET_SUBMISSION_SET_AND_CONTENTS = StoredQuery(
    "GetSubmissionSetAndContents",
    "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83",
    (
        _single(f"{_SS}EntryUUID", "entry_uuid", Kind.TEXT),
        _single(f"{_SS}UniqueId", "unique_id", Kind.TEXT),
        *_CONTENT_FILTERS,
        _LEVEL,
    ),
    alternatives=_BY_ID,
    single_patient=True,
)

GET_FOLDER_AND_CONTENTS = StoredQuery(
    "GetFolderAndContents",
    "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7",
    (
        _single(f"{_FD}EntryUUID", "entry_uuid", Kind.TEXT),
        _single(f"{_FD}UniqueId", "unique_id", Kind.TEXT),
        *_CONTENT_FILTERS,
        _ASSOCIATION_STATUS,
        _LEVEL,
    ),
    alternatives=_BY_ID,
    single_patient=True,
)

GET_FOLDERS_FOR_DOCUMENT = StoredQuery(
    "GetFoldersForDocument",
    "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578",
    (*_DOCUMENT_BY_ID, _ASSOCIATION_STATUS, _LEVEL),
    alternatives=_BY_ID,
    single_patient=True,
)

GET_RELATED_DOCUMENTS = StoredQuery(
    "GetRelatedDocuments",
    "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6",
    (
        *_DOCUMENT_BY_ID,
        _several("$AssociationTypes", "association_types", Kind.TEXT, required=True),
        _several(f"{_DE}Type", "type", Kind.TYPE),
        _ASSOCIATION_STATUS,
        _LEVEL,
    ),
    alternatives=_BY_ID,
    single_patient=True,
)

FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS = StoredQuery(
    "FindDocumentsForMultiplePatients",
    "urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f",
    (_several(f"{_DE}PatientId", "patient_id", Kind.PATIENT), *_DOCUMENT_FILTERS),
    any_of=("patient_id", "class_code", "event_code_list", "healthcare_facility_type_code"),
)

FIND_FOLDERS_FOR_MULTIPLE_PATIENTS = StoredQuery(
    "FindFoldersForMultiplePatients",
    "urn:uuid:50d3f5ac-39a2-11de-a1ca-b366239e58df",
    (_several(f"{_FD}PatientId", "patient_id", Kind.PATIENT), *_FOLDER_FILTERS),
    any_of=("patient_id", "code_list"),
)

Queries = Mapping[str, StoredQuery]


def _by_id(*queries: StoredQuery) -> Queries:
    return {query.id: query for query in queries}


# What ITI-18 may be asked, by query id.
STORED_QUERIES = _by_id(
    FIND_DOCUMENTS,
    FIND_DOCUMENTS_BY_REFERENCE_ID,
    FIND_SUBMISSION_SETS,
    FIND_FOLDERS,
    GET_ALL,
    GET_DOCUMENTS,
    GET_FOLDERS,
    GET_ASSOCIATIONS,
    GET_DOCUMENTS_AND_ASSOCIATIONS,
    GET_SUBMISSION_SETS,
    GET_SUBMISSION_SET_AND_CONTENTS,
    GET_FOLDER_AND_CONTENTS,
    GET_FOLDERS_FOR_DOCUMENT,
    GET_RELATED_DOCUMENTS,
)

# What ITI-51 may be asked.
MULTI_PATIENT_QUERIES = _by_id(
    FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, FIND_FOLDERS_FOR_MULTIPLE_PATIENTS
)
