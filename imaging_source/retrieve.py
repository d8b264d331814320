"""RAD-69 Retrieve Imaging Document Set, the responder (RAD TF-2 4.69).

Every instance asked for is looked up, located on disk and judged by its transfer syntax
before the answer begins: status and errors precede the bytes on the wire, so nothing may be
found missing later. Instances are handed over as they are stored, save what was corrected of their
patient; nothing is transcoded.
The bytes stream from disk when the answer is written. They are not hashed on the way: that
would halve the rate of a study (SHA-256 does 1.1 GiB a second here), and what rots on a disk
is for a scrub to find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, RowMapping, select

from imaging_source.coercion import Coerced, coerced
from imaging_source.corrections import Correction, corrections_of
from imaging_source.elements import Unreadable
from imaging_source.schema import INSTANCE
from metadata import catalogue as rules
from metadata.catalogue import Fault, RegistryError
from metadata.identifiers import DICOM_MIME_TYPE
from storage.blobs import BlobStore, FileContent
from storage.database import Database
from storage.errors import BlobMissing, BlobStoreUnavailable, DatabaseBusy
from transactions.iti_43 import DocumentRequest, RetrievedDocument, RetrieveDocumentSetResponse
from transactions.rad_69 import RetrieveImagingDocumentSetRequest

# Instances looked up by one statement: well below SQLite's limit of 32,766 parameters.
_LOOKUP_SIZE = 1000


@dataclass(frozen=True, slots=True)
class _Asked:
    """One instance asked for, with the series and study that it is said to be in."""

    document: DocumentRequest
    series_instance_uid: str
    study_instance_uid: str


class ImagingSource:
    """Serves the instances of one imaging source; reads only, safe for many threads.

    ``database`` may be open for reading only, ``root`` is the folder of the blob store, and
    ``unique_id`` the repositoryUniqueId that manifests name as Retrieve Location UID.
    """

    def __init__(self, database: Database, root: Path, unique_id: str) -> None:
        self._database = database
        self._blobs = BlobStore(root)
        self._unique_id = unique_id

    def retrieve(self, request: RetrieveImagingDocumentSetRequest) -> RetrieveDocumentSetResponse:
        """What can be handed over, and one error for each instance that cannot.

        Raises StorageError when the index itself cannot be read.
        """
        asked = [
            _Asked(document, series.series_instance_uid, study.study_instance_uid)
            for study in request.studies
            for series in study.series
            for document in series.documents
        ]
        try:
            with self._database.read() as connection:
                known = _look_up(connection, asked)
                studies = {row["study_instance_uid"] for row in known.values()}
                corrections = corrections_of(connection, studies)
        except DatabaseBusy:
            busy = Fault(rules.BUSY, "RAD-69").error("RAD-69")
            return RetrieveDocumentSetResponse.of([replace(busy, location="")], ())
        syntaxes = request.transfer_syntaxes
        found = [self._find(one, known, corrections, syntaxes) for one in asked]
        return RetrieveDocumentSetResponse.of(
            [one for one in found if isinstance(one, RegistryError)],
            [one for one in found if isinstance(one, RetrievedDocument)],
        )

    def _find(
        self,
        asked: _Asked,
        known: Mapping[str, RowMapping],
        corrections: Mapping[str, Correction],
        syntaxes: tuple[str, ...],
    ) -> RetrievedDocument | RegistryError:
        row = known.get(asked.document.document_unique_id)
        fault = self._fault(asked, row, syntaxes)
        if fault is None and row is not None:
            blob = self._blob(row, corrections.get(row["study_instance_uid"]))
            if blob is not None:
                return RetrievedDocument(asked.document, DICOM_MIME_TYPE, blob)
        uid = asked.document.document_unique_id
        return (fault or Fault(rules.DOCUMENT_UNAVAILABLE, uid)).error("RAD-69")

    def _fault(
        self, asked: _Asked, row: RowMapping | None, syntaxes: tuple[str, ...]
    ) -> Fault | None:
        """Why the instance cannot be handed over, as far as the index tells."""
        uid = asked.document.document_unique_id
        place = asked.document.repository_unique_id
        if place != self._unique_id:
            return Fault(rules.UNKNOWN_REPOSITORY, uid, value=place)
        if row is None or row["rejection"] is not None:
            return Fault(rules.UNKNOWN_DOCUMENT, uid)
        series, study = asked.series_instance_uid, asked.study_instance_uid
        if (row["series_instance_uid"], row["study_instance_uid"]) != (series, study):
            return Fault(rules.INSTANCE_ELSEWHERE, uid, series=series, study=study)
        if row["transfer_syntax_uid"] not in syntaxes:
            stored = row["transfer_syntax_uid"]
            return Fault(rules.TRANSFER_SYNTAX_UNAVAILABLE, uid, value=stored)
        return None

    def _blob(self, row: RowMapping, correction: Correction | None) -> FileContent | Coerced | None:
        """The image with what was corrected, if its file is there with all its bytes."""
        try:
            blob = self._blobs.open(row["sha256"])
        except (BlobMissing, BlobStoreUnavailable):
            return None
        if blob.size != row["size"]:
            return None
        content = FileContent(blob.path, blob.size)
        try:
            return coerced(correction, content, row["transfer_syntax_uid"])
        except (Unreadable, OSError):
            return None


def _look_up(connection: Connection, asked: list[_Asked]) -> dict[str, RowMapping]:
    """The index rows of the instances asked for, by SOP Instance UID."""
    uids = list({one.document.document_unique_id for one in asked})
    found: dict[str, RowMapping] = {}
    for start in range(0, len(uids), _LOOKUP_SIZE):
        part = uids[start : start + _LOOKUP_SIZE]
        query = select(INSTANCE).where(INSTANCE.c.sop_instance_uid.in_(part))
        for row in connection.execute(query).mappings():
            found[row["sop_instance_uid"]] = row
    return found
