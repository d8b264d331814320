"""WADO-RS metadata of a study, a series or an instance, from the index (PS3.18 10.4.1.1.2).

No file is opened for what has been described; what has not yet is described from its file. The
stored JSON is copied: only the URLs of the bulk data are written into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import RowMapping

from imaging_source.description.describe import json_text, unpack_attributes
from imaging_source.description.worker import description_of
from imaging_source.dicomweb.accept import first
from imaging_source.dicomweb.answer import Answer, Request, json_answer, json_stream
from imaging_source.dicomweb.described import PAGE, described
from imaging_source.dicomweb.native import XML, xml_answer
from imaging_source.dicomweb.paths import Scope
from imaging_source.schema import DESCRIPTION
from storage.blobs import BlobStore
from storage.database import Database

JSON_TYPES = ("application/dicom+json", "application/json")

# In JSON a quote inside a text has a backslash before it, so this is a key and nothing else.
_BULK_KEY = b'"BulkDataURI":"'


def metadata(
    database: Database, blobs: BlobStore, rows: Sequence[RowMapping], request: Request
) -> Answer:
    """The answer for these instances. Raises Refusal (406) and StorageError."""
    wish = first(request.accept, *JSON_TYPES, XML)
    pages = _pages(database, blobs, rows, request.root)
    if not any(wish.covers(media) for media in JSON_TYPES):
        return xml_answer([json.loads(text) for page in pages for text in page])
    media = next(one for one in JSON_TYPES if wish.covers(one))
    if len(rows) > PAGE:
        return json_stream(request, _array(pages), media)
    return json_answer(request, b"".join(_array(pages)), content_type=media)


def _pages(
    database: Database, blobs: BlobStore, rows: Sequence[RowMapping], root: str
) -> Iterator[list[bytes]]:
    """The JSON objects, in order, some hundreds at a time."""
    for page in described(database, rows, DESCRIPTION.c.attributes):
        yield [_located(row, packed, blobs, root) for row, packed in page]


def _located(row: RowMapping, packed: bytes | None, blobs: BlobStore, root: str) -> bytes:
    """The JSON object of an instance with the URLs of its bulk data."""
    if packed is None:
        text = json_text(description_of(blobs, row).attributes)
    else:
        text = unpack_attributes(packed)
    scope = Scope(row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"])
    return text.replace(_BULK_KEY, _BULK_KEY + f"{scope.url(root)}/bulkdata/".encode())


def _array(pages: Iterator[list[bytes]]) -> Iterator[bytes]:
    start = b"["
    for page in pages:
        yield start + b",".join(page)
        start = b","
    yield b"]"
