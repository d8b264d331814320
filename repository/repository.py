"""The Document Repository's services: ITI-41 and ITI-43, and for administrators ITI-86.

ITI-41 happens in the order of ITI TF-2 3.41.4.1.3.2: prove and complete the metadata, make
the bytes durable and retrievable, register, answer. The registry therefore never knows a
document whose bytes could be lost; bytes that it never came to know are found and settled
by ``repository.reconciliation``. Nothing here opens a connection: ``register`` is a
function given by the wiring, be the registry in this process or far away.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Unpack

import structlog

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.identifiers import SUCCESS
from repository import deposit as deposits_of
from repository.deposit import Deposit
from repository.documents import Document, Documents, OtherBytes
from repository.on_demand import Assembled, OnDemand, Source
from repository.reconciliation import (
    Inventory,
    Knows,
    Options,
    Reconciliation,
    Step,
    inspect,
    reconcile,
)
from repository.removal import Removal
from repository.schema import DELAYED
from soap.message import Content
from storage.contract import Blobs, QuickProof
from storage.database import Database
from storage.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobStoreBusy,
    DatabaseBusy,
    OutOfSpace,
    StorageError,
)
from storage.faultpoints import reach
from storage.spool import SpooledFile
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import (
    DocumentRequest,
    RetrievedDocument,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.iti_86 import RemoveDocumentsRequest
from transactions.registry_response import RegistryResponse, RegistryUnavailable

# Documents up to this size are hashed before their first byte leaves, so that a damaged
# one becomes an error of its own; a larger one is hashed on its way, and damage breaks the
# answer off. 8 MiB take 5 ms to hash, which nobody notices.
VERIFIED_FIRST_BYTES = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)

Register = Callable[[SubmitObjectsRequest], RegistryResponse]


# Gives those of some uniqueIds that whoever asks may not see.
Unseen = Callable[[Collection[str]], Collection[str]]


def _all_is_seen(_names: Collection[str]) -> Collection[str]:
    return ()


class Repository:
    """One Document Repository, known as ``unique_id`` (an OID).

    ``register`` sends ITI-42 and raises RegistryUnavailable when the registry cannot be
    reached or what it did is not known. ``administration`` says whether documents may be
    removed (ITI-86), ``on_demand`` how documents are assembled when they are asked for, if any
    are. Any number of repositories, in any number of
    processes, may stand on the same database and blob store.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        unique_id: str,
        register: Register,
        *,
        administration: bool = False,
        on_demand: Source | None = None,
    ) -> None:
        self._documents = Documents(database)
        self._blobs = blobs
        self._unique_id = unique_id
        self._register = register
        self._on_demand = (
            OnDemand(self._documents, blobs, unique_id, on_demand) if on_demand else None
        )
        self._removal = Removal(self._documents, blobs, unique_id, administration)

    def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        """Keep the documents of a submission and register them (ITI TF-2 3.41.4.1.3.2).

        All faults that a repository may find are reported at once, and then nothing is
        kept. Otherwise the answer is the registry's, every error and warning of it; or
        XDSRegistryNotAvailable, with the documents kept for the sender's next try.
        Raises nothing that a sender could cause.
        """
        received: dict[str, SpooledFile] = {}
        try:
            for document_id, content in request.documents.items():
                received[document_id] = self._blobs.receive(content)
            deposits, faults = self._prove(request, received)
            if not faults:
                faults = self._store(deposits)
        except StorageError as error:
            faults = [_own_fault(error, "the submission")]
        finally:
            for file in received.values():
                file.discard()  # unless it was kept
        if faults:
            return RegistryResponse.of(fault.error("ITI-41") for fault in faults)
        reach("repository.stored")
        # Whoever read the sender's message before now read it without what was completed.
        completed = SubmitObjectsRequest(request.submit.element)
        return self._register_and_settle(completed, deposits)

    def retrieve(
        self, request: RetrieveDocumentSetRequest, unseen: Unseen = _all_is_seen
    ) -> RetrieveDocumentSetResponse:
        """The documents asked for, in order (ITI TF-2 3.43.4.1.3).

        Those that are ``unseen`` by whoever asks are not there for him. Each one that cannot be had
        gets an error of its own, located at its uniqueId. The bytes of a document are proved
        against their hash: see ``VERIFIED_FIRST_BYTES``.
        """
        try:
            names = [item.document_unique_id for item in request.documents]
            hidden = unseen(names)
            # Also of what is hidden, so that it takes as long as what is not here.
            found = self._documents.find(names)
            known = {name: one for name, one in found.items() if name not in hidden}
        except StorageError as error:
            outcomes: list[RetrievedDocument | Fault] = [
                _own_fault(error, item.document_unique_id) for item in request.documents
            ]
        else:
            outcomes = [self._retrieve_one(item, known, hidden) for item in request.documents]
        reach("repository.retrieved")
        return RetrieveDocumentSetResponse.of(
            (item.error("ITI-43") for item in outcomes if isinstance(item, Fault)),
            (item for item in outcomes if isinstance(item, RetrievedDocument)),
        )

    def remove(self, request: RemoveDocumentsRequest) -> RegistryResponse:
        """Remove documents for good, ITI-86: see ``repository.removal``."""
        return self._removal.remove(request.documents)

    def reconcile(self, knows: Knows, **options: Unpack[Options]) -> Reconciliation:
        """Settle what crashes and lost answers left open: see ``reconciliation.reconcile``."""
        return reconcile(self._documents, self._blobs, knows, **options)

    def inspect(self, inventory: Inventory | None, step: Step) -> Reconciliation:
        """Only look what cannot be served: see ``reconciliation.inspect``."""
        report = Reconciliation()
        inspect(self._documents, self._blobs, report, inventory=inventory, step=step)
        return report

    def count(self) -> int:
        """How many documents it holds, registered or not."""
        return self._documents.count()

    def _prove(
        self, request: ProvideAndRegisterRequest, received: Mapping[str, SpooledFile]
    ) -> tuple[list[Deposit], list[Fault]]:
        deposits, faults = deposits_of.pair(
            request.submit.registry_objects, received, request.unreferenced_parts
        )
        faults += deposits_of.check(deposits)
        faults += self._conflicts(deposits)
        return deposits, faults

    def _conflicts(self, deposits: Sequence[Deposit]) -> Iterator[Fault]:
        known = self._documents.find(deposit.unique_id for deposit in deposits)
        return deposits_of.check_against(deposits, known)

    def _store(self, deposits: Sequence[Deposit]) -> list[Fault]:
        """Make bytes and rows durable: from here on ITI-43 finds the documents."""
        for deposit in deposits:
            deposit.complete(self._unique_id)
            self._blobs.keep(deposit.content)
        reach("repository.kept")
        while deposits:
            try:
                self._documents.claim(deposit.document() for deposit in deposits)
                return self._taken_away(deposits)
            except OtherBytes:  # another submission was faster since we looked,
                if faults := list(self._conflicts(deposits)):  # unless it was refused meanwhile
                    return faults
        return []

    def _taken_away(self, deposits: Sequence[Deposit]) -> list[Fault]:
        """A fault if a removal of the same bytes came between keeping and claiming them."""
        if all(self._blobs.holds(deposit.content.sha256) for deposit in deposits):
            return []
        self._documents.release([deposit.unique_id for deposit in deposits])
        return [Fault(rules.BUSY, "the submission")]

    def _register_and_settle(
        self, submit: SubmitObjectsRequest, deposits: Iterable[Deposit]
    ) -> RegistryResponse:
        try:
            response = self._register(submit)
        except (RegistryUnavailable, StorageError) as error:
            # The registry may have the documents: rows and bytes stay for the next try.
            _log.warning("repository.registry_unavailable", error=type(error).__name__)
            fault = Fault(rules.REGISTRY_NOT_AVAILABLE, "the submission")
            return RegistryResponse.of([fault.error("ITI-41")])
        reach("repository.registered")
        self._settle([deposit.unique_id for deposit in deposits], response.status == SUCCESS)
        return response

    def _settle(self, unique_ids: Sequence[str], registered: bool) -> None:
        """Note the outcome; if that fails the answer stands, and reconciliation catches up."""
        if not unique_ids:
            return
        try:
            if registered:
                self._documents.confirm(unique_ids)
            else:
                self._documents.release(unique_ids)
        except StorageError as error:
            _log.warning("repository.outcome_not_noted", error=type(error).__name__)

    def _retrieve_one(
        self, request: DocumentRequest, known: Mapping[str, Document], hidden: Collection[str]
    ) -> RetrievedDocument | Fault:
        unique_id = request.document_unique_id
        if request.repository_unique_id != self._unique_id:
            return Fault(rules.UNKNOWN_REPOSITORY, unique_id, value=request.repository_unique_id)
        document = known.get(unique_id)
        try:
            if document is None and self._on_demand is not None:
                assembled = self._on_demand.assemble(unique_id, hidden=unique_id in hidden)
                return self._assembled(request, assembled)
            if document is None or document.removed:
                return Fault(rules.UNKNOWN_DOCUMENT, unique_id)
            if document.state == DELAYED and self._on_demand is not None:
                self._on_demand.tell(document)
            content = self._proved(document)
        except StorageError as error:
            if isinstance(error, BlobMissing) and self._documents.here(unique_id) is None:
                return Fault(rules.UNKNOWN_DOCUMENT, unique_id)  # removed since we looked
            return _own_fault(error, unique_id)
        return RetrievedDocument(request, document.mime_type, content)

    def _assembled(
        self, request: DocumentRequest, outcome: Assembled | Fault
    ) -> RetrievedDocument | Fault:
        if isinstance(outcome, Fault):
            return outcome
        document = outcome.document
        return RetrievedDocument(
            request,
            document.mime_type,
            self._proved(document),
            new_repository_unique_id=self._unique_id if outcome.registered else None,
            new_document_unique_id=document.unique_id if outcome.snapshot else None,
        )

    def _proved(self, document: Document) -> Content:
        blob = self._blobs.open(document.sha256)
        if blob.size != document.size:
            raise BlobCorrupt(document.sha256)
        if blob.size <= VERIFIED_FIRST_BYTES:
            return blob.verified()
        return QuickProof(blob, document.blake3) if document.blake3 else blob


def _own_fault(error: StorageError, subject: str) -> Fault:
    """What to tell a sender of our own trouble: no path, no detail, a reference for the log."""
    if isinstance(error, OutOfSpace):
        _log.error("repository.out_of_space", error=str(error))
        return Fault(rules.OUT_OF_RESOURCES, subject, problem="storage space")
    if isinstance(error, DatabaseBusy | BlobStoreBusy):
        _log.warning("repository.busy", error=str(error))
        return Fault(rules.BUSY, subject)
    reference = uuid.uuid4().hex
    _log.error(
        "repository.storage_failed",
        error=type(error).__name__,
        detail=str(error),
        reference=reference,
    )
    return Fault(rules.INTERNAL, subject, reference=reference)
