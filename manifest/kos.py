"""The XDS-I.b manifest: a DICOM Key Object Selection document that lists a study.

Covers PS3.3 A.35.4 (the KOS object), PS3.16 TID 2010 and RAD TF-3 4.68.4.1.2: title
(113030, DCM, "Manifest"), one study per manifest, every series with its Retrieve Location
UID and Retrieve AE Title. ``write_kos`` makes the same bytes from the same manifest;
``manifest.reading`` is its counterpart.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary

from manifest.encoding import EXPLICIT_VR_LITTLE_ENDIAN, element, part10_head, sequence, text
from manifest.model import (
    KEY_OBJECT_SELECTION,
    Manifest,
    ManifestError,
    ManifestInstance,
    ManifestSeries,
    Study,
)
from manifest.reading import read_manifest

__all__ = [
    "Manifest",
    "ManifestError",
    "ManifestInstance",
    "ManifestSeries",
    "read_manifest",
    "write_kos",
]


# Whoever reads a KOS looks for its series among the others of the study: 59 is customary.
_SERIES_NUMBER = b"59"

_UID = re.compile(r"[0-9.]{1,64}")

# A cut identifier would be another patient's or another order's. Accession numbers with more
# than the 16 characters of VR SH are common, and are written as the images have them; beyond
# what LO holds nothing is an identifier any more (PS3.5 6.2).
_IDENTIFIER_LIMIT = 64


def write_kos(manifest: Manifest) -> bytes:
    """``manifest`` as a Part 10 file, Explicit VR Little Endian, text in UTF-8.

    Raises ManifestError for a manifest without instances or time of creation, or with an
    identifier that DICOM cannot carry.
    """
    _check(manifest)
    head = part10_head(KEY_OBJECT_SELECTION, manifest.sop_instance_uid, EXPLICIT_VR_LITTLE_ENDIAN)
    return b"".join((head, *_identification(manifest), *_document(manifest)))


def _check(manifest: Manifest) -> None:
    if manifest.created is None or manifest.created.tzinfo is None:
        raise ManifestError("a manifest needs its time of creation, with a time zone")
    if not manifest.instance_count or not all(series.instances for series in manifest.series):
        raise ManifestError("a manifest lists at least one instance in each of its series")
    uids = [manifest.sop_instance_uid, manifest.series_instance_uid, manifest.study_instance_uid]
    for series in manifest.series:
        uids += (series.series_instance_uid, series.retrieve_location_uid)
        for instance in series.instances:
            uids += (instance.sop_class_uid, instance.sop_instance_uid)
    for uid in uids:
        if _UID.fullmatch(uid) is None:
            raise ManifestError(f"not a UID: {uid[:64]!r}")
    identifiers = (
        manifest.patient.patient_id,
        manifest.study.accession_number,
        manifest.study.study_id,
        manifest.study.requested_procedure_id,
        manifest.study.placer_order_number,
    )
    if max(map(len, identifiers)) > _IDENTIFIER_LIMIT:
        raise ManifestError(f"an identifier has more than {_IDENTIFIER_LIMIT} characters")


def _identification(manifest: Manifest) -> tuple[bytes, ...]:
    """Groups 0008 to 0020: SOP Common, General Study, Equipment, Patient, KO Series."""
    assert manifest.created is not None
    study, patient, created = manifest.study, manifest.patient, manifest.created
    date, time = f"{created:%Y%m%d}", f"{created:%H%M%S}"
    return (
        text(0x00080005, "CS", "ISO_IR 192"),
        text(0x00080012, "DA", date),
        text(0x00080013, "TM", time),
        _uid(0x00080016, KEY_OBJECT_SELECTION),
        _uid(0x00080018, manifest.sop_instance_uid),
        text(0x00080020, "DA", study.date),
        text(0x00080023, "DA", date),
        text(0x00080030, "TM", study.time),
        text(0x00080033, "TM", time),
        text(0x00080050, "SH", study.accession_number, _IDENTIFIER_LIMIT),
        _authority(0x00080051, study.accession_issuer_oid),
        text(0x00080060, "CS", "KO"),
        text(0x00080070, "LO", study.manufacturer),
        _if_known(0x00080080, "LO", study.institution),
        text(0x00080090, "PN", study.referring_physician),
        text(0x00080201, "SH", f"{created:%z}"[:5]),
        _if_known(0x00081030, "LO", study.description),
        sequence(0x00081111, ()),  # Referenced Performed Procedure Step Sequence, type 2
        text(0x00100010, "PN", patient.name),
        text(0x00100020, "LO", patient.patient_id),
        _if_known(0x00100021, "LO", patient.issuer),
        _authority(0x00100024, patient.issuer_oid),
        text(0x00100030, "DA", patient.birth_date),
        text(0x00100040, "CS", patient.sex),
        _uid(0x0020000D, study.study_instance_uid),
        _uid(0x0020000E, manifest.series_instance_uid),
        text(0x00200010, "SH", study.study_id, _IDENTIFIER_LIMIT),
        element(0x00200011, "IS", _SERIES_NUMBER),
        element(0x00200013, "IS", b"1"),
    )


def _document(manifest: Manifest) -> tuple[bytes, ...]:
    """Group 0040: the Key Object Document and SR Document Content modules."""
    return (
        text(0x0040A040, "CS", "CONTAINER"),
        sequence(0x0040A043, (_code("113030", "DCM", "Manifest"),)),
        text(0x0040A050, "CS", "SEPARATE"),
        sequence(0x0040A370, (_request(manifest.study),)),
        sequence(0x0040A375, (_evidence(manifest),)),
        sequence(0x0040A504, (text(0x00080105, "CS", "DCMR") + text(0x0040DB00, "CS", "2010"),)),
        sequence(
            0x0040A730,
            (
                _content_item(instance)
                for series in manifest.series
                for instance in series.instances
            ),
        ),
    )


def _request(study: Study) -> bytes:
    """The item of Referenced Request Sequence: always written, its strictest readers want it."""
    return b"".join(
        (
            text(0x00080050, "SH", study.accession_number, _IDENTIFIER_LIMIT),
            _authority(0x00080051, study.accession_issuer_oid),
            sequence(0x00081110, ()),  # Referenced Study Sequence
            _uid(0x0020000D, study.study_instance_uid),
            text(0x00321060, "LO", study.description),
            sequence(0x00321064, ()),  # Requested Procedure Code Sequence
            _authority(0x00400026, study.placer_issuer_oid),
            text(0x00401001, "SH", study.requested_procedure_id, _IDENTIFIER_LIMIT),
            text(0x00402016, "LO", study.placer_order_number),
            text(0x00402017, "LO", ""),
        )
    )


def _evidence(manifest: Manifest) -> bytes:
    """The item of Current Requested Procedure Evidence Sequence: the study, series by series."""
    study_uid = _uid(0x0020000D, manifest.study_instance_uid)
    return sequence(0x00081115, map(_series, manifest.series)) + study_uid


def _series(series: ManifestSeries) -> bytes:
    return b"".join(
        (
            _if_known(0x00080054, "AE", series.retrieve_ae_title),
            element(0x00081190, "UR", series.retrieve_url.encode()) if series.retrieve_url else b"",
            sequence(0x00081199, map(_reference, series.instances)),
            _uid(0x0020000E, series.series_instance_uid),
            _uid(0x0040E011, series.retrieve_location_uid),
        )
    )


def _reference(instance: ManifestInstance) -> bytes:
    return _uid(0x00081150, instance.sop_class_uid) + _uid(0x00081155, instance.sop_instance_uid)


def _content_item(instance: ManifestInstance) -> bytes:
    """A row of TID 2010 that points at an instance."""
    reference = sequence(0x00081199, (_reference(instance),))
    return reference + _relationship(_value_type(instance.sop_class_uid))


@lru_cache(maxsize=8)
def _relationship(value_type: str) -> bytes:
    return text(0x0040A010, "CS", "CONTAINS") + text(0x0040A040, "CS", value_type)


@lru_cache(maxsize=256)
def _value_type(sop_class_uid: str) -> str:
    """IMAGE, WAVEFORM or COMPOSITE (TID 2010); what is not known to be an image is COMPOSITE."""
    name = UID_dictionary.get(sop_class_uid, ("",))[0]
    if "Image Storage" in name:
        return "IMAGE"
    return "WAVEFORM" if "Waveform Storage" in name else "COMPOSITE"


def _uid(tag: int, value: str) -> bytes:
    return element(tag, "UI", value.encode("ascii"))


def _if_known(tag: int, vr: str, value: str) -> bytes:
    return text(tag, vr, value) if value else b""


def _authority(tag: int, oid: str) -> bytes:
    """A sequence that names an authority by its OID (HL7v2 Hierarchic Designator macro)."""
    if not oid:
        return b""
    return sequence(tag, (element(0x00400032, "UT", oid.encode()) + text(0x00400033, "CS", "ISO"),))


def _code(value: str, scheme: str, meaning: str) -> bytes:
    coded = text(0x00080100, "SH", value) + text(0x00080102, "SH", scheme)
    return coded + text(0x00080104, "LO", meaning)
