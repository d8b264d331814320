"""RAD-69 Retrieve Imaging Document Set, the responder (RAD TF-2 4.69).

Every instance asked for is looked up, located on disk (``imaging_source.parts``) and judged
by its transfer syntax before the answer begins: status and errors precede the bytes on the wire.
Instances are handed over as they are stored where that is asked for, else transcoded without loss
(``imaging_source.variants``), in both cases with what was corrected of their patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

from imaging_source.corrections import Correction, corrections_of
from imaging_source.evicted import Away
from imaging_source.parts import Part, Row, ask_for, locate, look_up
from imaging_source.shown import Unseen, all_is_seen
from imaging_source.variants import Variants
from metadata import catalogue as rules
from metadata.catalogue import Fault, RegistryError
from metadata.identifiers import DICOM_MIME_TYPE
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobStoreBusy, DatabaseBusy
from transactions.iti_43 import DocumentRequest, RetrievedDocument, RetrieveDocumentSetResponse
from transactions.rad_69 import RetrieveImagingDocumentSetRequest


class _Asked(NamedTuple):
    """One instance asked for, with the series and study that it is said to be in."""

    document: DocumentRequest
    series_instance_uid: str
    study_instance_uid: str


# What was found of an instance asked for: its part, or why there is none.
_Found = tuple[_Asked, Part] | RegistryError


class ImagingSource:
    """Serves the instances of one imaging source; reads only, safe for many threads.

    ``database`` may be open for reading only, ``blobs`` holds the files, and
    ``unique_id`` the repositoryUniqueId that manifests name as Retrieve Location UID. Without
    ``variants`` nothing is transcoded.
    """

    def __init__(
        self, database: Database, blobs: BlobStore, unique_id: str, variants: Variants | None = None
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._unique_id = unique_id
        self._variants = variants

    def retrieve(
        self, request: RetrieveImagingDocumentSetRequest, unseen: Unseen = all_is_seen
    ) -> RetrieveDocumentSetResponse:
        """What can be handed over, and one error for each instance that cannot.

        The studies that are ``unseen`` by whoever asks are not there for him. Raises
        StorageError when the index itself cannot be read.
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
                studies = set(map(_study, known.values()))
                # What is not there takes the statements of what is hidden.
                corrections = corrections_of(connection, studies or [""])
        except DatabaseBusy:
            busy = Fault(rules.BUSY, "RAD-69").error("RAD-69")
            return RetrieveDocumentSetResponse.of([replace(busy, location="")], ())
        hidden = unseen(studies)
        seen = {uid: row for uid, row in known.items() if row["study_instance_uid"] not in hidden}
        ask_for(self._blobs, map(_study, seen.values()))
        found = [self._find(one, seen, corrections) for one in asked]
        had = self._in_syntax(found, request)
        return RetrieveDocumentSetResponse.of(
            [one for one in had if isinstance(one, RegistryError)],
            [one for one in had if isinstance(one, RetrievedDocument)],
        )

    def _find(
        self,
        asked: _Asked,
        known: Mapping[str, Row],
        corrections: Mapping[str, Correction],
    ) -> _Found:
        row = known.get(asked.document.document_unique_id)
        fault = self._fault(asked, row)
        uid = asked.document.document_unique_id
        if fault is None and row is not None:
            correction = corrections.get(asked.study_instance_uid)
            try:
                if (part := locate(self._blobs, row, correction)) is not None:
                    return asked, part
            except BlobStoreBusy:
                return Fault(rules.BUSY, uid).error("RAD-69")
            except Away:
                pass
        return (fault or Fault(rules.DOCUMENT_UNAVAILABLE, uid)).error("RAD-69")

    def _in_syntax(
        self, found: list[_Found], request: RetrieveImagingDocumentSetRequest
    ) -> list[RetrievedDocument | RegistryError]:
        """Every instance as it is stored, or in a syntax asked for, or why it cannot be had."""
        syntaxes = request.transfer_syntaxes
        parts = [one[1] for one in found if not isinstance(one, RegistryError)]
        fitting = [part if _syntax(part) in syntaxes else None for part in parts]
        if self._variants is None or None not in fitting:
            had = iter(fitting)
        else:
            had = iter(self._variants.each(parts, syntaxes))
        return [
            one if isinstance(one, RegistryError) else _retrieved(*one, next(had)) for one in found
        ]

    def _fault(self, asked: _Asked, row: Row | None) -> Fault | None:
        """Why the instance cannot be handed over, as far as the index tells."""
        uid = asked.document.document_unique_id
        if not asked.study_instance_uid:
            return Fault(rules.PLACE_UNNAMED, uid, attribute="studyInstanceUID")
        if not asked.series_instance_uid:
            return Fault(rules.PLACE_UNNAMED, uid, attribute="seriesInstanceUID")
        place = asked.document.repository_unique_id
        if place != self._unique_id:
            return Fault(rules.UNKNOWN_REPOSITORY, uid, value=place)
        if row is None:
            return Fault(rules.UNKNOWN_DOCUMENT, uid)
        series, study = asked.series_instance_uid, asked.study_instance_uid
        if (row["series_instance_uid"], row["study_instance_uid"]) != (series, study):
            return Fault(rules.INSTANCE_ELSEWHERE, uid, series=series, study=study)
        return None


_study = itemgetter("study_instance_uid")


def _syntax(part: Part) -> str:
    syntax: str = part.row["transfer_syntax_uid"]
    return syntax


def _retrieved(asked: _Asked, stored: Part, had: Part | None) -> RetrievedDocument | RegistryError:
    if had is not None:
        return RetrievedDocument(asked.document, DICOM_MIME_TYPE, had.content)
    uid = asked.document.document_unique_id
    return Fault(rules.TRANSFER_SYNTAX_UNAVAILABLE, uid, value=_syntax(stored)).error("RAD-69")
