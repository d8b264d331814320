"""WADO-RS metadata of a study, a series or an instance, from the index (PS3.18 10.4.1.1.2).

No file is opened for what has been described; what has not yet is described from its file. The
stored JSON is copied: only the URLs of the bulk data are written into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from imaging_source.coercion import REASON, SYSTEM, modified_at
from imaging_source.corrections import Correction
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
    database: Database,
    blobs: BlobStore,
    rows: Sequence[RowMapping],
    corrections: Mapping[str, Correction],
    request: Request,
) -> Answer:
    """The answer for these instances, with the ``corrections`` of their patient, by study.

    Raises Refusal (406) and StorageError.
    """
    wish = first(request.accept, *JSON_TYPES, XML)
    pages = _pages(database, blobs, rows, corrections, request.root)
    if not any(wish.covers(media) for media in JSON_TYPES):
        return xml_answer([json.loads(text) for page in pages for text in page])
    media = next(one for one in JSON_TYPES if wish.covers(one))
    if len(rows) > PAGE:
        return json_stream(request, _array(pages), media)
    return json_answer(request, b"".join(_array(pages)), content_type=media)


def _pages(
    database: Database,
    blobs: BlobStore,
    rows: Sequence[RowMapping],
    corrections: Mapping[str, Correction],
    root: str,
) -> Iterator[list[bytes]]:
    """The JSON objects, in order, some hundreds at a time."""
    for page in described(database, rows, DESCRIPTION.c.attributes):
        yield [_located(row, _said(row, packed, blobs, corrections), root) for row, packed in page]


def _said(
    row: RowMapping,
    packed: bytes | None,
    blobs: BlobStore,
    corrections: Mapping[str, Correction],
) -> bytes:
    """The JSON object of an instance, with what was corrected of its patient."""
    if packed is None:
        text = json_text(description_of(blobs, row).attributes)
    else:
        text = unpack_attributes(packed)
    correction = corrections.get(row["study_instance_uid"])
    if correction is None:
        return text
    return json_text(dict(sorted(corrected(json.loads(text), correction).items())))


def corrected(attributes: dict[str, Any], correction: Correction) -> dict[str, Any]:
    """What an instance says, as it leaves (``imaging_source.coercion``): corrected, with what it
    said before in its Original Attributes Sequence."""
    said = _stated(correction)
    before = {tag: attributes.get(tag, {"vr": now["vr"]}) for tag, now in said.items()}
    different = {tag: now for tag, now in said.items() if now != before[tag]}
    if not different:
        return attributes
    item = {
        "04000550": {"vr": "SQ", "Value": [{tag: before[tag] for tag in different}]},
        "04000562": {"vr": "DT", "Value": [modified_at(correction)]},
        "04000563": {"vr": "LO", "Value": [SYSTEM]},
        "04000564": {"vr": "LO"},
        "04000565": {"vr": "CS", "Value": [REASON]},
    }
    earlier = attributes.get("04000561", {}).get("Value", [])
    return attributes | different | {"04000561": {"vr": "SQ", "Value": [*earlier, item]}}


def _stated(correction: Correction) -> dict[str, Any]:
    """The attributes that a correction states; None leaves what the instance says."""
    name = correction.patient_name
    values: dict[str, tuple[str, Any]] = {
        "00100010": ("PN", {"Alphabetic": name} if name else name),
        "00100020": ("LO", correction.patient_id),
        "00100030": ("DA", correction.birth_date),
        "00100040": ("CS", correction.sex),
    }
    return {
        tag: {"vr": vr, "Value": [value]} if value else {"vr": vr}
        for tag, (vr, value) in values.items()
        if value is not None
    }


def _located(row: RowMapping, text: bytes, root: str) -> bytes:
    """The JSON object of an instance with the URLs of its bulk data."""
    scope = Scope(row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"])
    return text.replace(_BULK_KEY, _BULK_KEY + f"{scope.url(root)}/bulkdata/".encode())


def _array(pages: Iterator[list[bytes]]) -> Iterator[bytes]:
    start = b"["
    for page in pages:
        yield start + b",".join(page)
        start = b","
    yield b"]"
