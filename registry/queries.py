"""ITI-18: stored queries, answered by copying what was rendered when it was registered.

Covers FindDocuments, FindDocumentsByReferenceId, FindSubmissionSets, GetDocuments,
GetAssociations and GetSubmissionSetAndContents (ITI TF-2 3.18.4.1.2.3.7) without the Metadata
Update option. Patients are compared by who stands for them today: a query for the survivor
finds the whole merge chain, shown with the survivor's id; a query for a subsumed patient finds
nothing (3.18.4.1.2.3.9). A fragment is rendered anew only when it must show another patientId.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, select

from metadata import catalogue as rules
from metadata import ebrim
from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import Fault
from metadata.datatypes import CX, new_uuid_urn
from metadata.model import Association
from registry import links
from registry.links import Link
from registry.lookup import Located, locate, locate_unique_ids
from registry.schema import ASSOCIATION, DOCUMENT, FOLDER, SUBMISSION_SET, patient
from registry.search import DOCUMENTS, FOLDERS, SUBMISSION_SETS, Search, TooManyCriteria
from registry.statement import Statement
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse
from transactions.query_catalogue import (
    FIND_DOCUMENTS,
    FIND_DOCUMENTS_BY_REFERENCE_ID,
    FIND_SUBMISSION_SETS,
    GET_ASSOCIATIONS,
    GET_DOCUMENTS,
    GET_SUBMISSION_SET_AND_CONTENTS,
)
from transactions.stored_query import DecodedQuery, decode

logger = logging.getLogger(__name__)

_ITI_18 = "ITI-18"

# (entry_uuid, patient, survivor[, ebrim]): see ``registry.search``.
Hit = Sequence[Any]
_ENTRY_UUID, _PATIENT, _SURVIVOR, _EBRIM = range(4)

_SURVIVOR_OF = Statement(select(patient.c.survivor).where(patient.c.id == bindparam("id")))


class _Unanswerable(Exception):
    """The query cannot be answered: ``fault`` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.rule.id)
        self.fault = fault


class Querier:
    """Answers stored queries. Safe for use by many threads."""

    def __init__(self, database: Database, domain: AffinityDomain) -> None:
        self._database = database
        self._limit = domain.max_results
        policies = {
            rules.UNKNOWN_PATIENT: domain.unknown_patient,
            rules.MERGED_PATIENT: domain.merged_patient,
        }
        self._refused = [rule for rule, policy in policies.items() if policy == "error"]
        self._answers: Mapping[str, Callable[[Connection, DecodedQuery], Sequence[Hit]]] = {
            FIND_DOCUMENTS.id: self._find_documents,
            FIND_DOCUMENTS_BY_REFERENCE_ID.id: self._find_documents,
            FIND_SUBMISSION_SETS.id: self._find_submission_sets,
            GET_DOCUMENTS.id: self._get_documents,
            GET_ASSOCIATIONS.id: self._get_associations,
            GET_SUBMISSION_SET_AND_CONTENTS.id: self._get_submission_set_and_contents,
        }

    def query(self, request: AdhocQueryRequest) -> AdhocQueryResponse:
        """Answer one stored query from one snapshot of the registry.

        Everything that goes wrong is told in the answer, a Failure without results (ITI TF-3
        4.2.4.2): XDSUnknownStoredQuery, XDSStoredQueryMissingParam, XDSStoredQueryParamNumber,
        XDSUnknownPatientId, XDSResultNotSinglePatient, XDSTooManyResults, XDSRegistryBusy,
        XDSRegistryError.
        """
        decoded = decode(request)
        if isinstance(decoded, list):
            return _failure(decoded)
        try:
            with self._database.read() as connection:
                hits = self._answers[decoded.query.id](connection, decoded)
            self._check(decoded, hits)
        except _Unanswerable as unanswerable:
            return _failure([unanswerable.fault])
        except TooManyCriteria as error:
            return _failure([_too_many_criteria(decoded, error)])
        except DatabaseBusy:
            return _failure([Fault(rules.BUSY, decoded.query.name)])
        except DatabaseUnavailable as error:
            reference = new_uuid_urn()
            logger.error("stored query failed: %s, reference %s", type(error).__name__, reference)
            return _failure([Fault(rules.INTERNAL, decoded.query.name, reference=reference)])
        return AdhocQueryResponse.of(_leaf_class(hits) if decoded.leaf_class else _refs(hits))

    def _check(self, decoded: DecodedQuery, hits: Sequence[Hit]) -> None:
        """Neither too many results, nor of several patients where that is not allowed."""
        if len(hits) > self._limit:
            raise self._too_many(decoded)
        if decoded.query.single_patient and decoded.leaf_class:
            patients = {hit[_SURVIVOR] for hit in hits} - {None}
            if len(patients) > 1:
                raise _Unanswerable(Fault(rules.NOT_SINGLE_PATIENT, decoded.query.name))

    def _too_many(self, decoded: DecodedQuery) -> _Unanswerable:
        return _Unanswerable(Fault(rules.TOO_MANY_RESULTS, decoded.query.name, limit=self._limit))

    def _find_documents(self, connection: Connection, decoded: DecodedQuery) -> Sequence[Hit]:
        return self._find(connection, decoded, DOCUMENTS)

    def _find_submission_sets(self, connection: Connection, decoded: DecodedQuery) -> Sequence[Hit]:
        return self._find(connection, decoded, SUBMISSION_SETS)

    def _find(self, connection: Connection, decoded: DecodedQuery, search: Search) -> Sequence[Hit]:
        """One statement by patient; a second one only to tell "none" from "not known"."""
        patient_id = CX(decoded.patient_id or "").normalised()
        parameters: dict[str, Any] = {"patient": patient_id, "limit": self._limit + 1}
        hits = search.of_patient(decoded, parameters).rows(connection, parameters)
        if not hits and self._refused:
            survivors = _SURVIVOR_OF.rows(connection, {"id": patient_id})
            rule = rules.MERGED_PATIENT if survivors else rules.UNKNOWN_PATIENT
            if survivors != [(patient_id,)] and rule in self._refused:
                raise _Unanswerable(Fault(rule, decoded.query.name, value=patient_id))
        return hits

    def _get_documents(self, connection: Connection, decoded: DecodedQuery) -> Sequence[Hit]:
        located = _asked_for(connection, decoded, DOCUMENT)
        return self._fetch(connection, decoded, DOCUMENTS, located)

    def _get_associations(self, connection: Connection, decoded: DecodedQuery) -> Sequence[Hit]:
        located = locate(connection, decoded.texts("uuid"))
        found = links.touching(connection, located.values(), self._limit + 1)
        return [_association_hit(link) for link in found]

    def _get_submission_set_and_contents(
        self, connection: Connection, decoded: DecodedQuery
    ) -> Sequence[Hit]:
        """The set, its members that pass the filters, and what links them to each other."""
        located = _asked_for(connection, decoded, SUBMISSION_SET)
        sets = self._fetch(connection, decoded, SUBMISSION_SETS, located)
        memberships = links.members_of(connection, located, self._limit + 1)
        if len(memberships) > self._limit:  # the filters would see only some of the members
            raise self._too_many(decoded)
        members = locate(connection, [link.target for link in memberships])
        documents = self._fetch(connection, decoded, DOCUMENTS, _of_kind(members, DOCUMENT))
        folders = self._fetch(connection, decoded, FOLDERS, _of_kind(members, FOLDER))
        shown = {hit[_ENTRY_UUID] for hit in (*sets, *documents, *folders)}
        between = [
            link
            for link in links.by_id(connection, _of_kind(members, ASSOCIATION), self._limit + 1)
            if link.source in shown and link.target in shown
        ]
        shown |= {link.entry_uuid for link in between}
        listed = [link for link in memberships if link.target in shown]
        return [*sets, *documents, *folders, *map(_association_hit, (*listed, *between))]

    def _fetch(
        self,
        connection: Connection,
        decoded: DecodedQuery,
        search: Search,
        located: Iterable[Located],
    ) -> Sequence[Hit]:
        """The objects at these places that meet the query's criteria."""
        places = list(located)
        if not places:
            return []
        parameters: dict[str, Any] = {
            "patients": sorted({place.patient for place in places}),
            "ids": [place.entry_uuid for place in places],
            "limit": self._limit + 1,
        }
        return search.by_id(decoded, parameters).rows(connection, parameters)


def _asked_for(connection: Connection, decoded: DecodedQuery, kind: str) -> list[Located]:
    """The objects of ``kind`` that a query names by entryUUID or by uniqueId."""
    if entry_uuids := decoded.texts("entry_uuid"):
        return _of_kind(locate(connection, entry_uuids), kind)
    unique_ids = decoded.texts("unique_id")
    return locate_unique_ids(connection, unique_ids, kind)


def _of_kind(located: Mapping[str, Located], kind: str) -> list[Located]:
    return [found for found in located.values() if found.kind == kind]


def _association_hit(link: Link) -> Hit:
    """An association as a hit: it has no patientId of its own."""
    return (link.entry_uuid, None, None, link.ebrim)


def _leaf_class(hits: Iterable[Hit]) -> list[bytes]:
    return [
        hit[_EBRIM] if hit[_PATIENT] == hit[_SURVIVOR] else _shown_as(hit[_EBRIM], hit[_SURVIVOR])
        for hit in hits
    ]


def _shown_as(fragment: bytes, survivor: str) -> bytes:
    """A stored object with the patientId of the survivor of a merge (3.18.4.1.2.3.9)."""
    obj = ebrim.read_fragment(fragment)
    if not isinstance(obj, Association):
        obj = replace(obj, patient_id=CX(survivor))
    return ebrim.write_object(obj)


def _refs(hits: Iterable[Hit]) -> list[bytes]:
    return [ebrim.object_ref(hit[_ENTRY_UUID]) for hit in hits]


def _too_many_criteria(decoded: DecodedQuery, error: TooManyCriteria) -> Fault:
    return Fault(
        rules.PARAMETER_CODING,
        decoded.query.name,
        parameter=error.key,
        value=error.count,
        problem=str(error),
    )


def _failure(faults: Iterable[Fault]) -> AdhocQueryResponse:
    return AdhocQueryResponse.of(errors=[fault.error(_ITI_18) for fault in faults])
