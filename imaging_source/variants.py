"""Instances in other transfer syntaxes than their own, made when asked for and kept for a while.

A folder of bounded size, by the SHA-256 of the stored file and the syntax. Nothing in it is the
only copy of anything: it is neither synced nor backed up. The work itself is
``imaging_source.transcoding``, done by ``imaging_source.workers``.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog

from imaging_source import syntaxes
from imaging_source.coercion import coerced
from imaging_source.elements import Unreadable
from imaging_source.parts import Part
from imaging_source.workers import Workers, WorkFailed
from storage.contract import Keys
from storage.errors import BlobCorrupt, BlobMissing, BlobStoreBusy, BlobStoreUnavailable
from storage.files import FileContent, Reference
from storage.keys import KEY_BYTES
from storage.sealed import SUFFIX, Seal, Sealer

_log = structlog.get_logger("kosmos.imaging_source")

# A file used in the last ten minutes may still be on its way to somebody: it is not removed.
IN_USE_SECONDS = 600.0


class NoVariant(Exception):
    """The instance cannot be had in any of the syntaxes asked for."""


def _reference(source: Part) -> Reference:
    """What leads a worker to the file. Raises WorkFailed where there is none that can be read."""
    try:
        return source.content.reference()
    except (BlobMissing, BlobCorrupt, BlobStoreBusy, BlobStoreUnavailable) as error:
        raise WorkFailed(type(error).__name__) from error


class Variants:
    """Variants in a folder of at most ``limit`` bytes; safe for many threads and processes.

    The folder is a cache: it may be emptied at any time that nobody reads from it.
    """

    def __init__(
        self, folder: Path, workers: Workers, limit: int, keys: Keys | None = None
    ) -> None:
        self.workers = workers
        self._keeper = keys.keeper if keys is not None and keys.sealing else None
        self._folder = folder
        self._limit = limit
        # Processes do the work: here it is only waited for.
        self._waiting = ThreadPoolExecutor(os.cpu_count(), "transcoding")

    def part(self, part: Part, wanted: Collection[str]) -> Part:
        """The instance in the first of the syntaxes made here that is ``wanted``.

        What was corrected of its patient is corrected in it too. Its row has that syntax, and a
        ``sha256`` that is no address but tells it from all others. Raises NoVariant.
        """
        stored, sha256 = part.row["transfer_syntax_uid"], part.row["sha256"]
        if stored not in syntaxes.DECODED:
            raise NoVariant(stored)
        for syntax in syntaxes.MADE:
            if syntax in wanted:
                with suppress(WorkFailed, Unreadable):
                    name = f"{sha256}-{syntax}"
                    made = self._made(name, "transcode", part, syntax)
                    content = coerced(part.correction, made, syntax)
                    row = {**part.row, "transfer_syntax_uid": syntax, "sha256": name}
                    return Part(row, content, part.correction)
        raise NoVariant(stored)

    def each(self, parts: Iterable[Part], wanted: Collection[str]) -> list[Part | None]:
        """Every part in a syntax ``wanted``, as stored where it is one; several at a time."""

        def one(part: Part) -> Part | None:
            if part.row["transfer_syntax_uid"] in wanted:
                return part
            try:
                return self.part(part, wanted)
            except NoVariant:
                return None

        return list(self._waiting.map(one, parts))

    def anonymous(self, part: Part, key: str) -> Part:
        """The instance without what names its patient, as ``imaging_source.anonymous`` has it.

        ``key`` is a secret that new UIDs are made with. Raises NoVariant.
        """
        name = f"{part.row['sha256']}-{hashlib.sha256(key.encode()).hexdigest()}"
        try:
            return Part({**part.row, "sha256": name}, self._made(name, "anonymize", part, key))
        except WorkFailed as failed:
            raise NoVariant from failed

    def _made(self, name: str, job: str, part: Part, argument: str) -> FileContent:
        seal = None if self._keeper is None else Seal(self._keeper, name)
        path = self._folder / (name if seal is None else name + SUFFIX)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._make(path, job, part, argument)
        return FileContent.at(path, seal)

    def _make(self, path: Path, job: str, source: Part, argument: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._folder / f"{secrets.token_hex(16)}.part"
        stored = source.row["transfer_syntax_uid"]
        try:
            target = self._target(part, path)
            self.workers.run(job, _reference(source), stored, argument, target)
            self._make_room(part.stat().st_size)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _target(self, part: Path, path: Path) -> Reference:
        """Where a worker writes what becomes ``path``, and how it seals it."""
        if self._keeper is None:
            return str(part)
        data_key = os.urandom(KEY_BYTES)
        header = Sealer(self._keeper, data_key).header(path.name.removesuffix(SUFFIX))
        return [str(part), data_key.hex(), header.hex()]

    def _make_room(self, size: int) -> None:
        """Remove what nobody has used for long. Raises WorkFailed if that is not enough."""
        files = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # removed by another process
                state = entry.stat()
                files.append((state.st_mtime, state.st_size, entry.path))
        kept = sum(one for _, one, _ in files)
        spare = time.time() - IN_USE_SECONDS
        for used, one, path in sorted(files):
            if kept <= self._limit or used >= spare:
                break
            Path(path).unlink(missing_ok=True)
            kept -= one
        if kept > self._limit:
            _log.warning("no room for a transcoded instance", code="imaging-variants", size=size)
            raise WorkFailed("the folder of transcoded instances is full of what is in use")
