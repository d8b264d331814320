"""Media of a node: studies out, images in, whether it serves or not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import select

from imaging_source import media
from imaging_source.importing import Imported, Importer, Journal, sources
from imaging_source.intake import Door, Intake
from imaging_source.reconciliation import (
    UNREADABLE,
    Identities,
    Identity,
    read_table,
    reconciled_at,
)
from imaging_source.schema import INSTANCE
from metadata.datatypes import CX
from node.config import Settings
from node.config_file import ConfigError, Problem
from node.config_imaging import ImagingSourceSection
from node.migrate import open_database, script_location
from node.progress import Progress
from node.supervisor import running
from node.texts import tr
from node.wiring.blobs import distant_recaller, open_images, open_recalling
from node.wiring.pictures import intake
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError
from storage.files import stream

# Below the data folder: files that could not be imported, and how far imports have come.
QUARANTINE, JOURNALS = "quarantine", "imports"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    files: int
    bytes: int


def export(
    settings: Settings, studies: Sequence[str], target: Path, progress: Progress
) -> Exported:
    """Write studies to ``target``, a ZIP if it is called so, else a folder.

    Raises NothingToExport, ConfigError, StorageError and OSError.
    """
    with open_database(_source(settings), "imaging_source", read_only=True) as database:
        blobs = open_recalling(settings, database, distant_recaller(settings))
        files = media.entries(database, blobs, studies)
        write = media.write_zip if target.suffix.lower() == ".zip" else media.write_folder
        with progress(tr("files"), len(files)) as step:
            write(files, target, step)
    return Exported(len(files), sum(one.size for one in files))


def identities(settings: Settings, everyone: CX | None, table: Path | None) -> Identities:
    """Whose imported images are. Raises ValueError naming a line of the table."""
    if everyone is not None:
        return Identities(everyone=Identity(everyone.id, everyone.assigning_authority.universal_id))
    if table is not None:
        oid = settings.affinity_domain.assigning_authority
        return Identities(table=read_table(table, oid))
    return Identities()


def import_(settings: Settings, path: Path, whose: Identities, progress: Progress) -> Imported:
    """Take in what is at ``path``. Raises TooLarge, zipfile.BadZipFile, ConfigError,
    StorageError and OSError."""
    data = settings.node.data_dir
    room = shutil.disk_usage(_files(settings).parent).free
    with (
        _door(settings) as door,
        open_database(_source(settings), "imaging_source", read_only=True) as index,
        sources(path, room) as files,
    ):
        journal = Journal.of(path, data / JOURNALS)
        earlier = partial(_reconciled_at, index, open_images(settings))
        importer = Importer(door, whose, data / QUARANTINE, journal, earlier)
        complete = False
        try:
            with progress(tr("files"), len(files)) as step:
                done = importer.run(files, step)
            complete = not done.reasons
        finally:
            journal.close(complete=complete)
    return done


def _reconciled_at(index: Database, blobs: BlobStore, uid: str) -> str | None:
    """When an instance that is here came under another identity, if it did."""
    query = select(INSTANCE.c.sha256).where(INSTANCE.c.sop_instance_uid == uid)
    with index.read() as connection:
        sha256 = connection.execute(query).scalar()
    if sha256 is None:
        return None
    try:
        with stream(blobs.open(sha256).content.reference()) as file:
            return reconciled_at(file)
    except (StorageError, *UNREADABLE):  # evicted, or in pieces: what comes is judged as it is
        return None


@contextmanager
def _door(settings: Settings) -> Iterator[Door]:
    """The index: by way of the process that writes it, or in this one while the node rests."""
    if running(settings) is not None:
        yield intake(settings)
        return
    with (
        open_database(_source(settings), "imaging_source") as database,
        script_location("imaging_source") as scripts,
    ):
        database.migrate(scripts)
        yield Intake(database, open_images(settings))


def _source(settings: Settings) -> ImagingSourceSection:
    if not settings.imaging_source.enabled:
        text = tr("this node is no imaging source")
        raise ConfigError([Problem("imaging_source", "enabled", text)])
    return settings.imaging_source


def _files(settings: Settings) -> Path:
    files = settings.imaging_source.files
    assert files is not None  # filled in when the configuration was read
    files.parent.mkdir(parents=True, exist_ok=True)
    return files
