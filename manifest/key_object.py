"""What every manifest that is a Key Object Selection document has in common.

Covers PS3.3 A.35.4 (the object), PS3.16 TID 2010 and RAD TF-3 4.68.4.1.2: one study per
manifest, every series with its Retrieve Location UID. ``manifest.kos`` and ``manifest.mado``
say what is special to their family. The same arguments give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import filterfalse, groupby
from operator import attrgetter, itemgetter

from pydicom._uid_dict import UID_dictionary

from manifest.encoding import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    authority,
    coded,
    element,
    if_known,
    item,
    part10_head,
    sequence,
    text,
    uid,
)
from manifest.model import (
    KEY_OBJECT_SELECTION,
    Concept,
    Manifest,
    ManifestError,
    ManifestInstance,
    ManifestSeries,
    Request,
)

ACCESSION_NUMBER = 0x00080050

# Whoever reads a KOS looks for its series among the others of the study: 59 is customary.
_SERIES_NUMBER = b"59"

# No UID, text, tag or length in an item has this byte.
_STAND_IN = "\x7f"

_UID_CHARACTERS, _UID_LENGTHS = b"0123456789.", frozenset(range(1, 65))
_UID = re.compile(r"[0-9.]{1,64}")
_CLASS_UID, _INSTANCE_UID = attrgetter("sop_class_uid"), attrgetter("sop_instance_uid")

# A cut identifier would be another patient's or another order's. Accession numbers with more
# than the 16 characters of VR SH are common, and are written as the images have them; beyond
# what LO holds nothing is an identifier any more (PS3.5 6.2).
IDENTIFIER_LIMIT = 64


def write_key_object(
    manifest: Manifest,
    title: Concept,
    items: Iterable[bytes],
    changes: Mapping[int, bytes] | None = None,
) -> bytes:
    """``manifest`` as a Part 10 file, Explicit VR Little Endian, text in UTF-8.

    ``items`` are the encoded items of the content tree; ``changes`` are elements by tag that
    take the place of those usually written, or come beside them.

    Raises ManifestError for a manifest without instances or time of creation, or with an
    identifier that DICOM cannot carry.
    """
    _check(manifest)
    head = part10_head(KEY_OBJECT_SELECTION, manifest.sop_instance_uid, EXPLICIT_VR_LITTLE_ENDIAN)
    elements = {**_identification(manifest), **_document(manifest, title, items), **(changes or {})}
    return head + b"".join(elements[tag] for tag in sorted(elements))


def key_objects(manifest: Manifest) -> Iterator[bytes]:
    """The rows of TID 2010 that point at instances, all of them, as encoded items."""
    for series in manifest.series:
        yield from _one_for_each(series.instances, _row)


def pointer(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """The sequence of one item that points at an instance (PS3.3 Table C.17.3-7)."""
    return sequence(0x00081199, (_reference(sop_class_uid, sop_instance_uid),))


def _row(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    kind = text(0x0040A040, "CS", value_type(sop_class_uid))
    return pointer(sop_class_uid, sop_instance_uid) + text(0x0040A010, "CS", "CONTAINS") + kind


def _reference(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """The elements that name an instance (PS3.3 10.8)."""
    return uid(0x00081150, sop_class_uid) + uid(0x00081155, sop_instance_uid)


def _one_for_each(
    instances: Sequence[ManifestInstance], encoded: Callable[[str, str], bytes]
) -> Iterator[bytes]:
    """An item for each instance, its elements ``encoded`` from the UIDs of class and instance.

    Instances of one class whose UIDs have one length differ in the UID alone: what is around it is
    encoded once, with a stand-in. A study of thousands costs a third of what each by itself does.
    """
    uids = list(map(_INSTANCE_UID, instances))
    shapes = zip(map(_CLASS_UID, instances), map(len, uids), strict=True)
    for (sop_class_uid, length), alike in groupby(zip(shapes, uids, strict=True), itemgetter(0)):
        stand_in = _STAND_IN * length
        whole = item(encoded(sop_class_uid, stand_in)).decode("latin-1")
        before, _, after = whole.partition(stand_in)
        joined = (after + before).join(map(itemgetter(1), alike))
        yield f"{before}{joined}{after}".encode("latin-1")


@lru_cache(maxsize=256)
def value_type(sop_class_uid: str) -> str:
    """IMAGE, WAVEFORM or COMPOSITE (TID 2010); what is not known to be an image is COMPOSITE."""
    name = UID_dictionary.get(sop_class_uid, ("",))[0]
    if "Image Storage" in name:
        return "IMAGE"
    return "WAVEFORM" if "Waveform Storage" in name else "COMPOSITE"


def _check(manifest: Manifest) -> None:
    if manifest.created is None or manifest.created.tzinfo is None:
        raise ManifestError("a manifest needs its time of creation, with a time zone")
    if not manifest.instance_count or not all(series.instances for series in manifest.series):
        raise ManifestError("a manifest lists at least one instance in each of its series")
    _check_uids(list(_uids(manifest)))
    identifiers = [manifest.patient.patient_id, manifest.study.study_id]
    for request in manifest.study.requests:
        identifiers += (request.accession_number, request.placer_order_number)
        identifiers.append(request.requested_procedure_id)
    if max(map(len, identifiers)) > IDENTIFIER_LIMIT:
        raise ManifestError(f"an identifier has more than {IDENTIFIER_LIMIT} characters")


def _check_uids(uids: list[str]) -> None:
    """All at once: one by one they would take a fifth of the time of a large manifest."""
    lengths = set(map(len, uids))
    others = "".join(uids).encode(errors="replace").translate(None, _UID_CHARACTERS)
    if others or not lengths <= _UID_LENGTHS:
        name = next(filterfalse(_UID.fullmatch, uids))
        raise ManifestError(f"not a UID: {name[:64]!r}")


def _uids(manifest: Manifest) -> Iterator[str]:
    yield from (manifest.sop_instance_uid, manifest.series_instance_uid)
    yield manifest.study_instance_uid
    for series in manifest.series:
        yield from (series.series_instance_uid, series.retrieve_location_uid)
        yield from set(map(_CLASS_UID, series.instances))
        yield from map(_INSTANCE_UID, series.instances)


def _identification(manifest: Manifest) -> dict[int, bytes]:
    """Groups 0008 to 0020: SOP Common, General Study, Equipment, Patient, KO Series."""
    assert manifest.created is not None
    study, patient, created = manifest.study, manifest.patient, manifest.created
    date, time = f"{created:%Y%m%d}", f"{created:%H%M%S}"
    return {
        0x00080005: text(0x00080005, "CS", "ISO_IR 192"),
        0x00080012: text(0x00080012, "DA", date),
        0x00080013: text(0x00080013, "TM", time),
        0x00080016: uid(0x00080016, KEY_OBJECT_SELECTION),
        0x00080018: uid(0x00080018, manifest.sop_instance_uid),
        0x00080020: text(0x00080020, "DA", study.date),
        0x00080023: text(0x00080023, "DA", date),
        0x00080030: text(0x00080030, "TM", study.time),
        0x00080033: text(0x00080033, "TM", time),
        ACCESSION_NUMBER: text(ACCESSION_NUMBER, "SH", study.accession_number, IDENTIFIER_LIMIT),
        0x00080051: authority(0x00080051, study.accession_issuer_oid),
        0x00080060: text(0x00080060, "CS", "KO"),
        0x00080070: text(0x00080070, "LO", study.manufacturer),
        0x00080080: if_known(0x00080080, "LO", study.institution),
        0x00080090: text(0x00080090, "PN", study.referring_physician),
        0x00080201: text(0x00080201, "SH", f"{created:%z}"[:5]),
        0x00081030: if_known(0x00081030, "LO", study.description),
        0x00081111: sequence(0x00081111, ()),  # Referenced Performed Procedure Step, type 2
        0x00100010: text(0x00100010, "PN", patient.name),
        0x00100020: text(0x00100020, "LO", patient.patient_id),
        0x00100021: if_known(0x00100021, "LO", patient.issuer),
        0x00100024: authority(0x00100024, patient.issuer_oid),
        0x00100030: text(0x00100030, "DA", patient.birth_date),
        0x00100040: text(0x00100040, "CS", patient.sex),
        0x0020000D: uid(0x0020000D, study.study_instance_uid),
        0x0020000E: uid(0x0020000E, manifest.series_instance_uid),
        0x00200010: text(0x00200010, "SH", study.study_id, IDENTIFIER_LIMIT),
        0x00200011: element(0x00200011, "IS", _SERIES_NUMBER),
        0x00200013: element(0x00200013, "IS", b"1"),
    }


def _document(manifest: Manifest, title: Concept, items: Iterable[bytes]) -> dict[int, bytes]:
    """Group 0040: the Key Object Document and SR Document Content modules."""
    template = text(0x00080105, "CS", "DCMR") + text(0x0040DB00, "CS", "2010")
    return {
        0x0040A040: text(0x0040A040, "CS", "CONTAINER"),
        0x0040A043: coded(0x0040A043, title),
        0x0040A050: text(0x0040A050, "CS", "SEPARATE"),
        0x0040A370: sequence(0x0040A370, _requests(manifest)),
        0x0040A375: sequence(0x0040A375, (_evidence(manifest),)),
        0x0040A504: sequence(0x0040A504, (template,)),
        0x0040A730: element(0x0040A730, "SQ", b"".join(items)),
    }


def _requests(manifest: Manifest) -> Iterator[bytes]:
    """The items of Referenced Request Sequence: always one, its strictest readers want it."""
    for request in manifest.study.requests:
        yield _request(manifest, request)


def _request(manifest: Manifest, request: Request) -> bytes:
    return b"".join(
        (
            text(ACCESSION_NUMBER, "SH", request.accession_number, IDENTIFIER_LIMIT),
            authority(0x00080051, request.accession_issuer_oid),
            sequence(0x00081110, ()),  # Referenced Study Sequence
            uid(0x0020000D, manifest.study_instance_uid),
            text(0x00321060, "LO", manifest.study.description),
            sequence(0x00321064, ()),  # Requested Procedure Code Sequence
            authority(0x00400026, request.placer_issuer_oid),
            text(0x00401001, "SH", request.requested_procedure_id, IDENTIFIER_LIMIT),
            text(0x00402016, "LO", request.placer_order_number),
            text(0x00402017, "LO", ""),
        )
    )


def _evidence(manifest: Manifest) -> bytes:
    """The item of Current Requested Procedure Evidence Sequence: the study, series by series."""
    study_uid = uid(0x0020000D, manifest.study_instance_uid)
    return sequence(0x00081115, map(_series, manifest.series)) + study_uid


def _series(series: ManifestSeries) -> bytes:
    return b"".join(
        (
            if_known(0x00080054, "AE", series.retrieve_ae_title),
            element(0x00081190, "UR", series.retrieve_url.encode()) if series.retrieve_url else b"",
            element(0x00081199, "SQ", b"".join(_one_for_each(series.instances, _reference))),
            uid(0x0020000E, series.series_instance_uid),
            uid(0x0040E011, series.retrieve_location_uid),
        )
    )
