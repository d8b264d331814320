"""The consumer: find a patient's documents, fetch them, open manifests, fetch the images.

Folders, everything of a patient, and what a document is related to are found as well.

Covers the Document Consumer (ITI-18, ITI-43) and the Imaging Document Consumer (RAD-69, WADO-RS,
C-GET or C-MOVE, by way of a manifest) of ITI TF-1 10.1 and RAD TF-1 18. Plain synchronous calls;
one ``Consumer`` may serve many threads, as its ``SoapClient`` does.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, Unpack, cast
from urllib.parse import urlsplit

from consumer.applications import SILENCE_SECONDS, Application, Ourselves
from consumer.call import call
from consumer.checking import Checker
from consumer.errors import (
    DocumentDiffers,
    DocumentMissing,
    NotAManifest,
    Refused,
    UnknownSource,
)
from consumer.files import Allowance, CompleteFile, PartialFile, make_durable
from consumer.images import ImageFetch
from consumer.report import FetchedInstance, FetchReport, Incomplete, Progress
from consumer.soap_way import SoapWay
from consumer.ways import USUAL_WAYS, Way, WayName
from consumer.web_way import WebWay
from manifest.kos import Manifest, ManifestError, read_manifest
from metadata.catalogue import RegistryError
from metadata.identifiers import (
    DOCUMENT_RELATIONSHIPS,
    EMPTY_SHA1,
    FAILURE,
    ON_DEMAND,
    STABLE,
)
from metadata.model import DocumentEntry, Folder, Submission
from soap.client import SoapClient
from soap.message import MemorySpool, Received, Spool
from transactions import stored_query
from transactions.iti_18 import ITI_18, AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_43 import (
    ITI_43,
    DocumentRequest,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.rad_69 import RAD_69, RetrieveImagingDocumentSetRequest
from transactions.stored_query import (
    AllFilters,
    AllOf,
    AnyOf,
    DocumentFilters,
    FolderFilters,
)
from transactions.transaction import Transaction

Request = TypeVar("Request")
Response = TypeVar("Response")

# What images are commonly kept in (PS3.6 table A-1, without JPIP, which brings no pixels):
# a consumer that stores files takes them as they are.
TRANSFER_SYNTAXES = tuple(
    f"1.2.840.10008.1.2{suffix}"
    for suffix in (
        *(".1", "", ".1.99", ".2"),  # explicit and implicit little endian, deflated, big endian
        *(".4.50", ".4.51", ".4.57", ".4.70"),  # JPEG
        *(".4.80", ".4.81"),  # JPEG-LS
        *(".4.90", ".4.91", ".4.92", ".4.93"),  # JPEG 2000
        *(".4.201", ".4.202", ".4.203"),  # high-throughput JPEG 2000
        ".5",  # RLE
        *(f".4.{number}" for number in range(100, 109)),  # MPEG2, MPEG-4, HEVC
    )
)


_RELATIONSHIPS = tuple(sorted(DOCUMENT_RELATIONSHIPS))


class Documents(list[DocumentEntry]):
    """The entries found. ``errors`` came beside them: at a gateway, communities not heard."""

    def __init__(self, entries: Sequence[DocumentEntry], errors: Sequence[RegistryError]) -> None:
        super().__init__(entries)
        self.errors = tuple(errors)


class Folders(list[Folder]):
    """The folders found; ``errors`` as for ``Documents``."""

    def __init__(self, folders: Sequence[Folder], errors: Sequence[RegistryError]) -> None:
        super().__init__(folders)
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class Everything:
    """All that was found of a patient; ``errors`` as for ``Documents``."""

    objects: Submission
    errors: tuple[RegistryError, ...] = ()


def _silent(_progress: Progress) -> None:
    """Nobody wants to know how far fetching has come."""


def _as_it_is(way: Way) -> Way:
    """Nobody watches what the ways bring."""
    return way


@dataclass(frozen=True, slots=True)
class Consumer:
    """Finds in one registry; fetches from the repositories and imaging sources it names.

    ``repositories`` and ``imaging_sources`` are addresses by repositoryUniqueId; a source's
    is the Retrieve Location UID of its manifests, by which ``dicomweb`` has its DICOMweb base and
    ``dicom`` its application entity too, which knows us as ``ourselves`` and is given up when it
    sends nothing for ``silence`` seconds. ``ways`` are tried for each instance in this order, each
    as ``watched`` makes it.
    All methods raise ``ConsumerError``.
    """

    registry_url: str
    repositories: Mapping[str, str]
    imaging_sources: Mapping[str, str] = field(default_factory=dict)
    client: SoapClient = field(default_factory=SoapClient)
    dicomweb: Mapping[str, str] = field(default_factory=dict)
    dicom: Mapping[str, Application] = field(default_factory=dict)
    ourselves: Ourselves = field(default_factory=Ourselves)
    silence: float = SILENCE_SECONDS
    ways: Sequence[WayName] = USUAL_WAYS
    allowance: Allowance = field(default_factory=Allowance)
    web_tls: ssl.SSLContext | None = None
    token: Callable[[], str] = str
    watched: Callable[[Way], Way] = _as_it_is

    def find_documents(self, patient_id: str, **filters: Unpack[DocumentFilters]) -> Documents:
        """The approved documents of a patient, or those the filters say (FindDocuments)."""
        return self._documents(stored_query.find_documents(patient_id, **filters))

    def find_by_reference(
        self, patient_id: str, reference_ids: AllOf[str], **filters: Unpack[DocumentFilters]
    ) -> Documents:
        """Those that refer to an order, an accession number, a study (CXi values)."""
        return self._documents(
            stored_query.find_documents_by_reference_id(patient_id, reference_ids, **filters)
        )

    def get_documents(
        self,
        *,
        entry_uuid: AnyOf[str] = (),
        unique_id: AnyOf[str] = (),
        home: str | None = None,
    ) -> Documents:
        """Documents by their entryUUIDs or by their uniqueIds, whatever their status."""
        return self._documents(
            stored_query.get_documents(entry_uuid=entry_uuid, unique_id=unique_id, home=home)
        )

    def find_folders(self, patient_id: str, **filters: Unpack[FolderFilters]) -> Folders:
        """The approved folders of a patient, or those the filters say (FindFolders)."""
        answer = self._query(stored_query.find_folders(patient_id, **filters))
        return Folders(answer.objects().folders, answer.errors)

    def get_all(self, patient_id: str, **filters: Unpack[AllFilters]) -> Everything:
        """Everything approved of a patient, and what links it (GetAll)."""
        answer = self._query(stored_query.get_all(patient_id, **filters))
        return Everything(answer.objects(), answer.errors)

    def related_documents(
        self, entry: DocumentEntry, association_types: AnyOf[str] = _RELATIONSHIPS
    ) -> Documents:
        """The other documents that ``entry`` is associated with (GetRelatedDocuments)."""
        request = stored_query.get_related_documents(
            association_types,
            entry_uuid=entry.entry_uuid,
            type=[STABLE, ON_DEMAND],
            home=entry.home_community_id,
        )
        found = self._documents(request)
        others = [one for one in found if one.entry_uuid != entry.entry_uuid]
        return Documents(others, found.errors)

    def fetch_document(self, entry: DocumentEntry) -> bytes:
        """The bytes of a document, checked against hash and size of its entry."""
        received = self._fetch(entry, MemorySpool)
        _check(entry, received)
        return b"".join(received.chunks())

    def save_document(self, entry: DocumentEntry, path: Path) -> Path:
        """Write a document to ``path``, checked likewise, without holding it in memory.

        What was at ``path`` is replaced only by a complete and right document.
        """
        received = cast(CompleteFile, self._fetch(entry, lambda: PartialFile(path.parent)))
        try:
            _check(entry, received)
            received.keep(path)
            make_durable(path.parent)
        finally:
            received.discard()
        return path

    def open_manifest(self, entry: DocumentEntry) -> Manifest:
        """The imaging manifest that ``entry`` describes, fetched and read."""
        try:
            return read_manifest(self.fetch_document(entry))
        except ManifestError as error:
            raise NotAManifest(f"document {entry.unique_id} is no usable manifest") from error

    def fetch_images(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        progress: Callable[[Progress], None] = _silent,
        transfer_syntaxes: Sequence[str] = TRANSFER_SYNTAXES,
        home: str | None = None,
        resume: bool = True,
    ) -> FetchReport:
        """Fetch what a manifest lists into ``folder/<study>/<series>/<instance>.dcm``.

        With ``resume``, files that are there already and right are not fetched again, so an
        interrupted run is resumed by repeating it. Nothing is raised for instances that cannot be
        had: the report says which and why. ``home`` is the homeCommunityId gateways ask for.
        """
        fetch = self._image_fetch(manifest, folder, progress, transfer_syntaxes, home, resume)
        for _ in fetch.instances():
            pass
        return fetch.report()

    def instances(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        transfer_syntaxes: Sequence[str] = TRANSFER_SYNTAXES,
        home: str | None = None,
    ) -> Iterator[FetchedInstance]:
        """What a manifest lists, instance by instance as each is in its place below ``folder``.

        The sources wait while the caller is busy. What an earlier run has fetched is not yielded
        again. Ends with ``Incomplete`` when an instance could not be had.
        """
        fetch = self._image_fetch(manifest, folder, _silent, transfer_syntaxes, home, resume=True)
        yield from fetch.instances()
        report = fetch.report()
        if not report.complete:
            raise Incomplete(report)

    def _image_fetch(
        self,
        manifest: Manifest,
        folder: Path,
        progress: Callable[[Progress], None],
        transfer_syntaxes: Sequence[str],
        home: str | None,
        resume: bool,
    ) -> ImageFetch:
        return ImageFetch(
            manifest,
            folder,
            ways=self._ways(transfer_syntaxes, home),
            checker=Checker(transfer_syntaxes),
            allowance=self.allowance,
            resume=resume,
            progress=progress,
        )

    def _ways(self, transfer_syntaxes: Sequence[str], home: str | None) -> list[Way]:
        return [self.watched(self._way(name, transfer_syntaxes, home)) for name in self.ways]

    def _way(self, name: WayName, transfer_syntaxes: Sequence[str], home: str | None) -> Way:
        if name is WayName.RAD69:
            return SoapWay(self._retrieve_images, self.imaging_sources, transfer_syntaxes, home)
        if name is WayName.WADO:
            return self._web_way(transfer_syntaxes)
        # Half a second that only those wait for who fetch by DICOM.
        from consumer.dicom_way import GetWay, MoveWay

        made = GetWay if name is WayName.CGET else MoveWay
        return made(self.dicom, self.ourselves, transfer_syntaxes, self.silence)

    def _web_way(self, transfer_syntaxes: Sequence[str]) -> WebWay:
        known = (self.registry_url, *self.repositories.values(), *self.imaging_sources.values())
        return WebWay(
            self.dicomweb,
            transfer_syntaxes,
            hosts={urlsplit(url).hostname or "" for url in (*known, *self.dicomweb.values())},
            any_syntax=transfer_syntaxes == TRANSFER_SYNTAXES,
            ssl_context=self.web_tls,
            token=self.token,
        )

    def _documents(self, request: AdhocQueryRequest) -> Documents:
        answer = self._query(request)
        return Documents(answer.objects().documents, answer.errors)

    def _query(self, request: AdhocQueryRequest) -> AdhocQueryResponse:
        answer = self._call(self.registry_url, ITI_18, request)
        if answer.status == FAILURE:
            raise Refused(ITI_18.number, answer.errors)
        return answer

    def _fetch(self, entry: DocumentEntry, spool: Callable[[], Spool]) -> Received:
        """The document of ``entry``, as whatever the spool makes of it."""
        repository, unique_id = entry.repository_unique_id or "", entry.unique_id or ""
        if repository not in self.repositories:
            raise UnknownSource("repository", repository)
        wanted = DocumentRequest(repository, unique_id, entry.home_community_id)
        answer = self._call(
            self.repositories[repository], ITI_43, RetrieveDocumentSetRequest((wanted,)), spool
        )
        return _only(unique_id, answer)

    def _retrieve_images(
        self,
        url: str,
        request: RetrieveImagingDocumentSetRequest,
        spool: Callable[[], Spool],
    ) -> RetrieveDocumentSetResponse:
        return self._call(url, RAD_69, request, spool)

    def _call(
        self,
        url: str,
        exchange: Transaction[Request, Response],
        request: Request,
        spool: Callable[[], Spool] = MemorySpool,
    ) -> Response:
        return call(self.client, url, exchange, request, spool)


def _only(unique_id: str, answer: RetrieveDocumentSetResponse) -> Received:
    """The one document asked for; every other that came with it is given up."""
    found: Received | None = None
    for document in answer.documents:
        content = cast(Received, document.content)  # what comes over the wire is Received
        if found is None and document.request.document_unique_id == unique_id:
            found = content
        else:
            content.discard()
    if found is not None:
        return found
    if answer.errors:
        raise Refused(ITI_43.number, answer.errors)
    raise DocumentMissing(unique_id)


def _check(entry: DocumentEntry, received: Received) -> None:
    """Compare with hash and size, where the entry has them.

    An On-Demand entry has neither; one of Delayed Document Assembly has those of nothing,
    which must not be verified (ITI TF-2 3.43.4.1.3).
    """
    unique_id = entry.unique_id or ""
    expected = (entry.hash or "").lower()
    if expected == EMPTY_SHA1 and entry.size == "0":
        return
    if entry.size and entry.size != str(received.size):
        raise DocumentDiffers(unique_id, "size", entry.size, str(received.size))
    if expected and expected != (actual := received.sha1):
        raise DocumentDiffers(unique_id, "hash", expected, actual)
