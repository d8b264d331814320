"""One stored query while it is answered: what was asked, and the snapshot that answers it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from metadata.datatypes import CX
from metadata.identifiers import APPROVED, DEPRECATED
from registry.hits import ENTRY_UUID, Hit, located
from registry.links import ALL, Links
from registry.lookup import NOWHERE, Located, locate, locate_unique_ids, locate_versions
from registry.rows import STATUSES
from registry.search import Search
from registry.veil import Veil
from storage.statement import Parameters, Statement
from transactions.query_decoding import DecodedQuery

Found = TypeVar("Found", bound=Collection[Any])


class TooManyResults(Exception):
    """The answer would hold more than it may."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and its snapshot; an answer may hold ``limit`` objects, none that ``veil`` hides."""

    connection: Connection
    decoded: DecodedQuery
    limit: int
    veil: Veil | None = None

    @property
    def links(self) -> Links:
        """The associations that the query may show.

        Deprecated ones belong to level 2 (Metadata Update 3.18.4.1.2.3.5.1).
        """
        shown = (APPROVED,) if self.decoded.text("metadata_level") == "1" else tuple(STATUSES)
        wanted = self.decoded.texts("association_status") or (APPROVED, DEPRECATED)
        statuses = [STATUSES[status] for status in shown if status in wanted]
        veil = self.veil.links if self.veil else None
        return Links(self.connection, statuses, self.limit + 1, veil)

    def of_patient(self, search: Search) -> list[Hit]:
        """The patient's objects that meet the criteria: one statement."""
        patient_id = CX(self.decoded.patient_id or "").normalised()
        parameters: dict[str, Any] = {"patient": patient_id, "limit": self.limit + 1}
        return self._hits(search, search.of_patient(self.decoded, parameters), parameters)

    def across_patients(self, search: Search) -> list[Hit]:
        """The objects of several or all patients that meet the criteria: one statement."""
        parameters: dict[str, Any] = {"limit": self.limit + 1}
        return self._hits(search, search.across_patients(self.decoded, parameters), parameters)

    def at(self, search: Search, places: Collection[Located]) -> list[Hit]:
        """The objects at these places that meet the criteria: one statement."""
        if not places:
            return []
        parameters: dict[str, Any] = {
            "patients": sorted({place.patient for place in places}),
            "ids": [place.entry_uuid for place in places],
            "limit": self.limit + 1,
        }
        return self._hits(search, search.by_id(self.decoded, parameters), parameters)

    def _hits(self, search: Search, statement: Statement, parameters: Parameters) -> list[Hit]:
        fetch = statement.many if self.decoded.leaf_class else statement.rows
        found = fetch(self.connection, parameters)
        if self.veil is None:
            return found
        if len(found) > self.limit:
            found = fetch(self.connection, {**parameters, "limit": ALL})
        hidden = self.veil.hidden_at(located(found, search.kind))
        return [hit for hit in found if hit[ENTRY_UUID] not in hidden][: self.limit + 1]

    def named(self, kind: str) -> list[Located]:
        """The objects of ``kind`` that the query names by entryUUID, uniqueId or logicalID.

        Before a veil it goes on where there is none as where there is one: see ``Veil``.
        """
        found = self._named(kind)
        return found if found or self.veil is None else [NOWHERE]

    def _named(self, kind: str) -> list[Located]:
        if ids := self.decoded.texts("entry_uuid"):
            return self.located(ids, kind)
        if ids := self.decoded.texts("unique_id"):
            return locate_unique_ids(self.connection, ids, kind)
        return locate_versions(self.connection, self.decoded.texts("logical_id"), kind)

    def located(self, ids: Iterable[str], *kinds: str) -> list[Located]:
        """The objects of some kinds with these entryUUIDs."""
        return of_kind(locate(self.connection, set(ids)), *kinds)

    def bounded(self, found: Found) -> Found:
        """``found``, on which more depends; raises TooManyResults when a part of it lacks."""
        if len(found) > self.limit:
            raise TooManyResults
        return found


def of_kind(found: Mapping[str, Located], *kinds: str) -> list[Located]:
    """Those that are of one of ``kinds``."""
    return [place for place in found.values() if place.kind in kinds]
