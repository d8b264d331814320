"""The Document Registry as the wiring sees it: ITI-42 in, ITI-18 out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from metadata.affinity_domain import AffinityDomain, DomainInForce
from registry.inventory import Inventory
from registry.queries import Querier
from registry.submit import Registrar
from storage.database import Database
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse


class Registry:
    """A Document Registry over one database. Safe for use by many threads.

    The database must have been brought up to date with ``registry.MIGRATIONS``. ``clock``
    gives the time of a commit, with its zone. A domain in force may be replaced while the
    registry serves: its code sets and permitted sources hold from the next submission on, its
    policies on queries from the next registry on.
    """

    def __init__(
        self,
        database: Database,
        domain: AffinityDomain | DomainInForce,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        in_force = DomainInForce.of(domain)
        self._database = database
        self._registrar = Registrar(database, in_force, clock)
        self._querier = Querier(database, in_force.current)

    def register(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Register Document Set-b, ITI-42: see ``registry.submit``."""
        return self._registrar.register(request)

    def inventory(self, repository_unique_id: str) -> Inventory:
        """Its documents, for a comparison with that repository: see ``registry.inventory``."""
        return Inventory(self._database, repository_unique_id)

    def query(self, request: AdhocQueryRequest) -> AdhocQueryResponse:
        """Registry Stored Query, ITI-18: see ``registry.queries``."""
        return self._querier.query(request)
