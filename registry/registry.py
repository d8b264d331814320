"""The Document Registry as the wiring sees it: ITI-42 and ITI-61 in, ITI-18 out."""

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

    def register_on_demand(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Register On-Demand Document Entry, ITI-61: see ``registry.submit``."""
        return self._registrar.register(request, "ITI-61")

    def query(self, request: AdhocQueryRequest) -> AdhocQueryResponse:
        """Registry Stored Query, ITI-18: see ``registry.queries``."""
        return self._querier.query(request)
