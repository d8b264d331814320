"""``kosmos restore``: a node made anew from a backup, proved before it is called one.

The new node lies where its own ``kosmos.toml`` says, counted from the new folder: what is
relative there is in it, what is absolute (a folder, a PostgreSQL database) must be empty or is
given elsewhere by the environment (``KOSMOS__REGISTRY__DATABASE``). Nothing that exists is
overwritten. Every file is compared with its SHA-256 on its way, the schemas are brought up to
date, and at the end the cross check proves that every document that the registry says is here
has its row and its bytes, and every image that a row names its file. ``kosmos.toml`` gets its
name last: a folder without one was not restored.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node import config_file
from node.backup import FORMAT, MANIFEST, PARTIAL, BackupError, digest, latest
from node.config import Settings
from node.holdings import Files, Place, holds, places, stores
from node.init import CONFIG_FILE
from node.migrate import migrate
from node.progress import Progress, silent
from node.texts import tr
from node.wiring.keys import SEALED_BY, open_keys
from node.wiring.rooms import cross_check
from repository.reconciliation import Reconciliation
from storage.contract import Blobs, Keys
from storage.database import Database
from storage.errors import BlobCorrupt
from storage.files import FileContent
from storage.sealed import SUFFIX, Seal, is_sealed
from storage.snapshot import is_empty, load
from storage.spool import SpooledFile


@dataclass(slots=True)
class Restored:
    """A restored node. ``counts`` are files by store; ``missing_images`` name addresses.

    ``lost`` are the files that the node lacked when it was backed up.
    """

    config: Path
    source: Path
    counts: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    missing_images: list[str] = field(default_factory=list)
    documents: Reconciliation = field(default_factory=Reconciliation)

    @property
    def alarm(self) -> bool:
        """Whether something that was accepted cannot be served."""
        return self.documents.alarm or bool(self.lost or self.missing_images)


def restore(source: Path, folder: Path, progress: Progress = silent) -> Restored:
    """Make a node in ``folder`` from the backup at ``source``, or the newest one in it.

    Raises BackupError where the backup is not whole or something is in the way, ConfigError,
    StorageError and OSError; then ``folder`` holds no node, but perhaps some of its files.
    """
    backup = _find(source)
    manifest = _read(backup)
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(tr("{folder} is not empty", folder=folder))
    _check_listed(backup, manifest)
    settings, partial = _configure(backup, folder)
    _refuse_what_is_there(settings)
    _load_databases(backup, manifest, settings, progress)
    restored = Restored(folder / CONFIG_FILE, backup)
    for store in stores(settings):
        listed = list(_listed(backup, store.name))
        restored.counts[store.name] = len(listed)
        restored.lost += manifest["files"][store.name]["missing"]
        restored.lost += manifest["files"][store.name]["damaged"]
        _load_files(settings, store, listed, progress)
    migrate(settings)
    _prove(settings, restored, progress)
    os.rename(partial, restored.config)
    return restored


def _find(source: Path) -> Path:
    """The folder of the backup: ``source`` itself, or the newest finished one in it."""
    if source.suffix == PARTIAL:
        raise BackupError(tr("{folder} was never finished", folder=source))
    found = source if (source / MANIFEST).exists() else latest(source)
    if found is None:
        raise BackupError(tr("no finished backup in {folder}", folder=source))
    return found


def _read(backup: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((backup / MANIFEST).read_text())
        known = manifest["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        raise BackupError(tr("{file} cannot be read", file=backup / MANIFEST)) from None
    if not known:
        raise BackupError(tr("{file} is of another version of Kosmos", file=backup / MANIFEST))
    return manifest


def _check_listed(backup: Path, manifest: dict[str, Any]) -> None:
    """Everything but the documents and images, which are compared while they are copied."""
    listed = {part["file"]: part["sha256"] for part in manifest["configuration"]}
    listed |= {part["file"]: part["sha256"] for part in manifest["databases"]}
    listed |= {part["list"]: part["sha256"] for part in manifest["files"].values()}
    for name, expected in listed.items():
        file = backup / name
        if not file.exists() or digest(file) != expected:
            raise BackupError(tr("{file} is missing or not what it was", file=file))


def _configure(backup: Path, folder: Path) -> tuple[Settings, Path]:
    """The settings of the new node, and its file under the name it has until the end."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CONFIG_FILE}{PARTIAL}"
    shutil.copyfile(backup / "config" / CONFIG_FILE, partial)
    settings = config_file.load(partial)
    codes = settings.affinity_domain.codes
    if isinstance(codes, Path) and not codes.exists():
        codes.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(backup / "config" / f"codes{codes.suffix}", codes)
    for proof in (backup / "config").glob(f"{SEALED_BY}-*"):
        target = settings.node.data_dir / SEALED_BY / proof.name.removeprefix(f"{SEALED_BY}-")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(proof, target)
    open_keys(settings)  # which keys are missing is told before anything is copied
    return settings, partial


def _refuse_what_is_there(settings: Settings) -> None:
    for place in places(settings):
        if not is_empty(place.url):
            raise BackupError(
                tr(
                    "{place} is not empty: name another in KOSMOS__{actor}__DATABASE",
                    place=place.url.render_as_string(),
                    actor=place.actors[0].upper(),
                )
            )
    for store in stores(settings):
        if not store.is_empty():
            raise BackupError(tr("{folder} is not empty", folder=store.place))


def _load_databases(
    backup: Path, manifest: dict[str, Any], settings: Settings, progress: Progress
) -> None:
    found = places(settings)
    with progress(tr("databases"), len(found)) as step:
        for place in found:
            load(backup / _copy_for(place, manifest), place.url)
            step()


def _copy_for(place: Place, manifest: dict[str, Any]) -> str:
    for part in manifest["databases"]:
        if tuple(part["actors"]) == place.actors and part["backend"] == place.backend:
            name: str = part["file"]
            return name
    raise BackupError(
        tr(
            "the backup has no {backend} database of {actors} alone",
            backend=place.backend,
            actors=", ".join(place.actors),
        )
    )


def _listed(backup: Path, name: str) -> Iterator[tuple[str, Path]]:
    """SHA-256 and place of every file of one store."""
    with (backup / f"{name}.sha256").open() as lines:
        for line in lines:
            hashed, _, relative = line.rstrip("\n").partition("  ")
            yield hashed, backup / relative


def _load_files(
    settings: Settings, store: Files, listed: list[tuple[str, Path]], progress: Progress
) -> None:
    blobs, keys = store.open(), open_keys(settings)
    with progress(store.title(), len(listed)) as step:
        for hashed, file in listed:
            received = _received(blobs, file, hashed, keys)
            if received is None:
                raise BackupError(tr("{file} is missing or not what it was", file=file))
            blobs.keep(received)
            step()


def _received(blobs: Blobs, file: Path, hashed: str, keys: Keys | None) -> SpooledFile | None:
    """The file in the store, not kept yet; None where it is not what it was.

    One that is sealed is opened and sealed anew, if its node seals; its tags and its address prove
    it. Raises StorageError.
    """
    address = file.name.removesuffix(SUFFIX)
    if not file.exists() or (address == file.name and hashed != address):
        return None
    if is_sealed(file) and keys is None:
        raise BackupError(tr("{file} is sealed: at_rest.keys must name its keys", file=file))
    seal = None if keys is None else Seal(keys.keeper, address)
    try:
        received = blobs.receive(FileContent.at(file, seal))
    except BlobCorrupt:
        return None
    if received.sha256 == address:
        return received
    received.discard()
    return None


def _prove(settings: Settings, restored: Restored, progress: Progress) -> None:
    """The cross check: documents by their entries and rows, images by their rows."""
    if settings.repository.enabled:
        restored.documents = cross_check(settings, progress)
    with ExitStack() as stack:
        databases = {
            actor: stack.enter_context(Database.open(place.url, read_only=True))
            for place in places(settings)
            for actor in place.actors
        }
        for store in stores(settings):
            if store.actor == "imaging_source":
                blobs = store.open()
                with databases[store.actor].read() as connection:
                    restored.missing_images = [
                        address
                        for address, size in store.named(connection)
                        if not holds(blobs, address, size)
                    ]
