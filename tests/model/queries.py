"""A query of a history as a request to the registry, and as a question to the model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from metadata.datatypes import new_uuid_urn
from metadata.model import (
    AnyObject,
    Association,
    DocumentEntry,
    Folder,
    SubmissionSet,
)
from tests.model.asking import Eye
from tests.model.messages import REFERENCES
from tests.model.play import Play
from tests.model.steps import DOCUMENT_TYPES, LINK_TYPES, STATUSES, Query
from transactions import stored_query as ask
from transactions.iti_18 import LEAF_CLASS, OBJECT_REF, AdhocQueryRequest

# Queries that name their objects, whether one or several, and of which kind.
_ONE: dict[str, type] = {
    "get_submission_set_and_contents": SubmissionSet,
    "get_folder_and_contents": Folder,
    "get_folders_for_document": DocumentEntry,
    "get_related_documents": DocumentEntry,
}
_SEVERAL: dict[str, type] = {
    "get_documents": DocumentEntry,
    "get_folders": Folder,
    "get_documents_and_associations": DocumentEntry,
}
_BY_UUID = ("get_associations", "get_submission_sets")
_WITH_TYPE = (
    "find_documents",
    "find_documents_by_reference_id",
    "get_all",
    "get_submission_set_and_contents",
    "get_folder_and_contents",
    "get_related_documents",
)


def request(query: Query, play: Play) -> AdhocQueryRequest:
    """The query as it is sent."""
    make: Callable[..., AdhocQueryRequest] = getattr(ask, query.name)
    given: dict[str, Any] = {
        "return_type": OBJECT_REF if query.object_ref else LEAF_CLASS,
        "metadata_level": query.level,
    }
    if query.types is not None and query.name in _WITH_TYPE:
        given["type"] = [DOCUMENT_TYPES[one] for one in query.types]
    if query.name in _BY_UUID:
        return make(_ids(query, play), **given)
    if query.name.startswith("find") or query.name == "get_all":
        return make(play.patients[query.patient], *_references(query), **_statuses(query), **given)
    if query.name == "get_related_documents":
        given["association_types"] = [LINK_TYPES[one] for one in query.relations]
    return make(**_named(query, play), **given)


def _statuses(query: Query) -> dict[str, Any]:
    statuses = [STATUSES[one] for one in query.statuses]
    if query.name != "get_all":
        return {"status": statuses}
    return dict.fromkeys(("document_status", "submission_set_status", "folder_status"), statuses)


def _references(query: Query) -> list[list[str]]:
    if query.name != "find_documents_by_reference_id":
        return []
    return [[REFERENCES[one] for one in query.references]]


def _ids(query: Query, play: Play) -> list[str]:
    return [play.ids.get(label) or new_uuid_urn() for label in query.named]


def _named(query: Query, play: Play) -> dict[str, Any]:
    """By entryUUID or uniqueId, one or several."""
    values = _ids(query, play)
    if query.by_unique_id:
        values = [_unique_id(play.world.objects.get(label)) for label in query.named]
    value: Any = values if query.name in _SEVERAL else values[0]
    return {"unique_id" if query.by_unique_id else "entry_uuid": value}


def _unique_id(obj: AnyObject | None) -> str:
    described = isinstance(obj, DocumentEntry | Folder | SubmissionSet)
    return obj.unique_id or "" if described else "1.2.3"  # type: ignore[union-attr]


def expected(query: Query, play: Play) -> set[str]:
    """The labels that the query must find; raises ``asking.Wrong``."""
    types = [DOCUMENT_TYPES[one] for one in query.types or ("Stable",)]
    eye = Eye(play.world, query.level, types)
    statuses = [STATUSES[one] for one in query.statuses]
    patient = play.patients[query.patient]
    match query.name:
        case "find_documents":
            return eye.find_documents(patient, statuses)
        case "find_documents_by_reference_id":
            return eye.find_documents(
                patient, statuses, [REFERENCES[one] for one in query.references]
            )
        case "find_submission_sets":
            return eye.find(SubmissionSet, patient, statuses)
        case "find_folders":
            return eye.find(Folder, patient, statuses)
        case "get_all":
            return eye.get_all(patient, statuses)
        case "get_associations":
            return eye.get_associations(query.named)
    found = _found(query, play, eye)
    return found if query.object_ref else eye.single_patient(found)


def _found(query: Query, play: Play, eye: Eye) -> set[str]:
    named = _labels(query, play)
    if query.name == "get_related_documents":
        return eye.get_related_documents(named, [LINK_TYPES[one] for one in query.relations])
    answer: Callable[[Collection[str]], set[str]] = getattr(eye, query.name)
    return answer(named)


def _labels(query: Query, play: Play) -> set[str]:
    """The objects that the query is about."""
    named = set(query.named if query.name not in _ONE else query.named[:1])
    if not query.by_unique_id or query.name in _BY_UUID:
        return named
    unique_ids = {_unique_id(play.world.objects.get(label)) for label in named}
    kind = {**_ONE, **_SEVERAL}[query.name]
    return {
        label
        for label, obj in play.world.objects.items()
        if isinstance(obj, kind)
        and not isinstance(obj, Association)
        and _unique_id(obj) in unique_ids
    }
