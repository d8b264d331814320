"""RAD-69 Retrieve Imaging Document Set, the responder (RAD TF-2 4.69).

Every instance asked for is looked up, located on disk (``imaging_source.parts``) and judged
by its transfer syntax before the answer begins: status and errors precede the bytes on the wire.
Instances are handed over as they are stored where that is asked for, else transcoded without loss
(``imaging_source.variants``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import RowMapping

from imaging_source.parts import Part, locate, look_up
from imaging_source.variants import NoVariant, Variants
from metadata import catalogue as rules
from metadata.catalogue import Fault, RegistryError
from metadata.identifiers import DICOM_MIME_TYPE
from storage.blobs import BlobStore, FileContent
from storage.database import Database
from storage.errors import DatabaseBusy
from transactions.iti_43 import DocumentRequest, RetrievedDocument, RetrieveDocumentSetResponse
from transactions.rad_69 import RetrieveImagingDocumentSetRequest


@dataclass(frozen=True, slots=True)
class _Asked:
    """One instance asked for, with the series and study that it is said to be in."""

    document: DocumentRequest
    series_instance_uid: str
    study_instance_uid: str


class ImagingSource:
    """Serves the instances of one imaging source; reads only, safe for many threads.

    ``database`` may be open for reading only, ``root`` is the folder of the blob store, and
    ``unique_id`` the repositoryUniqueId that manifests name as Retrieve Location UID. Without
    ``variants`` nothing is transcoded.
    """

    def __init__(
        self, database: Database, root: Path, unique_id: str, variants: Variants | None = None
    ) -> None:
        self._database = database
        self._blobs = BlobStore(root)
        self._unique_id = unique_id
        self._variants = variants
        # Transcoding is done by processes of its own: here several are only waited for.
        self._waiting = ThreadPoolExecutor(os.cpu_count(), "transcoding")

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
                known = look_up(connection, (one.document.document_unique_id for one in asked))
        except DatabaseBusy:
            busy = Fault(rules.BUSY, "RAD-69").error("RAD-69")
            return RetrieveDocumentSetResponse.of([replace(busy, location="")], ())
        syntaxes = request.transfer_syntaxes
        stored = all(row["transfer_syntax_uid"] in syntaxes for row in known.values())
        each = map if stored else self._waiting.map
        found = list(each(lambda one: self._find(one, known, syntaxes), asked))
        return RetrieveDocumentSetResponse.of(
            [one for one in found if isinstance(one, RegistryError)],
            [one for one in found if isinstance(one, RetrievedDocument)],
        )

    def _find(
        self, asked: _Asked, known: Mapping[str, RowMapping], syntaxes: tuple[str, ...]
    ) -> RetrievedDocument | RegistryError:
        row = known.get(asked.document.document_unique_id)
        uid = asked.document.document_unique_id
        fault = self._fault(asked, row)
        if fault is None and row is not None:
            try:
                part = locate(self._blobs, row)
                if part is not None:
                    content = self._content(part, syntaxes)
                    return RetrievedDocument(asked.document, DICOM_MIME_TYPE, content)
            except NoVariant:
                stored = row["transfer_syntax_uid"]
                fault = Fault(rules.TRANSFER_SYNTAX_UNAVAILABLE, uid, value=stored)
        return (fault or Fault(rules.DOCUMENT_UNAVAILABLE, uid)).error("RAD-69")

    def _content(self, part: Part, syntaxes: tuple[str, ...]) -> FileContent:
        """The instance as it is stored, or in a syntax asked for. Raises NoVariant."""
        stored = part.row["transfer_syntax_uid"]
        if stored in syntaxes:
            return part.content
        if self._variants is None:
            raise NoVariant(stored)
        sha256 = part.row["sha256"]
        return self._variants.variant(part.content.path, sha256, stored, syntaxes).content

    def _fault(self, asked: _Asked, row: RowMapping | None) -> Fault | None:
        """Why the instance cannot be handed over, as far as the index tells."""
        uid = asked.document.document_unique_id
        place = asked.document.repository_unique_id
        if place != self._unique_id:
            return Fault(rules.UNKNOWN_REPOSITORY, uid, value=place)
        if row is None:
            return Fault(rules.UNKNOWN_DOCUMENT, uid)
        series, study = asked.series_instance_uid, asked.study_instance_uid
        if (row["series_instance_uid"], row["study_instance_uid"]) != (series, study):
            return Fault(rules.INSTANCE_ELSEWHERE, uid, series=series, study=study)
        return None
