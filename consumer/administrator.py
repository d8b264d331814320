"""The Document Administrator: changes and removes what a registry holds.

Covers the initiating side of Metadata Update (ITI-57), Restricted Metadata Update (ITI-92) and
Remove Metadata (ITI-62). What to change is the caller's affair: ``transactions.iti_57`` makes the
commonest requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from consumer.call import call
from consumer.errors import Refused
from metadata.catalogue import RegistryError
from metadata.identifiers import SUCCESS
from soap.client import SoapClient
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_57 import ITI_57
from transactions.iti_62 import ITI_62, RemoveObjectsRequest
from transactions.iti_92 import ITI_92
from transactions.registry_response import RegistryResponse
from transactions.transaction import Transaction

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Administrator:
    """Changes one registry.

    All methods return the warnings of the answer and raise ``ConsumerError``: ``Refused`` when
    the registry did nothing of what was asked.
    """

    registry_url: str
    client: SoapClient = field(default_factory=SoapClient)

    def update(self, request: SubmitObjectsRequest) -> tuple[RegistryError, ...]:
        """Update Document Set."""
        return self._ask(ITI_57, request)

    def restricted_update(self, request: SubmitObjectsRequest) -> tuple[RegistryError, ...]:
        """Restricted Update Document Set."""
        return self._ask(ITI_92, request)

    def remove(self, entry_uuids: Iterable[str]) -> tuple[RegistryError, ...]:
        """Remove Metadata: objects with all that refers to them, or nothing."""
        return self._ask(ITI_62, RemoveObjectsRequest(list(entry_uuids)))

    def _ask(
        self, exchange: Transaction[Request, RegistryResponse], request: Request
    ) -> tuple[RegistryError, ...]:
        response = call(self.client, self.registry_url, exchange, request)
        if response.status != SUCCESS:
            raise Refused(exchange.number, response.errors)
        return response.errors
