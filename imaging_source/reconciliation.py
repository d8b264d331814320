"""Images from elsewhere under the identity that a patient has here (IHE IRWF.b, import).

Only where the person who imports says so: the identifying attributes of the data set are replaced
and those it came with are kept in its Original Attributes Sequence (0400,0561). All other elements
keep their bytes, pixels are copied as they are. The same image under the same identity has the same
bytes, whenever it is imported: the time of the first import is that of the later ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from imaging_source.coercion import REASON, SYSTEM
from imaging_source.part10 import Meta

_IDENTITY = ("PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")
# From here on the bytes are copied: pixels and what may come behind them.
_PIXEL_GROUP = 0x7FE0

# What makes a data set unreadable, for pydicom, that our own walk took.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError, OSError)


@dataclass(frozen=True, slots=True)
class Identity:
    """A patient of the domain; the parts of a CX (HL7 2.5 2.A.14)."""

    patient_id: str
    issuer_oid: str


@dataclass(frozen=True, slots=True)
class Identities:
    """Whose the images are: all of one patient, or by the identifier they came with."""

    everyone: Identity | None = None
    table: Mapping[str, Identity] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether images keep the identity that they came with."""
        return self.everyone is None and self.table is None

    def of(self, patient_id: str) -> Identity | None:
        """The identity here of who has ``patient_id`` there; None where the table lacks it."""
        return self.everyone or (self.table or {}).get(patient_id)


class UnknownPatient(Exception):
    """The table has no identity for the patient of an image."""


def now() -> str:
    """The time, as DICOM writes it (DT)."""
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def reconciled_at(file: BinaryIO) -> str | None:
    """When the identity in a stored file was replaced, if it was. Raises as ``reconcile`` does."""
    with warnings.catch_warnings(action="ignore"):  # which would quote values
        dataset = dcmread(file, specific_tags=["OriginalAttributesSequence"])
    for item in reversed(dataset.get("OriginalAttributesSequence", [])):
        if item.get("ModifyingSystem") == SYSTEM:
            return str(item.AttributeModificationDateTime)
    return None


def reconcile(file: BinaryIO, meta: Meta, identities: Identities, when: str) -> bytes:
    """The data set of ``file`` up to its pixels under another identity; the rest is left to read.

    ``when`` is the time that is noted of it. Raises UnknownPatient, and what is in UNREADABLE for
    what pydicom cannot read.
    """
    implicit = meta.transfer_syntax_uid == "1.2.840.10008.1.2"
    little = meta.transfer_syntax_uid != "1.2.840.10008.1.2.2"
    with warnings.catch_warnings(action="ignore"):  # which would quote values
        dataset = read_dataset(file, implicit, little, stop_when=_is_pixels)
        identity = identities.of(str(dataset.get("PatientID", "")))
        if identity is None:
            raise UnknownPatient
        _replace(dataset, identity, when)
        return _encoded(dataset, implicit=implicit, little=little)


def _is_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group >= _PIXEL_GROUP


def _encoded(dataset: Dataset, *, implicit: bool, little: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = implicit
    buffer.is_little_endian = little
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _replace(dataset: Dataset, identity: Identity, when: str) -> None:
    original = Dataset()
    for keyword in _IDENTITY:
        if keyword in dataset:
            original[keyword] = dataset[keyword]
            del dataset[keyword]
    item = Dataset()
    item.ModifiedAttributesSequence = Sequence([original])
    item.AttributeModificationDateTime = when
    item.ModifyingSystem = SYSTEM
    item.SourceOfPreviousValues = ""
    item.ReasonForTheAttributeModification = REASON
    earlier = list(dataset.get("OriginalAttributesSequence", []))
    dataset.OriginalAttributesSequence = Sequence([*earlier, item])
    dataset.PatientID = identity.patient_id
    qualifiers = Dataset()
    qualifiers.UniversalEntityID = identity.issuer_oid
    qualifiers.UniversalEntityIDType = "ISO"
    dataset.IssuerOfPatientIDQualifiersSequence = Sequence([qualifiers])


def read_table(path: Path, issuer_oid: str) -> dict[str, Identity]:
    """A table of lines ``identifier there,identifier here``. Raises ValueError naming the line."""
    table: dict[str, Identity] = {}
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        there, comma, here = (part.strip() for part in line.replace(";", ",").partition(","))
        if not comma or not there or not here or table.get(there, here) != here:
            raise ValueError(str(number))
        table[there] = Identity(here, issuer_oid)
    return table
