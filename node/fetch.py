"""Fetching what was found: documents to files, the images of manifests beside them."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from consumer.client import Consumer
from consumer.errors import ConsumerError
from manifest.flavours import is_manifest
from metadata.identifiers import DICOM_MIME_TYPE, FHIR_JSON_MIME_TYPE
from metadata.model import DocumentEntry
from node.texts import tr

# What mimetypes would call a DICOM file differs between machines; FHIR it does not know.
SUFFIXES = {DICOM_MIME_TYPE: ".dcm", FHIR_JSON_MIME_TYPE: ".json"}


@dataclass(slots=True)
class Fetched:
    """What was fetched: files of documents, number of images, bytes; and what was not."""

    documents: list[str] = field(default_factory=list)
    images: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def fetch_all(
    consumer: Consumer,
    entries: Iterable[DocumentEntry],
    folder: Path,
    *,
    images: bool,
    step: Callable[[], object] = lambda: None,
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
                _fetch_images(consumer, entry, folder, fetched, in_place)
        except ConsumerError as error:
            fetched.problems.append(f"{entry.unique_id}: {error}")
        step()
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


def _fetch_images(
    consumer: Consumer, entry: DocumentEntry, folder: Path, fetched: Fetched, in_place: set[Path]
) -> None:
    """Fetch what a manifest lists; a study may have a manifest of each family."""
    report = consumer.fetch_images(consumer.open_manifest(entry), folder)
    new = {*report.fetched, *report.present} - in_place
    in_place |= new
    fetched.images += len(new)
    fetched.bytes += report.bytes
    for missing in report.missing:
        fetched.problems.append(
            tr("image {uid}: {reason}", uid=missing.sop_instance_uid, reason=missing.reason)
        )
