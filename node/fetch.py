"""Fetching what was found: documents to files, the images of manifests beside them."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from consumer.client import Consumer
from consumer.errors import ConsumerError
from consumer.report import FetchReport, Progress
from manifest.flavours import is_manifest
from metadata.identifiers import DICOM_MIME_TYPE, FHIR_JSON_MIME_TYPE
from metadata.model import DocumentEntry
from node.texts import tr

# What mimetypes would call a DICOM file differs between machines; FHIR it does not know.
SUFFIXES = {DICOM_MIME_TYPE: ".dcm", FHIR_JSON_MIME_TYPE: ".json"}


@dataclass(slots=True)
class Lacking:
    """An image that a manifest lists and no way brought; ``fault`` is for scripts."""

    study: str
    series: str
    instance: str
    fault: str
    reason: str


@dataclass(slots=True)
class Fetched:
    """What was fetched: files of documents, number of images, bytes; and what was not."""

    documents: list[str] = field(default_factory=list)
    images: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    missing: list[Lacking] = field(default_factory=list)


def fetch_all(
    consumer: Consumer,
    entries: Iterable[DocumentEntry],
    folder: Path,
    *,
    images: bool,
    resume: bool = True,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> Fetched:
    """Fetch every document, and with ``images`` what the manifests among them list.

    A document that cannot be had becomes a problem and does not keep the others back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fetched = Fetched()
    in_place: set[Path] = set()
    for entry in entries:
        try:
            _fetch_document(consumer, entry, folder, fetched)
            if images and is_manifest(entry):
                manifest = consumer.open_manifest(entry)
                report = consumer.fetch_images(manifest, folder, resume=resume, progress=progress)
                _note(manifest.study_instance_uid, report, fetched, in_place)
        except ConsumerError as error:
            fetched.problems.append(f"{entry.unique_id}: {error}")
    return fetched


def _fetch_document(
    consumer: Consumer, entry: DocumentEntry, folder: Path, fetched: Fetched
) -> None:
    kind = entry.mime_type or ""
    suffix = SUFFIXES.get(kind) or mimetypes.guess_extension(kind) or ".bin"
    name = (entry.unique_id or "document").replace("/", "_")
    file = consumer.save_document(entry, folder / f"{name}{suffix}")
    fetched.documents.append(str(file))
    fetched.bytes += file.stat().st_size


def _note(study: str, report: FetchReport, fetched: Fetched, in_place: set[Path]) -> None:
    """Count what is there now; a study may have a manifest of each family."""
    new = {*report.fetched, *report.present} - in_place
    in_place |= new
    fetched.images += len(new)
    fetched.bytes += report.bytes
    for one in report.missing:
        series, uid = one.series_instance_uid, one.sop_instance_uid
        fetched.missing.append(Lacking(study, series, uid, one.fault.value, one.reason))
        fetched.problems.append(tr("image {uid}: {reason}", uid=uid, reason=one.reason))
