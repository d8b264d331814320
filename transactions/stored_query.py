"""How to ask a stored query: a function for each, in the words of the model.

Covers the queries of ITI-18 (ITI TF-2 3.18.4.1.2.3.7) and ITI-51 (3.51.4.1.2.3). They are
listed in ``transactions.query_catalogue``; what a request means is read by
``transactions.query_decoding``, its wire format is in ``transactions.iti_18``.

A filter that may be repeated (event code, confidentiality code, folder code, reference id)
takes either values, any of which may match, or groups of values, one of each of which must.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, TypeVar, Unpack, cast

from metadata.identifiers import APPROVED
from metadata.model import Code
from transactions import query_catalogue as queries
from transactions.iti_18 import LEAF_CLASS, AdhocQueryRequest
from transactions.query_catalogue import Kind, Parameter, StoredQuery
from transactions.query_values import quote, write_lists

Value = TypeVar("Value", str, Code)
AnyOf = Sequence[Value]
AllOf = Sequence[Value] | Sequence[Sequence[Value]]

_BARE = (Kind.FROM, Kind.TO, Kind.LEVEL)  # kinds whose literals are numbers


class Level(TypedDict, total=False):
    """``metadata_level`` 2 shows what only Metadata Update knows of; 1 when absent."""

    metadata_level: int


class LinkFilters(Level, total=False):
    """What narrows the associations in an answer."""

    association_status: AnyOf[str]


class TypeFilter(LinkFilters, total=False):
    """``type`` is the objectType of documents, Stable when absent."""

    type: AnyOf[str]


class ContentFilters(Level, total=False):
    """What narrows the documents of a container; ``type`` is the objectType."""

    format_code: AnyOf[Code]
    confidentiality_code: AllOf[Code]
    type: AnyOf[str]


class LinkedContentFilters(ContentFilters, LinkFilters, total=False):
    """What narrows the documents of a container and what links them."""


class AllFilters(LinkedContentFilters, total=False):
    """What narrows the whole of a patient; each status is Approved when absent."""

    document_status: AnyOf[str]
    submission_set_status: AnyOf[str]
    folder_status: AnyOf[str]


class DocumentFilters(ContentFilters, total=False):
    """What narrows a search for documents.

    ``status`` is Approved when absent; times are DTM, the upper bound excluded;
    ``author_person`` are patterns.
    """

    status: AnyOf[str]
    class_code: AnyOf[Code]
    type_code: AnyOf[Code]
    practice_setting_code: AnyOf[Code]
    healthcare_facility_type_code: AnyOf[Code]
    event_code_list: AllOf[Code]
    creation_time_from: str
    creation_time_to: str
    service_start_time_from: str
    service_start_time_to: str
    service_stop_time_from: str
    service_stop_time_to: str
    author_person: AnyOf[str]
    document_availability: AnyOf[str]


class FolderFilters(Level, total=False):
    """What narrows a search for folders; ``status`` and times as for documents."""

    status: AnyOf[str]
    code_list: AllOf[Code]
    last_update_time_from: str
    last_update_time_to: str


class SubmissionSetFilters(Level, total=False):
    """What narrows a search for submission sets; ``author_person`` is a pattern."""

    status: AnyOf[str]
    source_id: AnyOf[str]
    submission_time_from: str
    submission_time_to: str
    author_person: str
    content_type: AnyOf[Code]


def find_documents(
    patient_id: str, *, return_type: str = LEAF_CLASS, **filters: Unpack[DocumentFilters]
) -> AdhocQueryRequest:
    """FindDocuments: the documents of a patient (3.18.4.1.2.3.7.1)."""
    given = {"patient_id": patient_id, "status": [APPROVED], **filters}
    return encode(queries.FIND_DOCUMENTS, given, return_type)


def find_documents_by_reference_id(
    patient_id: str,
    reference_id_list: AllOf[str],
    *,
    return_type: str = LEAF_CLASS,
    **filters: Unpack[DocumentFilters],
) -> AdhocQueryRequest:
    """FindDocumentsByReferenceId: those that refer to an order, a study ... (...7.14)."""
    given = {
        "patient_id": patient_id,
        "status": [APPROVED],
        "reference_id_list": reference_id_list,
        **filters,
    }
    return encode(queries.FIND_DOCUMENTS_BY_REFERENCE_ID, given, return_type)


def find_submission_sets(
    patient_id: str, *, return_type: str = LEAF_CLASS, **filters: Unpack[SubmissionSetFilters]
) -> AdhocQueryRequest:
    """FindSubmissionSets: what was submitted for a patient (3.18.4.1.2.3.7.2)."""
    given = {"patient_id": patient_id, "status": [APPROVED], **filters}
    return encode(queries.FIND_SUBMISSION_SETS, given, return_type)


def find_folders(
    patient_id: str, *, return_type: str = LEAF_CLASS, **filters: Unpack[FolderFilters]
) -> AdhocQueryRequest:
    """FindFolders: the folders of a patient (3.18.4.1.2.3.7.3)."""
    given = {"patient_id": patient_id, "status": [APPROVED], **filters}
    return encode(queries.FIND_FOLDERS, given, return_type)


def get_all(
    patient_id: str, *, return_type: str = LEAF_CLASS, **filters: Unpack[AllFilters]
) -> AdhocQueryRequest:
    """GetAll: everything of a patient, and what links it (3.18.4.1.2.3.7.4)."""
    statuses = ("document_status", "submission_set_status", "folder_status")
    given = {"patient_id": patient_id, **{key: [APPROVED] for key in statuses}, **filters}
    return encode(queries.GET_ALL, given, return_type)


def get_documents(
    *,
    entry_uuid: AnyOf[str] = (),
    unique_id: AnyOf[str] = (),
    logical_id: AnyOf[str] = (),
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **level: Unpack[Level],
) -> AdhocQueryRequest:
    """GetDocuments: by entryUUID, by uniqueId, or all versions by logicalID (...7.5)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, "logical_id": logical_id, **level}
    return encode(queries.GET_DOCUMENTS, given, return_type, home)


def get_folders(
    *,
    entry_uuid: AnyOf[str] = (),
    unique_id: AnyOf[str] = (),
    logical_id: AnyOf[str] = (),
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **level: Unpack[Level],
) -> AdhocQueryRequest:
    """GetFolders: by entryUUID, by uniqueId, or all versions by logicalID (...7.6)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, "logical_id": logical_id, **level}
    return encode(queries.GET_FOLDERS, given, return_type, home)


def get_associations(
    uuid: AnyOf[str],
    *,
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[LinkFilters],
) -> AdhocQueryRequest:
    """GetAssociations: what links the objects with these entryUUIDs to others (...7.7)."""
    return encode(queries.GET_ASSOCIATIONS, {"uuid": uuid, **filters}, return_type, home)


def get_documents_and_associations(
    *,
    entry_uuid: AnyOf[str] = (),
    unique_id: AnyOf[str] = (),
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[LinkFilters],
) -> AdhocQueryRequest:
    """GetDocumentsAndAssociations: documents and all that touches them (...7.8)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, **filters}
    return encode(queries.GET_DOCUMENTS_AND_ASSOCIATIONS, given, return_type, home)


def get_submission_sets(
    uuid: AnyOf[str],
    *,
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **level: Unpack[Level],
) -> AdhocQueryRequest:
    """GetSubmissionSets: those that hold these documents or folders (...7.9)."""
    return encode(queries.GET_SUBMISSION_SETS, {"uuid": uuid, **level}, return_type, home)


def get_submission_set_and_contents(
    *,
    entry_uuid: str = "",
    unique_id: str = "",
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[ContentFilters],
) -> AdhocQueryRequest:
    """GetSubmissionSetAndContents, by the entryUUID or the uniqueId, not both (...7.10)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, **filters}
    return encode(queries.GET_SUBMISSION_SET_AND_CONTENTS, given, return_type, home)


def get_folder_and_contents(
    *,
    entry_uuid: str = "",
    unique_id: str = "",
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[LinkedContentFilters],
) -> AdhocQueryRequest:
    """GetFolderAndContents, by the entryUUID or the uniqueId, not both (...7.11)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, **filters}
    return encode(queries.GET_FOLDER_AND_CONTENTS, given, return_type, home)


def get_folders_for_document(
    *,
    entry_uuid: str = "",
    unique_id: str = "",
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[LinkFilters],
) -> AdhocQueryRequest:
    """GetFoldersForDocument: the folders that hold a document (...7.12)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, **filters}
    return encode(queries.GET_FOLDERS_FOR_DOCUMENT, given, return_type, home)


def get_related_documents(
    association_types: AnyOf[str],
    *,
    entry_uuid: str = "",
    unique_id: str = "",
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[TypeFilter],
) -> AdhocQueryRequest:
    """GetRelatedDocuments: a document and those so associated with it (...7.13)."""
    given = {
        "entry_uuid": entry_uuid,
        "unique_id": unique_id,
        "association_types": association_types,
        **filters,
    }
    return encode(queries.GET_RELATED_DOCUMENTS, given, return_type, home)


def find_documents_for_multiple_patients(
    patient_ids: AnyOf[str] = (),
    *,
    return_type: str = LEAF_CLASS,
    **filters: Unpack[DocumentFilters],
) -> AdhocQueryRequest:
    """FindDocumentsForMultiplePatients, to be sent as ITI-51 (3.51.4.1.2.3.1)."""
    given = {"patient_id": patient_ids, "status": [APPROVED], **filters}
    return encode(queries.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, given, return_type)


def find_folders_for_multiple_patients(
    patient_ids: AnyOf[str] = (),
    *,
    return_type: str = LEAF_CLASS,
    **filters: Unpack[FolderFilters],
) -> AdhocQueryRequest:
    """FindFoldersForMultiplePatients, to be sent as ITI-51 (3.51.4.1.2.3.2)."""
    given = {"patient_id": patient_ids, "status": [APPROVED], **filters}
    return encode(queries.FIND_FOLDERS_FOR_MULTIPLE_PATIENTS, given, return_type)


def encode(
    query: StoredQuery,
    given: Mapping[str, object],
    return_type: str = LEAF_CLASS,
    home: str | None = None,
) -> AdhocQueryRequest:
    """The request that asks ``query`` with these values, keyed by parameter key.

    A value is one text, number or Code, a sequence of them, or a sequence of sequences; what is
    empty is left out. Nothing is checked: a wrong request is for the registry to refuse.
    """
    slots = []
    for parameter in query.parameters:
        for group in _groups(given.get(parameter.key)):
            slots.append((parameter.slot, _values(parameter, group)))
    return AdhocQueryRequest(query.id, return_type, slots, home)


def _groups(value: object) -> list[list[str | Code]]:
    """``value`` as AND of ORs."""
    if not value:
        return []
    if isinstance(value, int):
        return [[str(value)]]
    if isinstance(value, str | Code):
        return [[value]]
    members = list(cast(Iterable[object], value))
    if isinstance(members[0], str | Code):
        return [cast(list[str | Code], members)]
    return [list(cast(Iterable[str | Code], group)) for group in members]


def _values(parameter: Parameter, group: Iterable[str | Code]) -> list[str]:
    literals = [_literal(parameter, value) for value in group]
    return write_lists(literals) if parameter.multiple else literals


def _literal(parameter: Parameter, value: str | Code) -> str:
    if isinstance(value, Code):
        return quote(f"{value.code}^^{value.scheme}")
    return value if parameter.kind in _BARE else quote(value)
