"""A registry as the outside sees it: ITI-42, ITI-61, ITI-57, ITI-62, ITI-44 and ITI-18 over SOAP.

Every answer is the set of error codes, empty for a success.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hl7.v3.acknowledgement import ACCEPT
from hl7.v3.names import II
from hl7.v3.request import IdentityRequest, PatientRole, add, merge
from metadata.datatypes import CX
from metadata.identifiers import FAILURE, SUCCESS
from metadata.model import Submission
from soap.client import SoapClient
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_44 import ITI_44
from transactions.iti_57 import ITI_57
from transactions.iti_61 import ITI_61
from transactions.iti_62 import ITI_62, RemoveObjectsRequest
from transactions.transaction import Transaction

_DEVICE = "1.2.3.44"


@dataclass(frozen=True)
class Registry:
    """A registry at a URL."""

    url: str
    client: SoapClient

    def announce(self, patient: CX) -> bool:
        """Whether a patient was taken in."""
        return self._feed(add(PatientRole([_ii(patient)]), _DEVICE, _DEVICE))

    def merge(self, surviving: CX, subsumed: CX) -> bool:
        """Whether a merge was done."""
        survivor = PatientRole([_ii(surviving)])
        return self._feed(merge(survivor, _ii(subsumed), _DEVICE, _DEVICE))

    def register(self, message: Submission) -> set[str]:
        """Register Document Set-b."""
        return self._call(ITI_42, SubmitObjectsRequest.of(message))

    def register_on_demand(self, message: Submission) -> set[str]:
        """Register On-Demand Document Entry."""
        return self._call(ITI_61, SubmitObjectsRequest.of(message))

    def update(self, message: Submission) -> set[str]:
        """Update Document Set."""
        return self._call(ITI_57, SubmitObjectsRequest.of(message))

    def remove(self, entry_uuids: list[str]) -> set[str]:
        """Remove Metadata."""
        return self._call(ITI_62, RemoveObjectsRequest(entry_uuids))

    def ask(self, request: AdhocQueryRequest) -> Submission | set[str]:
        """What a stored query finds."""
        response = self.client.call(self.url, ITI_18, request)
        if response.status == SUCCESS:
            assert not response.errors
            return response.objects()
        assert response.status == FAILURE
        assert not response.fragments
        return {error.code for error in response.errors}

    def _feed(self, request: IdentityRequest) -> bool:
        answer = self.client.call(self.url, ITI_44[request.interaction], request)
        return answer.status == ACCEPT

    def _call(self, transaction: Transaction[Any, Any], request: Any) -> set[str]:
        response = self.client.call(self.url, transaction, request)
        codes = {error.code for error in response.errors}
        assert (response.status == SUCCESS) == (not codes)
        return codes


def _ii(patient: CX) -> II:
    return II(patient.assigning_authority.universal_id, patient.id)
