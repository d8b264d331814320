"""The Document Registry as the wiring sees it.

ITI-42 and ITI-61 in, ITI-18 and ITI-51 out; ITI-57, ITI-62 and ITI-92 for administrators.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from metadata.affinity_domain import AffinityDomain, DomainInForce
from registry.inventory import Inventory
from registry.queries import Querier
from registry.remove import Remover
from registry.submit import Registrar
from registry.update import Updater
from security.access.sight import Sight
from storage.database import Database
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_62 import RemoveObjectsRequest
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
        self._updater = Updater(database, in_force, clock)
        self._remover = Remover(database)

    def register(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Register Document Set-b, ITI-42: see ``registry.submit``."""
        return self._registrar.register(request)

    def register_on_demand(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Register On-Demand Document Entry, ITI-61: see ``registry.submit``."""
        return self._registrar.register(request, "ITI-61")

    def update(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Update Document Set, ITI-57: see ``registry.update``."""
        return self._updater.update(request)

    def restricted_update(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Restricted Update Document Set, ITI-92: see ``registry.update``."""
        return self._updater.restricted_update(request)

    def remove(self, request: RemoveObjectsRequest) -> RegistryResponse:
        """Remove Metadata, ITI-62: see ``registry.remove``."""
        return self._remover.remove(request)

    def inventory(self, repository_unique_id: str) -> Inventory:
        """Its documents, for a comparison with that repository: see ``registry.inventory``."""
        return Inventory(self._database, repository_unique_id)

    def query(self, request: AdhocQueryRequest, sight: Sight | None = None) -> AdhocQueryResponse:
        """Registry Stored Query, ITI-18: see ``registry.queries``."""
        return self._querier.query(request, sight)

    def unseen(
        self, sight: Sight, entry_uuids: Collection[str] = (), unique_ids: Collection[str] = ()
    ) -> set[str]:
        """Those of some documents that ``sight`` may not see, or that are not registered.

        For those who show documents without an answer of this registry. Raises StorageError.
        """
        return self._querier.unseen(sight, entry_uuids, unique_ids)

    def hidden(self, sight: Sight, entry_uuids: Collection[str]) -> set[str]:
        """Those of some objects of any kind that ``sight`` may not see. Raises StorageError."""
        return self._querier.hidden(sight, entry_uuids)

    def query_patients(
        self, request: AdhocQueryRequest, sight: Sight | None = None
    ) -> AdhocQueryResponse:
        """Multi-Patient Stored Query, ITI-51: see ``registry.queries``."""
        return self._querier.query_patients(request, sight)
