"""The images of the demonstration: real studies that pydicom's wheel carries, or a person's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pydicom
from pynetdicom.dsutils import split_dataset

from node.storescu import DicomFile, find_files

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient as the images name one."""

    identifier: str
    name: str


def sample_folder() -> Path:
    """Where pydicom keeps its test files: CT, MR and CR studies of several patients in
    ``dicomdirtests``, more modalities and transfer syntaxes beside it."""
    return Path(pydicom.__path__[0]) / "data" / "test_files"


def choose(folder: Path) -> list[DicomFile]:
    """The images below ``folder`` that can be published, each SOP Instance once.

    Left out are files that name no patient, series or modality, as a manifest must, and those
    whose meta information is of another instance, as a receiver refuses.
    """
    chosen: dict[str, DicomFile] = {}
    for file in find_files([folder]):
        described = file.patient_id and file.series_instance_uid and file.modality
        if described and file.consistent:
            chosen.setdefault(file.sop_instance_uid, file)
    # Study by study: a source publishes a study that has been quiet for a while.
    return sorted(chosen.values(), key=lambda file: (file.patient_id, file.study_instance_uid))


def patients_of(files: Iterable[DicomFile]) -> list[Patient]:
    """The patients of ``files``, each identifier once."""
    names: dict[str, str] = {}
    for file in files:
        # HL7 separates the alphabetic name's components as DICOM does (PN, PS3.5 6.2).
        names.setdefault(file.patient_id, file.patient_name.partition("=")[0] or "UNKNOWN")
    return [Patient(identifier, name) for identifier, name in names.items()]


def dataset_digest(path: Path) -> str:
    """SHA-256 of a file's data set: what follows the preamble and the meta information.

    C-STORE carries the data set alone (PS3.7 9.1.1), so it is what must come back unchanged;
    the receiver writes a preamble and meta information of its own around it (PS3.10 7.1).
    """
    _, offset = split_dataset(path)
    digest = sha256()
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
