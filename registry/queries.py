"""ITI-18 and ITI-51: stored queries, each answered from one snapshot of the registry.

Covers the sixteen queries of ITI TF-2 3.18.4.1.2.3.7 and 3.51.4.1.2.3 with what Metadata Update
adds to them: which there are, what is refused before they run (unknown patients) and after
(too many results, or several patients' where one is allowed). Running them is the work of
``registry.finding`` and ``registry.getting``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sqlalchemy import select

from metadata import catalogue as rules
from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import Fault
from metadata.datatypes import new_uuid_urn
from registry import finding, getting
from registry.asked import Asked, TooManyResults
from registry.hits import SURVIVOR, Hit, fragments
from registry.schema import patient
from registry.search import TooManyCriteria, normalised
from registry.veil import Veil
from security.access.sight import Sight
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.operators import among
from storage.statement import Statement
from transactions import query_catalogue as queries
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse
from transactions.query_decoding import DecodedQuery, decode

logger = logging.getLogger(__name__)

_ANSWERS: Mapping[str, Callable[[Asked], Sequence[Hit]]] = {
    queries.FIND_DOCUMENTS.id: finding.find_documents,
    queries.FIND_DOCUMENTS_BY_REFERENCE_ID.id: finding.find_documents,
    queries.FIND_SUBMISSION_SETS.id: finding.find_submission_sets,
    queries.FIND_FOLDERS.id: finding.find_folders,
    queries.GET_ALL.id: finding.get_all,
    queries.GET_DOCUMENTS.id: getting.get_documents,
    queries.GET_FOLDERS.id: getting.get_folders,
    queries.GET_ASSOCIATIONS.id: getting.get_associations,
    queries.GET_DOCUMENTS_AND_ASSOCIATIONS.id: getting.get_documents_and_associations,
    queries.GET_SUBMISSION_SETS.id: getting.get_submission_sets,
    queries.GET_SUBMISSION_SET_AND_CONTENTS.id: getting.get_submission_set_and_contents,
    queries.GET_FOLDER_AND_CONTENTS.id: getting.get_folder_and_contents,
    queries.GET_FOLDERS_FOR_DOCUMENT.id: getting.get_folders_for_document,
    queries.GET_RELATED_DOCUMENTS.id: getting.get_related_documents,
    queries.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS.id: finding.find_documents_across,
    queries.FIND_FOLDERS_FOR_MULTIPLE_PATIENTS.id: finding.find_folders_across,
}

# Answered by one statement, a snapshot by itself, unless a veil has to look at more. Whether a
# patient is known is asked afterwards, of one who has nothing: a later snapshot is as true then.
_BY_ONE_STATEMENT = frozenset(
    query.id
    for query in (
        queries.FIND_DOCUMENTS,
        queries.FIND_DOCUMENTS_BY_REFERENCE_ID,
        queries.FIND_SUBMISSION_SETS,
        queries.FIND_FOLDERS,
    )
)

_SURVIVORS = Statement(select(patient.c.id, patient.c.survivor).where(among(patient.c.id, "ids")))


class Querier:
    """Answers stored queries. Safe for use by many threads.

    Everything that goes wrong is told in the answer, a Failure without results (ITI TF-3
    4.2.4.2): XDSUnknownStoredQuery, XDSStoredQueryMissingParam, XDSStoredQueryParamNumber,
    XDSUnknownPatientId, XDSResultNotSinglePatient, XDSTooManyResults, XDSRegistryBusy,
    XDSRegistryError.
    """

    def __init__(self, database: Database, domain: AffinityDomain) -> None:
        self._database = database
        self._limit = domain.max_results
        policies = {
            rules.UNKNOWN_PATIENT: domain.unknown_patient,
            rules.MERGED_PATIENT: domain.merged_patient,
        }
        self._refused = [rule for rule, policy in policies.items() if policy == "error"]

    def query(self, request: AdhocQueryRequest, sight: Sight | None = None) -> AdhocQueryResponse:
        """Answer a query of ITI-18, with what ``sight`` may see; without one, everything."""
        return self._respond("ITI-18", decode(request, queries.STORED_QUERIES), sight)

    def query_patients(
        self, request: AdhocQueryRequest, sight: Sight | None = None
    ) -> AdhocQueryResponse:
        """Answer a query of ITI-51, likewise."""
        return self._respond("ITI-51", decode(request, queries.MULTI_PATIENT_QUERIES), sight)

    def unseen(
        self, sight: Sight, entry_uuids: Collection[str] = (), unique_ids: Collection[str] = ()
    ) -> set[str]:
        """Those of some documents that ``sight`` may not see: see ``Veil``. Raises StorageError."""
        with self._database.read() as connection:
            return Veil(connection, sight).unseen(entry_uuids, unique_ids)

    def hidden(self, sight: Sight, entry_uuids: Collection[str]) -> set[str]:
        """Those of some objects of any kind that are registered and that ``sight`` may not see."""
        with self._database.read() as connection:
            return Veil(connection, sight).hidden(entry_uuids)

    def _respond(
        self, transaction: str, decoded: DecodedQuery | list[Fault], sight: Sight | None
    ) -> AdhocQueryResponse:
        answer = decoded if isinstance(decoded, list) else self._answer(decoded, sight)
        if isinstance(answer, AdhocQueryResponse):
            return answer
        return AdhocQueryResponse.of(errors=[fault.error(transaction) for fault in answer])

    def _answer(
        self, decoded: DecodedQuery, sight: Sight | None
    ) -> AdhocQueryResponse | list[Fault]:
        """The answer, or what is at fault with the query or with the registry."""
        name = decoded.query.name
        one = sight is None and decoded.query.id in _BY_ONE_STATEMENT
        try:
            with self._database.read(snapshot=not one) as connection:
                veil = Veil(connection, sight) if sight else None
                asked = Asked(connection, decoded, self._limit, veil)
                hits = asked.bounded(_ANSWERS[decoded.query.id](asked))
                faults = self._unknown_patients(asked, hits) or _several_patients(decoded, hits)
        except TooManyResults:
            return [Fault(rules.TOO_MANY_RESULTS, name, limit=self._limit)]
        except TooManyCriteria as error:
            return [_too_many_criteria(decoded, error)]
        except DatabaseBusy:
            return [Fault(rules.BUSY, name)]
        except DatabaseUnavailable as error:
            reference = new_uuid_urn()
            logger.error("stored query failed: %s, reference %s", type(error).__name__, reference)
            return [Fault(rules.INTERNAL, name, reference=reference)]
        return faults or AdhocQueryResponse.of(fragments(hits, decoded.leaf_class))

    def _unknown_patients(self, asked: Asked, hits: Sequence[Hit]) -> list[Fault]:
        """The patients asked for that are not known here, where the domain wants to hear of them.

        One that has something is known; only of several each must be looked up.
        """
        given = asked.decoded.texts("patient_id")
        if not self._refused or not given or (len(given) == 1 and hits):
            return []
        patient_ids = list(dict.fromkeys(normalised(given)))
        survivors = dict(_SURVIVORS.rows(asked.connection, {"ids": patient_ids}))
        unfit = {
            patient_id: rules.MERGED_PATIENT if patient_id in survivors else rules.UNKNOWN_PATIENT
            for patient_id in patient_ids
            if survivors.get(patient_id) != patient_id
        }
        return [
            Fault(rule, asked.decoded.query.name, value=patient_id)
            for patient_id, rule in unfit.items()
            if rule in self._refused
        ]


def _several_patients(decoded: DecodedQuery, hits: Iterable[Hit]) -> list[Fault]:
    """Whole objects of several patients are refused where the query is about known objects."""
    if decoded.query.single_patient and decoded.leaf_class:
        patients = {hit[SURVIVOR] for hit in hits} - {None}
        if len(patients) > 1:
            return [Fault(rules.NOT_SINGLE_PATIENT, decoded.query.name)]
    return []


def _too_many_criteria(decoded: DecodedQuery, error: TooManyCriteria) -> Fault:
    return Fault(
        rules.PARAMETER_CODING,
        decoded.query.name,
        parameter=error.key,
        value=error.count,
        problem=str(error),
    )
