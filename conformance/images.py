"""Images that are made up for a purpose: a small study, one image more, a rejection note.

Covers CT images and multi-frame secondary captures without compression, and rejection notes
(PS3.16 CID 7011, RAD TF-2 4.66). Pixels are small and differ from image to image, so that one is
never taken for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from hashlib import sha256
from io import BytesIO

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from metadata.datatypes import new_oid

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.2"
"""Multi-frame Grayscale Byte Secondary Capture Image Storage."""
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

REJECTIONS = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""The titles of a rejection note, in the scheme DCM."""

ROWS, COLUMNS, FRAMES = 24, 32, 3

_OF_THE_STUDY = (
    *("SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "PatientName"),
    *("ReferringPhysicianName", "PatientID", "IssuerOfPatientID"),
    *("IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyID"),
)


def study(patient_id: str, images: int = 2) -> list[FileDataset]:
    """A study of one series of CT images, and of one multi-frame image in a series of its own."""
    head = _head(patient_id)
    series = new_oid()
    made = [_ct_image(head, series, number) for number in range(1, images + 1)]
    return [*made, _multi_frame(head)]


def another(image: Dataset) -> FileDataset:
    """One image more in the series of ``image``, with the same pixels."""
    added = Dataset(deepcopy(dict(image)))
    added.SOPInstanceUID = new_oid()
    added.InstanceNumber = int(image.get("InstanceNumber") or 0) + 1
    return _filed(added, image.file_meta.TransferSyntaxUID)


def rejection_note(code: str, images: Sequence[Dataset]) -> FileDataset:
    """A note that takes ``images``, all of one study, out of use for the reason ``code``."""
    note = Dataset()
    for keyword in _OF_THE_STUDY:
        if keyword in images[0]:
            note[keyword] = images[0][keyword]
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECT_SELECTION, new_oid()
    note.SeriesInstanceUID, note.SeriesNumber, note.Modality = new_oid(), 99, "KO"
    note.InstanceNumber, note.Manufacturer = 1, "Kosmos"
    note.ContentDate, note.ContentTime = note.get("StudyDate"), note.get("StudyTime")
    note.ReferencedPerformedProcedureStepSequence = Items()
    note.ValueType, note.ContinuityOfContent = "CONTAINER", "SEPARATE"
    note.ConceptNameCodeSequence = [
        _item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning=REJECTIONS[code])
    ]
    note.ContentTemplateSequence = [_item(MappingResource="DCMR", TemplateIdentifier="2010")]
    series = [
        _item(SeriesInstanceUID=image.SeriesInstanceUID, ReferencedSOPSequence=[_named(image)])
        for image in images
    ]
    note.CurrentRequestedProcedureEvidenceSequence = [
        _item(StudyInstanceUID=note.StudyInstanceUID, ReferencedSeriesSequence=series)
    ]
    note.ContentSequence = [
        _item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[_named(image)])
        for image in images
    ]
    return _filed(note, ExplicitVRLittleEndian)


def part10(dataset: FileDataset) -> bytes:
    """The DICOM file of an instance."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def pixel_digest(dataset: Dataset) -> str:
    """SHA-256 of the pixel data as they are encoded; of nothing where there are none."""
    return sha256(dataset.get("PixelData") or b"").hexdigest()


def _head(patient_id: str) -> Dataset:
    return _item(
        SpecificCharacterSet="ISO_IR 192",
        StudyDate="20250314",
        StudyTime="101500",
        AccessionNumber=f"A{patient_id[-15:]}",
        ReferringPhysicianName="",
        PatientName="TEST^CONFORMANCE",
        PatientID=patient_id,
        PatientBirthDate="19800101",
        PatientSex="F",
        StudyInstanceUID=new_oid(),
        StudyID="1",
        StudyDescription="CONFORMANCE",
    )


def _ct_image(head: Dataset, series: str, number: int) -> FileDataset:
    pixels = b"".join((at * 7 + number * 131).to_bytes(2, "little") for at in range(ROWS * COLUMNS))
    image = _pixels(head, pixels, bits=16)
    image.SOPClassUID, image.SeriesInstanceUID, image.Modality = CT_IMAGE, series, "CT"
    image.SeriesNumber, image.InstanceNumber = 1, number
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.RescaleIntercept, image.RescaleSlope = 0, 1
    return _filed(image, ExplicitVRLittleEndian)


def _multi_frame(head: Dataset) -> FileDataset:
    size = ROWS * COLUMNS
    pixels = bytes((at + at // size * 50) % 251 for at in range(size * FRAMES))
    image = _pixels(head, pixels, bits=8)
    image.SOPClassUID, image.SeriesInstanceUID, image.Modality = MULTI_FRAME, new_oid(), "OT"
    image.SeriesNumber, image.InstanceNumber, image.NumberOfFrames = 2, 1, FRAMES
    image.ConversionType = "SYN"
    return _filed(image, ExplicitVRLittleEndian)


def _pixels(head: Dataset, pixels: bytes, bits: int) -> Dataset:
    image = Dataset(deepcopy(dict(head)))
    image.SOPInstanceUID = new_oid()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = ROWS, COLUMNS
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelRepresentation = 0
    image.PixelData = pixels
    image["PixelData"].VR = "OW" if bits > 8 else "OB"
    return image


def _named(image: Dataset) -> Dataset:
    return _item(
        ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID
    )


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _filed(dataset: Dataset, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    return FileDataset("", dataset, file_meta=meta, preamble=b"\0" * 128)
