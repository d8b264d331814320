"""Where the documents and images of a node lie: folders, or a bucket of an object store."""

from __future__ import annotations

from pathlib import Path

from imaging_source.handover import DistantRecaller
from imaging_source.recalling import Asker, Recalling
from node.config import PID_FOLDER, Settings
from node.config_file import ConfigError, Problem, read_secret
from node.texts import tr
from node.wiring.keys import open_keys
from storage.blobs import BlobStore
from storage.bucket import Bucket
from storage.contract import Blobs
from storage.database import Database
from storage.objects import ObjectStore

# Where attachments arrive that are not put among the documents by a rename.
ARRIVING = "incoming"


def open_blobs(settings: Settings) -> Blobs:
    """The store of the repository's documents; on a node without one, where attachments arrive.

    Raises ConfigError and StorageError.
    """
    place, keys = settings.repository.blobs, open_keys(settings)
    arriving = settings.node.data_dir / ARRIVING
    if not settings.repository.enabled or place is None:
        return BlobStore(arriving, keys=keys)
    if isinstance(place, Path):
        return BlobStore(place, keys=keys)
    return ObjectStore(bucket(settings, place), arriving, keys=keys)


def open_images(settings: Settings) -> BlobStore:
    """The store of the imaging source's files. Raises ConfigError and StorageError."""
    files = settings.imaging_source.files
    assert files is not None  # filled in when the configuration was read
    return BlobStore(files, keys=open_keys(settings))


def open_recalling(settings: Settings, database: Database, asker: Asker) -> Recalling:
    """The same for who shows images: what was evicted is asked for by way of ``asker``.

    Raises ConfigError and StorageError.
    """
    section = settings.imaging_source
    assert section.files is not None  # filled in when the configuration was read
    noting, keys = section.lets_go, open_keys(settings)
    return Recalling(section.files, database, asker, noting=noting, keys=keys)


def distant_recaller(settings: Settings) -> DistantRecaller:
    """The asker of a process that does not write the index; half of its threads may wait."""
    most = max(1, settings.limits.workers // 2)
    folder = settings.node.data_dir / PID_FOLDER
    return DistantRecaller(folder, settings.imaging_source.recall_seconds, most)


def bucket(settings: Settings, url: str) -> Bucket:
    """The bucket at ``url`` with the secrets of their files. Raises ConfigError."""
    section = settings.object_store
    name, prefix = Bucket.split(url)
    return Bucket(
        name,
        prefix,
        section.base_url,
        section.region,
        access_key=_secret("access_key_file", section.access_key_file),
        secret_key=_secret("secret_key_file", section.secret_key_file),
        trust=read_secret(section.trust),
        checksums=section.checksums,
    )


def _secret(key: str, file: Path | None) -> str:
    found = (read_secret(file) or "").strip()
    if not found:
        text = tr("is required where documents lie on an object store")
        raise ConfigError([Problem(str(file or "object_store"), f"object_store.{key}", text)])
    return found
