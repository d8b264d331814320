"""From objects of the model to rows of the tables.

What a query compares stands in columns as the query spells it; everything else is in the
``ebrim`` of the row. An absent value is NULL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from metadata import ebrim
from metadata.attributes import check_size
from metadata.datatypes import DTM
from metadata.identifiers import APPROVED, DEPRECATED, OFFLINE, ON_DEMAND, STABLE
from metadata.model import (
    AnyObject,
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    SubmissionSet,
)
from registry import schema

Row = dict[str, Any]

# The words that stand in columns for the URIs of the standard.
STATUSES = {APPROVED: schema.APPROVED, DEPRECATED: schema.DEPRECATED}
OBJECT_TYPES = {STABLE: schema.STABLE, ON_DEMAND: schema.ON_DEMAND}

_KINDS = {
    DocumentEntry: schema.DOCUMENT,
    SubmissionSet: schema.SUBMISSION_SET,
    Folder: schema.FOLDER,
    Association: schema.ASSOCIATION,
}


def kind_of(obj: AnyObject) -> str:
    """The kind under which the registry files an object."""
    return _KINDS[type(obj)]


def coded(code: Code) -> str:
    """A code as queries spell it; the display name takes no part."""
    return f"{code.code}^^{code.scheme}"


def content_hash(document: DocumentEntry) -> str | None:
    """The hash in the form that is compared: the case of hex digits means nothing."""
    return document.hash.lower() if document.hash else None


def content_size(document: DocumentEntry) -> int | None:
    """The size as a number; None when absent or not a number of bytes."""
    return int(document.size) if document.size and check_size(document.size) is None else None


def object_row(obj: AnyObject, patient: str) -> Row:
    """Where ``obj`` is to be found."""
    return {
        "entry_uuid": obj.entry_uuid,
        "kind": kind_of(obj),
        "patient": patient,
    }


def identity_row(obj: DocumentEntry | SubmissionSet | Folder, patient: str) -> Row:
    """What the uniqueId of ``obj`` stands for from now on."""
    return {
        "unique_id": obj.unique_id,
        "kind": kind_of(obj),
        "patient": patient,
        "entry_uuid": obj.entry_uuid,
        "hash": content_hash(obj) if isinstance(obj, DocumentEntry) else None,
        "size": content_size(obj) if isinstance(obj, DocumentEntry) else None,
    }


def namesake_row(obj: DocumentEntry | SubmissionSet | Folder, patient: str) -> Row:
    """One more object for a uniqueId that is known: a document again, or a further version."""
    return {
        "unique_id": obj.unique_id,
        "entry_uuid": obj.entry_uuid,
        "patient": patient,
    }


def revision_row(obj: DocumentEntry | Folder, patient: str) -> Row:
    """One version among several."""
    return {
        "logical_id": obj.logical_id,
        "version": int(obj.version or "1"),
        "entry_uuid": obj.entry_uuid,
        "patient": patient,
    }


def document_row(document: DocumentEntry, patient: str) -> Row:
    """A row of ``document_entry``."""
    return {
        "patient": patient,
        "entry_uuid": document.entry_uuid,
        "status": STATUSES[document.availability_status or APPROVED],
        "object_type": OBJECT_TYPES[document.object_type or STABLE],
        "class_code": _code(document.class_code),
        "type_code": _code(document.type_code),
        "format_code": _code(document.format_code),
        "healthcare_facility_type_code": _code(document.healthcare_facility_type_code),
        "practice_setting_code": _code(document.practice_setting_code),
        "creation_time": _time(document.creation_time),
        "service_start_time": _time(document.service_start_time),
        "service_stop_time": _time(document.service_stop_time),
        "level": schema.HIDDEN if document.document_availability == OFFLINE else schema.SHOWN,
        "ebrim": ebrim.write_object(document),
    }


def submission_set_row(submission_set: SubmissionSet, patient: str) -> Row:
    """A row of ``submission_set``."""
    return {
        "patient": patient,
        "entry_uuid": submission_set.entry_uuid,
        "status": STATUSES[submission_set.availability_status or APPROVED],
        "source_id": submission_set.source_id,
        "content_type_code": _code(submission_set.content_type_code),
        "submission_time": _time(submission_set.submission_time),
        "ebrim": ebrim.write_object(submission_set),
    }


def folder_row(folder: Folder, patient: str) -> Row:
    """A row of ``folder``."""
    return {
        "patient": patient,
        "entry_uuid": folder.entry_uuid,
        "status": STATUSES[folder.availability_status or APPROVED],
        "last_update_time": _time(folder.last_update_time),
        "level": schema.SHOWN,
        "ebrim": ebrim.write_object(folder),
    }


def association_row(association: Association, patient: str) -> Row:
    """A row of ``association``; ``patient`` is the one of its submission."""
    return {
        "patient": patient,
        "entry_uuid": association.entry_uuid,
        "type": association.association_type,
        "source": association.source,
        "target": association.target,
        "status": STATUSES[association.availability_status or APPROVED],
        "ebrim": ebrim.write_object(association),
    }


def value_rows(obj: DocumentEntry | SubmissionSet | Folder, patient: str) -> Iterator[Row]:
    """The rows of ``attribute_value`` for ``obj``: a value sent twice counts once."""
    for attribute, values in _values(obj):
        for value in dict.fromkeys(values):
            yield {
                "patient": patient,
                "entry_uuid": obj.entry_uuid,
                "attribute": attribute,
                "value": value,
            }


def _values(
    obj: DocumentEntry | SubmissionSet | Folder,
) -> Iterator[tuple[str, Iterable[str]]]:
    if isinstance(obj, Folder):
        yield schema.CODE, map(coded, obj.code_list)
        return
    yield schema.AUTHOR, _persons(obj.author)
    if isinstance(obj, DocumentEntry):
        yield schema.CONFIDENTIALITY, map(coded, obj.confidentiality_code)
        yield schema.EVENT, map(coded, obj.event_code_list)
        yield schema.REFERENCE, obj.reference_id_list
        if obj.document_availability == OFFLINE:
            yield schema.AVAILABILITY, [OFFLINE]


def _persons(authors: Iterable[Author]) -> Iterator[str]:
    return (author.person for author in authors if author.person is not None)


def _code(code: Code | None) -> str | None:
    return None if code is None else coded(code)


def _time(time: DTM | None) -> str | None:
    return None if time is None else time.padded()
