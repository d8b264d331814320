"""The Document Registry as the wiring sees it: ITI-42 in, ITI-18 and ITI-51 out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from metadata.affinity_domain import AffinityDomain
from registry.queries import Querier
from registry.submit import Registrar
from storage.database import Database
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse


class Registry:
    """A Document Registry over one database. Safe for use by many threads.

    The database must have been brought up to date with ``registry.MIGRATIONS``. ``clock``
    gives the time of a commit, with its zone.
    """

    def __init__(
        self,
        database: Database,
        domain: AffinityDomain,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._registrar = Registrar(database, domain, clock)
        self._querier = Querier(database, domain)

    def register(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Register Document Set-b, ITI-42: see ``registry.submit``."""
        return self._registrar.register(request)

    def query(self, request: AdhocQueryRequest) -> AdhocQueryResponse:
        """Registry Stored Query, ITI-18: see ``registry.queries``."""
        return self._querier.query(request)

    def query_patients(self, request: AdhocQueryRequest) -> AdhocQueryResponse:
        """Multi-Patient Stored Query, ITI-51: see ``registry.queries``."""
        return self._querier.query_patients(request)
