"""Documents removed for good, by an administrator (ITI-86).

Covers RMD 3.86.4.1.3. A removal is two steps: the row becomes a memory, from which commit on
nothing serves the document; then the bytes are deleted, unless another document has them. A
crash between the two is made good by reconciliation, which calls ``delete_bytes`` too. Whether the
registry still refers to the document is not asked: that is the administrator's part (ITI-62).

The bytes are first moved aside and the rows asked again. A submission of the same bytes claims
its row and then looks whether they are there (``Repository``): whichever comes first, no row is
promised to a registry without its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from metadata import catalogue as rules
from metadata.catalogue import Fault
from repository.documents import Documents
from repository.schema import REMOVING
from storage.contract import Blobs
from storage.errors import StorageError
from storage.faultpoints import reach
from transactions.iti_43 import DocumentRequest
from transactions.registry_response import RegistryResponse, status_of

_log = structlog.get_logger(__name__)


class Removal:
    """Removes documents of the repository ``unique_id``, if ``allowed``."""

    def __init__(self, documents: Documents, blobs: Blobs, unique_id: str, allowed: bool) -> None:
        self._documents = documents
        self._blobs = blobs
        self._unique_id = unique_id
        self._allowed = allowed

    def remove(self, requests: Iterable[DocumentRequest]) -> RegistryResponse:
        """Remove each document that can be; one error, located at it, for each other one.

        Success when all are gone, PartialSuccess when some are, Failure when none is (ITI TF-3
        4.2.4.2). A document that was removed before is unknown.
        """
        outcomes = [self._remove_one(request) for request in requests]
        errors = tuple(fault.error("ITI-86") for fault in outcomes if fault is not None)
        return RegistryResponse(status_of(errors, results=None in outcomes), errors)

    def _remove_one(self, request: DocumentRequest) -> Fault | None:
        unique_id = request.document_unique_id
        if not self._allowed:
            return Fault(rules.REMOVAL_NOT_ALLOWED, unique_id)
        if request.repository_unique_id != self._unique_id:
            return Fault(rules.UNKNOWN_REPOSITORY, unique_id, value=request.repository_unique_id)
        try:
            known = self._documents.remove(unique_id)
        except StorageError as error:
            _log.error("repository.removal_failed", error=type(error).__name__)
            return Fault(rules.REMOVAL_FAILED, unique_id)
        if not known:
            return Fault(rules.UNKNOWN_DOCUMENT, unique_id)
        reach("repository.removed")
        self._delete_bytes(unique_id)
        return None

    def _delete_bytes(self, unique_id: str) -> None:
        """Nobody is served the document any more: what fails here, reconciliation repeats."""
        try:
            delete_bytes(self._documents, self._blobs, unique_id)
        except StorageError as error:
            _log.warning("repository.bytes_not_deleted", error=type(error).__name__)


def delete_bytes(documents: Documents, blobs: Blobs, unique_id: str) -> None:
    """Delete the bytes of a removed document, unless another document has them."""
    document = documents.find([unique_id]).get(unique_id)
    if document is None or document.state != REMOVING:
        return  # done, or provided again meanwhile

    def needed() -> bool:
        return bool(documents.addresses_in_use([document.sha256]))

    if not needed():
        blobs.delete_unless(document.sha256, needed)
    if needed() or not blobs.holds(document.sha256):
        documents.forget_bytes(unique_id)
