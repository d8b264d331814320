"""Instances in other transfer syntaxes than their own, made when asked for and kept for a while.

A folder of bounded size, by the SHA-256 of the stored file and the syntax. Nothing in it is the
only copy of anything: it is neither synced nor backed up. The work itself is
``imaging_source.transcoding``, done by ``imaging_source.workers``.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from imaging_source import syntaxes
from imaging_source.workers import Workers, WorkFailed
from storage.blobs import FileContent

_log = structlog.get_logger("kosmos.imaging_source")

# A file used in the last ten minutes may still be on its way to somebody: it is not removed.
IN_USE_SECONDS = 600.0


class NoVariant(Exception):
    """The instance cannot be had in any of the syntaxes asked for."""


@dataclass(frozen=True, slots=True)
class Variant:
    """An instance in another transfer syntax."""

    syntax: str
    content: FileContent


class Variants:
    """Variants in a folder of at most ``limit`` bytes; safe for many threads and processes.

    The folder is a cache: it may be emptied at any time that nobody reads from it.
    """

    def __init__(self, folder: Path, workers: Workers, limit: int) -> None:
        self._folder = folder
        self._workers = workers
        self._limit = limit

    def variant(self, source: Path, sha256: str, stored: str, wanted: Collection[str]) -> Variant:
        """The instance in the first of the syntaxes made here that is ``wanted``.

        Raises NoVariant.
        """
        if stored not in syntaxes.DECODED:
            raise NoVariant(stored)
        for syntax in syntaxes.MADE:
            if syntax in wanted:
                with suppress(WorkFailed):
                    return Variant(syntax, self._made(source, sha256, stored, syntax))
        raise NoVariant(stored)

    def _made(self, source: Path, sha256: str, stored: str, wanted: str) -> FileContent:
        path = self._folder / f"{sha256}-{wanted}"
        try:
            os.utime(path)
        except FileNotFoundError:
            self._make(source, stored, wanted, path)
        return FileContent(path, path.stat().st_size)

    def _make(self, source: Path, stored: str, wanted: str, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._folder / f"{secrets.token_hex(16)}.part"
        try:
            self._workers.run("transcode", str(source), stored, wanted, str(part))
            self._make_room(part.stat().st_size)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

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
