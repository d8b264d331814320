"""An instance without what names its patient, or anybody else (PS3.15 Annex E, the strict way).

What is kept is listed, everything else goes: pixels, how they are encoded and shown, geometry,
codes and technique, where their values cannot hold free text. Patient, persons, places, devices,
dates, descriptions, private elements, overlays and all that a later edition of the standard adds
are not on the list. UIDs become others, the same for the same everywhere under one key, so that
studies hold together. Stricter than the Basic Profile, which it satisfies for images; what is
burnt into pixels cannot be seen: images that admit it are refused, as is all that is no image.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from imaging_source import syntaxes
from imaging_source.pixels import UnreadablePixels
from manifest.encoding import part10_head
from storage.files import Reference, stream, writing

# Groups of how an image was made, where it lies, how it is encoded and shown: 0018 acquisition,
# 0020 relationship, 0022 and 0048 ophthalmic and slides, 0028 image, 0040 and 5200 functional
# groups, 7FE0 pixels.
_GROUPS = frozenset({0x0018, 0x0020, 0x0022, 0x0028, 0x0040, 0x0048, 0x5200, 0x7FE0})
_ELSEWHERE = frozenset({"SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "ConversionType"})

# Representations whose values are numbers or come from lists. Texts, names and dates are not.
_HARMLESS = frozenset(
    [
        "AT",
        "CS",
        "DS",
        "FD",
        "FL",
        "IS",
        "OB",
        "OD",
        "OF",
        "OL",
        "OV",
        "OW",
        "SL",
        "SQ",
        "SS",
        "SV",
        "UI",
        "UL",
        "US",
        "UV",
    ]
)

# Of those, what a device, an operator or a hospital fills in as it likes.
_NAMING = frozenset(
    {
        "StudyID",
        "CurrentPatientLocation",
        "RequestAttributesSequence",
        "PerformedProtocolCodeSequence",
        "ScheduledPerformedProcedureStepSequence",
        "PersonIdentificationCodeSequence",
        "ContributingEquipmentSequence",
        "AcquisitionContextSequence",
        "ContentSequence",
        "OriginalAttributesSequence",
    }
)
# Encodings in which the rest is not written anew.
_UNWRITTEN = syntaxes.INFLATED.keys() | {syntaxes.EXPLICIT_VR_BIG_ENDIAN}

# UIDs that are the standard's own and name nobody.
_STANDARD = "1.2.840.10008."


def anonymize(source: Reference, stored: str, key: str, target: Reference) -> None:
    """Write the image ``source`` to ``target`` without names.

    Raises UnreadablePixels for what is no image, or shows names in its pixels by its own account.
    """
    with stream(source) as file:
        dataset = dcmread(file, force=True)
    if "PixelData" not in dataset or stored in _UNWRITTEN:
        raise UnreadablePixels("no image that can be freed from names")
    if str(dataset.get("BurnedInAnnotation", "NO")).upper() != "NO":
        raise UnreadablePixels("names may be in the pixels")
    made = _kept(dataset, key.encode())
    made.PatientName = made.PatientID = "ANONYMOUS"
    made.PatientBirthDate = made.PatientSex = made.StudyDate = made.StudyTime = ""
    made.AccessionNumber = made.StudyID = made.ReferringPhysicianName = ""
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "List of attributes that are kept"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = stored == syntaxes.IMPLICIT_VR_LITTLE_ENDIAN
    buffer.is_little_endian = True
    write_dataset(buffer, made)
    head = part10_head(str(made.SOPClassUID), str(made.SOPInstanceUID), stored)
    with writing(target) as out:
        out.write(head)
        out.write(buffer.getvalue())


def _kept(dataset: Dataset, key: bytes) -> Dataset:
    made = Dataset()
    for element in dataset:
        keyword = element.keyword
        listed = element.tag.group in _GROUPS or keyword in _ELSEWHERE
        if keyword and listed and element.VR in _HARMLESS and keyword not in _NAMING:
            made.add(_changed(element, key))
    return made


def _changed(element: DataElement, key: bytes) -> DataElement:
    if element.VR == "SQ":
        return DataElement(element.tag, "SQ", [_kept(item, key) for item in element.value])
    if element.VR == "UI" and element.value:
        values = element.value if element.VM > 1 else [element.value]
        changed = [_other_uid(str(one), key) for one in values]
        return DataElement(element.tag, "UI", changed if len(changed) > 1 else changed[0])
    return element


def _other_uid(uid: Any, key: bytes) -> str:
    """Another UID for one that names an object: a UUID-derived one (PS3.5 B.2) under the key."""
    if uid.startswith(_STANDARD):
        return str(uid)
    digest = hmac.new(key, uid.encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"
