"""Studies on a medium: a folder or a ZIP that other systems read (PS3.10 8, IHE PDI, RAD-47).

``DICOMDIR`` beside a folder ``DICOM`` with a folder for each study and series, an ``INDEX.HTM`` and
a ``README.TXT`` for people. Files leave as they are stored, save what was corrected of their
patient, their hash proved on the way. A medium appears under its name when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import Connection, RowMapping, select

from imaging_source import dicomdir
from imaging_source.coercion import Leaving
from imaging_source.corrections import Correction, corrections_of
from imaging_source.description.worker import description_of
from imaging_source.parts import ask_for, locate, under
from imaging_source.schema import SERIES, STUDY
from imaging_source.stored_zip import Entry, archive
from soap.message import InMemory, read
from storage.blobs import Blob, BlobStore
from storage.database import Database
from storage.errors import BlobMissing
from storage.files import FileContent

_README = (
    "This medium holds medical images by DICOM. Open the file DICOMDIR with a DICOM viewer.\r\n"
    "Ce support contient des images médicales DICOM. Ouvrez le fichier DICOMDIR avec une "
    "visionneuse DICOM.\r\n"
)
_INDEX = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>DICOM</title></head><body>'
    "<p>This medium holds medical images by DICOM: open the file DICOMDIR with a DICOM viewer.</p>"
    '<p lang="fr">Ce support contient des images médicales DICOM : ouvrez le fichier DICOMDIR avec '
    "une visionneuse DICOM.</p></body></html>"
)


class NothingToExport(Exception):
    """No instance of a study is shown here."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What is on the medium."""

    studies: int
    instances: int
    bytes: int


def entries(database: Database, blobs: BlobStore, studies: Sequence[str]) -> list[Entry]:
    """The files of a medium, the DICOMDIR first.

    Raises NothingToExport naming the study, BlobMissing, Away, StorageError.
    """
    ask_for(blobs, studies)
    files: list[Entry] = []
    patients: dict[tuple[str, str], dicomdir.Record] = {}
    with database.read() as connection:
        for number, uid in enumerate(studies, 1):
            row = connection.execute(select(STUDY).where(STUDY.c.study_instance_uid == uid))
            instances = under(connection, uid)
            study = row.mappings().first()
            if study is None or not instances:
                raise NothingToExport(uid)
            key = (study["patient_id"], study["issuer_oid"])
            patient = patients.setdefault(key, dicomdir.patient_record(study))
            record = dicomdir.study_record(study)
            patient.below.append(record)
            place = f"DICOM/ST{number:06}"
            correction = corrections_of(connection, [uid]).get(uid)
            files += _series(connection, blobs, record, place, instances, correction)
    directory = dicomdir.dicomdir(list(patients.values()), generate_uid())
    return [
        Entry("DICOMDIR", InMemory(directory)),
        Entry("README.TXT", InMemory(_README.encode())),
        Entry("INDEX.HTM", InMemory(_INDEX.encode())),
        *files,
    ]


def _series(
    connection: Connection,
    blobs: BlobStore,
    study: dicomdir.Record,
    place: str,
    instances: Sequence[RowMapping],
    correction: Correction | None,
) -> Iterator[Entry]:
    by_series = groupby(instances, key=lambda row: row["series_instance_uid"])
    for number, (uid, rows) in enumerate(by_series, 1):
        query = select(SERIES).where(SERIES.c.series_instance_uid == uid)
        record = dicomdir.series_record(connection.execute(query).mappings().one(), number)
        study.below.append(record)
        for count, row in enumerate(rows, 1):
            name = f"{place}/SE{number:06}/IM{count:06}"
            part = locate(blobs, row, correction)
            if part is None:
                raise BlobMissing(row["sha256"])
            attributes = _attributes(blobs, row)
            record.below.append(dicomdir.instance_record(row, attributes, name, count))
            content = _Proved(blobs.open(row["sha256"]), part.content)
            yield Entry(name, content, row["received_at"])


@dataclass(frozen=True, slots=True)
class _Proved:
    """What leaves of a file, its hash proved on the way; before it where something is corrected."""

    blob: Blob
    leaving: Leaving

    @property
    def size(self) -> int:
        return self.leaving.size

    def chunks(self) -> Iterator[bytes]:
        if isinstance(self.leaving, FileContent):
            yield from self.blob.chunks()
            return
        self.blob.verified()
        yield from self.leaving.chunks()


def _attributes(blobs: BlobStore, row: RowMapping) -> dict[str, Any]:
    """What the record of an object that is no image needs to know of it."""
    if dicomdir.record_type(row["sop_class_uid"]) == "IMAGE":
        return {}
    return description_of(blobs, row).attributes


def write_zip(files: Sequence[Entry], target: Path, step: Callable[[], object]) -> None:
    """The files as one ZIP. Raises FileExistsError, OSError, BlobCorrupt."""
    if target.exists():
        raise FileExistsError(17, "already there", str(target))
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as out:
            for piece in read(archive([_counted(one, step) for one in files])):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def write_folder(files: Sequence[Entry], target: Path, step: Callable[[], object]) -> None:
    """The files in a folder, which is new or empty. The DICOMDIR is written last."""
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(17, "not empty", str(target))
    for one in [*files[1:], files[0]]:
        path = target / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            for piece in one.content.chunks():
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        step()


@dataclass(frozen=True, slots=True)
class _Counted:
    """Content that tells when it has been read for the first time."""

    entry: Entry
    step: Callable[[], object]

    @property
    def size(self) -> int:
        return self.entry.size

    def chunks(self) -> Iterator[bytes]:
        yield from self.entry.content.chunks()
        self.step()


def _counted(entry: Entry, step: Callable[[], object]) -> Entry:
    return Entry(entry.name, _Counted(entry, step), entry.at)
