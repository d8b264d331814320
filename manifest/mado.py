"""The MADO manifest as a Key Object Selection document: a study's list with its descriptions.

Covers IHE RAD MADO (KOS form): title "Manifest with Description", TID 2010 with the Image
Library of TID 1600 (the study, a group for each series, TID 1601 for each instance), one item
of Referenced Request Sequence for each request, the accession number at the top only where it
is the only one, Other Patient IDs and the viewer's address. The manifest must be complete
already (``manifest.flavours``). Key object titles and descriptions of instances that are key
objects themselves, procedure codes and image descriptors beyond the number of frames are not
written: nothing in the index tells them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

from manifest.concepts import NO_UNITS, Known
from manifest.encoding import authority, coded, element, item, sequence, text, uid
from manifest.key_object import (
    ACCESSION_NUMBER,
    key_objects,
    pointer,
    value_type,
    write_key_object,
)
from manifest.model import (
    PRIVATE_CREATOR,
    Concept,
    Manifest,
    ManifestInstance,
    ManifestSeries,
    PatientIdentifier,
)

# The block of group 000D that PRIVATE_CREATOR reserves, and Display URI in it.
PRIVATE_CREATOR_TAG, DISPLAY_URI_TAG = 0x000D0010, 0x000D1001

_CONTAINS, _CONTEXT = "CONTAINS", "HAS ACQ CONTEXT"


def write_mado(manifest: Manifest) -> bytes:
    """``manifest`` as a Part 10 file. Raises ManifestError as ``write_kos`` does."""
    items = chain(key_objects(manifest), (item(_library(manifest)),))
    return write_key_object(manifest, Known.TITLE.written, items, _changes(manifest))


def _changes(manifest: Manifest) -> dict[int, bytes]:
    changes = {
        PRIVATE_CREATOR_TAG: b"",
        DISPLAY_URI_TAG: b"",
        0x00101002: _other_ids(manifest.other_patient_ids),
    }
    if manifest.study.further_requests:  # none of several is the study's own
        changes |= {ACCESSION_NUMBER: text(ACCESSION_NUMBER, "SH", ""), 0x00080051: b""}
    if manifest.display_url:
        changes[PRIVATE_CREATOR_TAG] = text(PRIVATE_CREATOR_TAG, "LO", PRIVATE_CREATOR)
        changes[DISPLAY_URI_TAG] = element(DISPLAY_URI_TAG, "UR", manifest.display_url.encode())
    return changes


def _other_ids(identifiers: tuple[PatientIdentifier, ...]) -> bytes:
    """Other Patient IDs Sequence (PS3.3 C.7.1.1), nothing where there are none."""
    if not identifiers:
        return b""
    return sequence(
        0x00101002,
        (
            text(0x00100020, "LO", one.patient_id)
            + text(0x00100022, "CS", "TEXT")
            + authority(0x00100024, one.issuer_oid)
            for one in identifiers
        ),
    )


def _library(manifest: Manifest) -> bytes:
    """The Image Library (TID 1600): what the study is, then its series."""
    return _container(
        Known.IMAGE_LIBRARY,
        chain(
            (_code(Known.MODALITY, one) for one in modalities(manifest)),
            (_code(Known.TARGET_REGION, one) for one in regions(manifest)),
            (_count(Known.SERIES_COUNT, len(manifest.series)),),
            map(_group, manifest.series),
        ),
    )


def modalities(manifest: Manifest) -> list[Concept]:
    """The modalities of the series, each once, as codes of DCM (PS3.16 CID 33)."""
    names = sorted({series.modality for series in manifest.series} - {""})
    return [Concept(name, "DCM", name) for name in names]


# TID 1600 asks for a region: of what is not told where it lies, nothing narrower is true.
_ENTIRE_BODY = Concept("38266002", "SCT", "Entire body")


def regions(manifest: Manifest) -> list[Concept]:
    """The anatomic regions of the series, each once; at least one."""
    told = {series.region for series in manifest.series if series.region is not None}
    return sorted(told) or [_ENTIRE_BODY]


def _group(series: ManifestSeries) -> bytes:
    """One series: what it is, then its instances (TID 1601)."""
    number = "" if series.series_number is None else str(series.series_number)
    return _container(
        Known.IMAGE_LIBRARY_GROUP,
        chain(
            (_code(Known.MODALITY, Concept(series.modality, "DCM", series.modality)),)
            if series.modality
            else (),
            (_item("UIDREF", Known.SERIES_UID, uid(0x0040A124, series.series_instance_uid)),),
            _text(Known.SERIES_DESCRIPTION, series.description),
            _known("DATE", Known.SERIES_DATE, 0x0040A121, "DA", series.date),
            _known("TIME", Known.SERIES_TIME, 0x0040A122, "TM", series.time),
            _text(Known.SERIES_NUMBER, number),
            (_code(Known.TARGET_REGION, series.region),) if series.region else (),
            (_count(Known.INSTANCE_COUNT, len(series.instances)),),
            map(_entry, series.instances),
        ),
    )


def _entry(instance: ManifestInstance) -> bytes:
    """One instance (TID 1601)."""
    sop_class_uid = instance.sop_class_uid
    pointed = pointer(sop_class_uid, instance.sop_instance_uid)
    pointed += _relation(_CONTAINS, value_type(sop_class_uid))
    return pointed + _descriptors(instance.instance_number, instance.number_of_frames)


@lru_cache(maxsize=8192)
def _descriptors(number: int | None, frames: int) -> bytes:
    """The content sequence of an entry, empty where nothing is known.

    Kept, because the slices of all series of a study have the same numbers.
    """
    items = list(_text(Known.INSTANCE_NUMBER, "" if number is None else str(number)))
    if frames > 1:
        items.append(_count(Known.FRAME_COUNT, frames))
    return sequence(0x0040A730, items) if items else b""


def _container(concept: Known, items: Iterator[bytes]) -> bytes:
    return b"".join(
        (
            _relation(_CONTAINS, "CONTAINER"),
            _name(concept),
            text(0x0040A050, "CS", "SEPARATE"),
            sequence(0x0040A730, items),
        )
    )


def _item(kind: str, concept: Known, value: bytes) -> bytes:
    return _relation(_CONTEXT, kind) + _name(concept) + value


def _known(kind: str, concept: Known, tag: int, vr: str, value: str) -> Iterator[bytes]:
    """An item where its value is known."""
    if value:
        yield _item(kind, concept, text(tag, vr, value))


def _text(concept: Known, value: str) -> Iterator[bytes]:
    return _known("TEXT", concept, 0x0040A160, "UT", value)


def _code(concept: Known, value: Concept) -> bytes:
    return _item("CODE", concept, coded(0x0040A168, value))


def _count(concept: Known, count: int) -> bytes:
    units = coded(0x004008EA, NO_UNITS)
    return _item(
        "NUM", concept, sequence(0x0040A300, (units + text(0x0040A30A, "DS", str(count)),))
    )


@lru_cache(maxsize=32)
def _relation(relationship: str, kind: str) -> bytes:
    return text(0x0040A010, "CS", relationship) + text(0x0040A040, "CS", kind)


@lru_cache(maxsize=32)
def _name(concept: Known) -> bytes:
    return coded(0x0040A043, concept.written)
