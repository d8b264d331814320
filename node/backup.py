"""``kosmos backup``: a copy of a node that belongs together, taken while it serves.

A backup is one folder below the target::

    20261126T035100Z/
        manifest.json       what was copied, from which node, with the SHA-256 of every file
        databases/          registry.db ... or registry.dump ... (pg_dump)
        documents.sha256    the files of documents/, as sha256sum checks them
        documents/ab/...    the bytes, by address
        images.sha256, images/ab/...
        config/             kosmos.toml and the code sets; no keys, no passwords

What is sealed at rest is copied as it is, under its name with ``.sealed``.

The databases are held still together (``storage.snapshot``), the registry's first; the files
are copied after them. A document is durable before its row is, and its row before the registry
hears of it: so every document that the registry of a backup knows is in the backup, whatever
happens meanwhile, unless an administrator removes it (ITI-86). Files never change: one that the
backup before has is linked, not copied. Documents on an object store are copied out of it.

The folder has another name until all of it is durable, so that half a backup is never taken
for one. ``node.restore`` is the way back.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from node.config import Settings
from node.holdings import Files, Place, places, stores
from node.progress import Progress, silent
from node.texts import tr
from node.version import kosmos_version
from node.wiring.keys import SEALED_BY, used
from storage.contract import KeptBlob
from storage.database import Database
from storage.errors import BlobCorrupt, BlobMissing
from storage.folders import sync_folder
from storage.sealed import SUFFIX, read_header, stored_size
from storage.snapshot import Snapshot, hold, is_empty

FORMAT = 1
MANIFEST = "manifest.json"
PARTIAL = ".partial"


class BackupError(Exception):
    """No backup can be made or restored here; the text says why and what to do."""


@dataclass(slots=True)
class Copied:
    """The files of one blob store in a backup; the lists name addresses.

    ``linked`` of the ``count`` files were in the backup before. ``missing`` and ``damaged``
    are files that rows name and the node has not, or not as they were.
    """

    count: int = 0
    bytes: int = 0
    linked: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Backup:
    """A finished backup: where it is, and what is in it."""

    folder: Path
    made_at: str
    databases: list[dict[str, Any]] = field(default_factory=list)
    stores: dict[str, Copied] = field(default_factory=dict)

    @property
    def alarm(self) -> bool:
        """Whether the node itself lacks bytes that it has accepted."""
        return any(store.missing or store.damaged for store in self.stores.values())


def create(settings: Settings, config: Path, target: Path, progress: Progress = silent) -> Backup:
    """Back the node of ``settings``, read from ``config``, up into a new folder of ``target``.

    Raises BackupError, ConfigError, StorageError, and OSError where ``target`` fails; then
    nothing is left behind.
    """
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(target):
        made_at = datetime.now(UTC)
        final = target / f"{made_at:%Y%m%dT%H%M%SZ}"
        if final.exists():
            raise BackupError(tr("{folder} is there already: wait a second", folder=final))
        before = latest(target)
        working = final.with_name(final.name + PARTIAL)
        try:
            working.mkdir(mode=0o700)
            backup = Backup(final, made_at.isoformat(timespec="seconds"))
            _fill(backup, settings, working, before, progress)
            kept = _configuration(settings, config, working / "config")
            _write_manifest(backup, settings, working, kept)
            os.rename(working, final)
        except BaseException:
            shutil.rmtree(working, ignore_errors=True)
            raise
        sync_folder(target)
    return backup


def latest(target: Path) -> Path | None:
    """The newest finished backup in ``target``; None where there is none."""
    finished = [file.parent for file in target.glob(f"*/{MANIFEST}") if file.parent.suffix == ""]
    return max(finished, key=lambda folder: folder.name, default=None)


def digest(file: Path) -> str:
    """The SHA-256 of a file, in lower-case hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One backup into a target at a time; what a dead one has left behind goes."""
    with (target / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(
                tr("another backup into {folder} is running", folder=target)
            ) from None
        for dead in target.glob(f"*{PARTIAL}"):
            shutil.rmtree(dead)
        yield


def _fill(
    backup: Backup, settings: Settings, folder: Path, before: Path | None, progress: Progress
) -> None:
    """Copy databases and files; what is held still is given back at the end."""
    with ExitStack() as stack:
        held = _hold(settings, stack)
        with progress(tr("databases"), len(held)) as step:
            for place, snapshot in held:
                backup.databases.append(_database(snapshot, place.actors, folder))
                step()
        for store in stores(settings):
            [rows] = [snapshot for place, snapshot in held if store.actor in place.actors]
            copier = _Copier(store, folder, before)
            with progress(store.title(), store.count(rows.connection)) as step:
                for address, size in store.named(rows.connection):
                    copier.copy(address, size)
                    step()
            backup.stores[store.name] = copier.finish()


def _hold(settings: Settings, stack: ExitStack) -> list[tuple[Place, Snapshot]]:
    """Every database of the node, held still until ``stack`` is closed."""
    found = places(settings)
    for place in found:
        if is_empty(place.url):
            name = place.url.render_as_string()
            raise BackupError(tr("{place} is empty: there is nothing to back up", place=name))
    databases = [stack.enter_context(Database.open(place.url, read_only=True)) for place in found]
    return list(zip(found, stack.enter_context(hold(databases)), strict=True))


def _database(snapshot: Snapshot, actors: tuple[str, ...], folder: Path) -> dict[str, Any]:
    backend = snapshot.database.backend
    name = f"{actors[0]}.{'db' if backend == 'sqlite' else 'dump'}"
    file = folder / "databases" / name
    file.parent.mkdir(exist_ok=True, mode=0o700)
    snapshot.copy(file)
    return {
        "file": f"databases/{name}",
        "actors": list(actors),
        "backend": backend,
        "bytes": file.stat().st_size,
        "sha256": digest(file),
    }


class _Copier:
    """Copies the files of one store into a backup, or links them from the one before."""

    def __init__(self, store: Files, folder: Path, before: Path | None) -> None:
        self._store = store
        self._blobs = store.open()
        self._folder = folder / store.name
        self._before = before / store.name if before else None
        self._result = Copied()
        self._folder.mkdir(mode=0o700)
        self._list = (folder / f"{store.name}.sha256").open("w")

    def copy(self, address: str, size: int) -> None:
        """Bring one file over."""
        target = self._folder / address[:2] / address
        target.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            if self._linked(target, size):
                self._result.linked += 1
                digest = address
            else:
                target, digest = self._copied(target)
        except BlobCorrupt:
            self._result.damaged.append(address)
            return
        except BlobMissing:
            self._result.missing.append(address)
            return
        self._result.count += 1
        self._result.bytes += size
        self._list.write(f"{digest}  {self._store.name}/{target.relative_to(self._folder)}\n")

    def _copied(self, target: Path) -> tuple[Path, str]:
        """Copy a file as it lies, or link it sealed; its place and SHA-256."""
        blob = self._blobs.open(target.name)
        if not blob.sealed:
            return target, _write(blob.as_stored(), target)
        target = target.with_name(target.name + SUFFIX)
        if self._linked_sealed(blob, target):
            self._result.linked += 1
            return target, digest(target)
        return target, _write(blob.as_stored(), target)

    def finish(self) -> Copied:
        """What was copied, once all of it is durable."""
        self._list.flush()
        os.fsync(self._list.fileno())
        self._list.close()
        for folder in (*self._folder.iterdir(), self._folder):
            sync_folder(folder)
        return self._result

    def _linked(self, target: Path, size: int) -> bool:
        """Whether the backup before has the file, of this size, and it could be linked."""
        if self._before is None:
            return False
        before = self._before / target.relative_to(self._folder)
        with suppress(OSError):  # not there, or a file system that knows no links
            if before.stat().st_size == size:
                os.link(before, target)
                return True
        return False

    def _linked_sealed(self, blob: KeptBlob, target: Path) -> bool:
        """The same for a sealed file: it is the one from before if its header is."""
        if self._before is None:
            return False
        before = self._before / target.relative_to(self._folder)
        with suppress(OSError):
            same = read_header(before) == blob.header()
            return same and self._linked(target, stored_size(blob.size))
        return False


def _write(pieces: Iterable[bytes], target: Path) -> str:
    """Write a file durably; its SHA-256. What cannot be written whole leaves nothing."""
    hashed = hashlib.sha256()
    try:
        with target.open("wb") as file:
            for piece in pieces:
                hashed.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return hashed.hexdigest()


def _configuration(settings: Settings, config: Path, folder: Path) -> list[dict[str, str]]:
    """Keep kosmos.toml, the code sets and what tells the right keys; their names and hashes."""
    folder.mkdir(mode=0o700)
    files = {"kosmos.toml": config}
    sealed_by = settings.node.data_dir / SEALED_BY
    files |= {f"{SEALED_BY}-{key_id}": sealed_by / key_id for key_id in used(sealed_by)}
    if isinstance(settings.affinity_domain.codes, Path):
        files[f"codes{settings.affinity_domain.codes.suffix}"] = settings.affinity_domain.codes
    for name, file in files.items():
        _write([file.read_bytes()], folder / name)
    return [{"file": f"config/{name}", "sha256": digest(folder / name)} for name in files]


def _write_manifest(
    backup: Backup, settings: Settings, folder: Path, configuration: list[dict[str, str]]
) -> None:
    lists = {name: digest(folder / f"{name}.sha256") for name in backup.stores}
    content = {
        "format": FORMAT,
        "kosmos": kosmos_version(),
        "made_at": backup.made_at,
        "node": {
            "name": settings.node.name,
            "home_community_id": settings.node.home_community_id,
            "repository": settings.repository.unique_id,
            "imaging_source": settings.imaging_source.unique_id,
        },
        "databases": backup.databases,
        "configuration": configuration,
        "files": {
            name: {"list": f"{name}.sha256", "sha256": lists[name], **asdict(copied)}
            for name, copied in backup.stores.items()
        },
    }
    with (folder / MANIFEST).open("w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    for made in (folder / "databases", folder / "config", folder):
        sync_folder(made)
