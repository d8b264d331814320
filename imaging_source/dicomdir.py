"""The DICOMDIR of a medium (PS3.3 Annex F, PS3.10 8.6): patient, study, series, instance.

Written by hand from what the index knows, in the time of a millisecond for 100 instances; the few
objects that are no images bring the keys of their kind from their own description. Where a key of
type 1 is not known, numbers are made up by counting, dates are left empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import RowMapping

from manifest.encoding import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    element,
    part10_head,
    sequence,
    text,
)

DIRECTORY = "1.2.840.10008.1.3.10"

Row = Mapping[str, Any] | RowMapping
Attributes = Mapping[str, Any]
"""The DICOM JSON object of an instance."""

_IN_USE = 0xFFFF
_ITEM_BYTES = 8
_CLASSES = "1.2.840.10008.5.1.4.1.1."
# Directory record types by SOP class, the longest prefix first (PS3.3 Table F.4-1).
_TYPES = (
    ("88.59", "KEY OBJECT DOC"),
    ("88.", "SR DOCUMENT"),
    ("11.", "PRESENTATION"),
    ("9.", "WAVEFORM"),
    ("481.2", "RT DOSE"),
    ("481.3", "RT STRUCTURE SET"),
    ("481.5", "RT PLAN"),
    ("104.", "ENCAP DOC"),
    ("66.1", "REGISTRATION"),
    ("66.2", "FIDUCIAL"),
    ("66", "RAW DATA"),
)
# Keys of each type beside the number, by tag and VR.
_KEYS: Mapping[str, tuple[tuple[int, str], ...]] = {
    "KEY OBJECT DOC": ((0x00080023, "DA"), (0x00080033, "TM"), (0x0040A043, "SQ")),
    "SR DOCUMENT": (
        (0x00080023, "DA"),
        (0x00080033, "TM"),
        (0x0040A043, "SQ"),
        (0x0040A491, "CS"),
        (0x0040A493, "CS"),
    ),
    "PRESENTATION": (
        (0x00700080, "CS"),
        (0x00700081, "LO"),
        (0x00700082, "DA"),
        (0x00700083, "TM"),
    ),
    "WAVEFORM": ((0x00080023, "DA"), (0x00080033, "TM")),
    "RT DOSE": ((0x3004000A, "CS"),),
    "RT STRUCTURE SET": ((0x30060002, "SH"), (0x30060008, "DA"), (0x30060009, "TM")),
    "RT PLAN": ((0x300A0002, "SH"), (0x300A0006, "DA"), (0x300A0007, "TM")),
    "ENCAP DOC": (
        (0x00080023, "DA"),
        (0x00080033, "TM"),
        (0x00420010, "LO"),
        (0x0040A043, "SQ"),
        (0x00420012, "LO"),
    ),
    "REGISTRATION": ((0x00700080, "CS"), (0x00080023, "DA"), (0x00080033, "TM")),
    "FIDUCIAL": ((0x00700080, "CS"), (0x00080023, "DA"), (0x00080033, "TM")),
    "RAW DATA": ((0x00080023, "DA"), (0x00080033, "TM")),
}
_CODE = ((0x00080100, "SH"), (0x00080102, "SH"), (0x00080104, "LO"))


@dataclass(slots=True)
class Record:
    """A directory record with the records below it."""

    kind: str
    keys: dict[int, bytes]
    file: bytes = b""
    below: list[Record] = field(default_factory=list)
    position: int = 0

    def encoded(self, following: int) -> bytes:
        """Its elements; ``following`` is the position of the next record beside it."""
        lower = self.below[0].position if self.below else 0
        head = (
            element(0x00041400, "UL", struct.pack("<I", following))
            + element(0x00041410, "US", struct.pack("<H", _IN_USE))
            + element(0x00041420, "UL", struct.pack("<I", lower))
            + element(0x00041430, "CS", self.kind.encode())
        )
        return head + self.file + b"".join(data for _, data in sorted(self.keys.items()))


def patient_record(study: Row) -> Record:
    """The record of the study's patient."""
    named = {0x00100010: ("PN", study["patient_name"]), 0x00100020: ("LO", study["patient_id"])}
    return Record("PATIENT", _texts(named))


def study_record(study: Row) -> Record:
    """The record of a study, by its row of the index."""
    keys = _texts(
        {
            0x00080020: ("DA", study["date"]),
            0x00080030: ("TM", study["time"]),
            0x00080050: ("SH", study["accession_number"]),
            0x00081030: ("LO", study["description"]),
            0x00200010: ("SH", study["study_id"] or "1"),
        }
    )
    return Record("STUDY", keys | _uid(0x0020000D, study["study_instance_uid"]))


def series_record(series: Row, number: int) -> Record:
    """The record of a series; ``number`` where it has none."""
    known = series["series_number"]
    keys = _texts(
        {
            0x00080060: ("CS", series["modality"] or "OT"),
            0x0008103E: ("LO", series["description"]),
            0x00200011: ("IS", str(number if known is None else known)),
        }
    )
    return Record("SERIES", keys | _uid(0x0020000E, series["series_instance_uid"]))


def instance_record(instance: Row, attributes: Attributes, file_id: str, number: int) -> Record:
    """The record of an instance in the file ``file_id``; ``number`` where it has none."""
    kind = record_type(instance["sop_class_uid"])
    known = instance["instance_number"]
    keys = _texts({0x00200013: ("IS", str(number if known is None else known))})
    keys |= {tag: _copied(tag, vr, attributes) for tag, vr in _KEYS.get(kind, ())}
    file = (
        element(0x00041500, "CS", file_id.replace("/", "\\").encode("ascii"))
        + element(0x00041510, "UI", instance["sop_class_uid"].encode("ascii"))
        + element(0x00041511, "UI", instance["sop_instance_uid"].encode("ascii"))
        + element(0x00041512, "UI", instance["transfer_syntax_uid"].encode("ascii"))
    )
    return Record(kind, keys, file)


def record_type(sop_class_uid: str) -> str:
    """The type of the record of an instance."""
    name = sop_class_uid.removeprefix(_CLASSES)
    return next((kind for prefix, kind in _TYPES if name.startswith(prefix)), "IMAGE")


def dicomdir(patients: Sequence[Record], instance_uid: str) -> bytes:
    """The file: ``patients`` with all that is below them."""
    head = part10_head(DIRECTORY, instance_uid, EXPLICIT_VR_LITTLE_ENDIAN)
    records = list(_in_order(patients))
    position = len(head) + len(_directory(0, 0, sequence(0x00041220, [])))
    for record in records:
        record.position = position
        position += _ITEM_BYTES + len(record.encoded(0))
    following = _following(patients)
    items = [record.encoded(following[id(record)]) for record in records]
    first, last = patients[0].position, patients[-1].position
    return head + _directory(first, last, sequence(0x00041220, items))


def _directory(first: int, last: int, records: bytes) -> bytes:
    return (
        element(0x00041130, "CS", b"")
        + element(0x00041200, "UL", struct.pack("<I", first))
        + element(0x00041202, "UL", struct.pack("<I", last))
        + element(0x00041212, "US", b"\0\0")
        + records
    )


def _in_order(records: Sequence[Record]) -> Iterator[Record]:
    for record in records:
        yield record
        yield from _in_order(record.below)


def _following(records: Sequence[Record]) -> dict[int, int]:
    """The position of the record beside each, 0 for the last one."""
    found = {}
    for record, beside in zip(records, [*records[1:], None], strict=False):
        found[id(record)] = beside.position if beside is not None else 0
        found |= _following(record.below)
    return found


def _texts(values: Mapping[int, tuple[str, str]]) -> dict[int, bytes]:
    """Text elements, and the character set they are in."""
    made = {tag: text(tag, vr, value) for tag, (vr, value) in values.items()}
    return made | {0x00080005: text(0x00080005, "CS", "ISO_IR 192")}


def _uid(tag: int, uid: str) -> dict[int, bytes]:
    return {tag: element(tag, "UI", uid.encode("ascii"))}


def _copied(tag: int, vr: str, attributes: Attributes) -> bytes:
    values = attributes.get(f"{tag:08X}", {}).get("Value") or [""]
    if vr != "SQ":
        return text(tag, vr, str(values[0]))
    codes = [b"".join(_copied(*part, value) for part in _CODE) for value in values[:1] if value]
    return sequence(tag, codes)
