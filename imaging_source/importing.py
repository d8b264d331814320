"""Import of media: folders, single files, ZIP archives (a DICOMDIR means its folder).

Every file is looked at; names and extensions mean nothing, and no name of an archive is ever used
as a path. What is no DICOM file is passed over, what is one but cannot be taken in is put aside
with a note of why. Rows are committed in groups, and a journal tells which files are done, so that
an import that broke off goes on where it was; what was put aside is tried again. Imported
twice, an instance is stored once.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from imaging_source.dicomdir import DIRECTORY
from imaging_source.elements import Unreadable
from imaging_source.index import Arrived
from imaging_source.intake import Door, Refused
from imaging_source.part10 import META_LIMIT_BYTES, FileArrival, Meta, read_meta
from imaging_source.reconciliation import UNREADABLE, Identities, UnknownPatient, now, reconcile

SENDER = "IMPORT"

# Instances whose rows are committed together.
GROUP = 64
_PIECE = 1024 * 1024
_MAGIC = b"DICM"
_ARCHIVE = b"PK\x03\x04"

STORED, DUPLICATE, OTHER, FAILED = "stored", "duplicate", "not DICOM", "failed"
"""What becomes of a file; a verdict of the index that means quarantine is told by its own name."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file of a folder: its name for people, and what changes when it changes."""

    path: Path
    name: str
    state: str

    def open(self) -> BinaryIO:
        """Its bytes; OSError where they cannot be had."""
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class InArchive:
    """A file of a ZIP: likewise."""

    archive: zipfile.ZipFile
    entry: zipfile.ZipInfo
    name: str
    state: str

    def open(self) -> BinaryIO:
        """Its bytes; zipfile.BadZipFile or RuntimeError where they cannot be had."""
        return self.archive.open(self.entry)  # type: ignore[return-value]  # a file for reading


Source = OnDisk | InArchive


class TooLarge(Exception):
    """An archive claims more bytes than there is room for."""


@contextmanager
def sources(path: Path, room: int) -> Iterator[list[Source]]:
    """The files at ``path``: a folder, a DICOMDIR, an archive or one file.

    Raises TooLarge for an archive that unpacks to more than ``room`` bytes, zipfile.BadZipFile
    for what begins as one and lacks its directory, OSError.
    """
    if path.is_file() and (zipfile.is_zipfile(path) or _begins_as_archive(path)):
        with zipfile.ZipFile(path) as archive:
            entries = [one for one in archive.infolist() if not one.is_dir()]
            if sum(one.file_size for one in entries) > room:
                raise TooLarge
            yield [InArchive(archive, one, one.filename, f"{one.CRC}") for one in entries]
        return
    if path.name.upper() == "DICOMDIR":
        path = path.parent
    files = [path] if path.is_file() else _walk(path)
    yield [_on_disk(one, path) for one in files]


def _begins_as_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def _walk(folder: Path) -> list[Path]:
    """Regular files in a fixed order; links are not followed, for they lead elsewhere."""
    return sorted(
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if not (Path(place) / name).is_symlink() and (Path(place) / name).is_file()
    )


def _on_disk(file: Path, root: Path) -> OnDisk:
    state = file.stat()
    name = str(file.relative_to(root)) if file != root else file.name
    return OnDisk(file, name, f"{state.st_size}-{state.st_mtime_ns}")


@dataclass(slots=True)
class Imported:
    """What became of the files: counts by outcome, and the reason for each that failed."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    studies: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Importer:
    """Takes files in through ``door``; ``aside`` is the folder for what cannot be taken."""

    door: Door
    identities: Identities
    aside: Path
    journal: Journal
    earlier: Callable[[str], str | None] = lambda _uid: None
    """When an instance that is here came under another identity, if it did."""
    done: Imported = field(default_factory=Imported)
    _now: str = field(default_factory=now)
    _kept: list[tuple[Source, Arrived]] = field(default_factory=list)

    def run(self, files: list[Source], step: Callable[[], object]) -> Imported:
        """Import the files that are not done. Raises StorageError: then run it again."""
        for one in files:
            if self.journal.has(one):
                self.done.counts["done before"] += 1
            else:
                self._take(one)
            step()
        self._commit()
        return self.done

    def _take(self, source: Source) -> None:
        try:
            with source.open() as file:
                arrived = self._arrived(file)
        except (Refused, UnknownPatient, *UNREADABLE, zipfile.BadZipFile, RuntimeError) as error:
            self._put_aside(source, _reason(error))
            return
        if arrived is None:
            self._tell(source, OTHER)
            return
        self._kept.append((source, arrived))
        if len(self._kept) >= GROUP:
            self._commit()

    def _arrived(self, file: BinaryIO) -> Arrived | None:
        """The instance, its file durable; None for what is none. Raises Refused."""
        head = _head(file)
        meta = _meta(head)
        if head[128:132] != _MAGIC or (meta is not None and meta.sop_class_uid == DIRECTORY):
            return None
        arrival = FileArrival(self.door, SENDER)
        try:
            arrival.write(self._beginning(file, head, meta))
            while piece := file.read(_PIECE):
                arrival.write(piece)
            return arrival.keep()
        except BaseException:
            arrival.abort()
            raise

    def _beginning(self, file: BinaryIO, head: bytes, meta: Meta | None) -> bytes:
        """What comes before the rest of the file: as it is, or under another identity."""
        if self.identities.is_empty or meta is None:  # such a head refuses its file
            return head
        file.seek(meta.end)
        when = self.earlier(meta.sop_instance_uid) or self._now
        return head[: meta.end] + reconcile(file, meta, self.identities, when)

    def _commit(self) -> None:
        kept, self._kept = self._kept, []
        verdicts = self.door.index([arrived for _, arrived in kept])
        for (source, arrived), verdict in zip(kept, verdicts, strict=True):
            self.done.studies.add(arrived.header.study.study_instance_uid)
            self._tell(source, verdict.value, verdict.value if verdict.is_quarantine else "")

    def _put_aside(self, source: Source, reason: str) -> None:
        """Keep a copy of what cannot be taken in, as far as it can be read, and why."""
        self.aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept, noted = self._places(source)
        note = {"file": source.name, "reason": reason}
        noted.write_text(json.dumps(note, ensure_ascii=False))
        try:
            with source.open() as file, kept.open("wb") as copy:
                while piece := file.read(_PIECE):
                    copy.write(piece)
        except (OSError, zipfile.BadZipFile, RuntimeError, EOFError):
            pass  # the note tells of it, the medium has it
        self._tell(source, FAILED, reason)

    def _places(self, source: Source) -> tuple[Path, Path]:
        """Where a file is put aside, and where why."""
        name = hashlib.sha256(f"{source.name}\0{source.state}".encode()).hexdigest()
        return self.aside / name, self.aside / f"{name}.json"

    def _tell(self, source: Source, outcome: str, reason: str = "") -> None:
        self.done.counts[outcome] += 1
        if reason:  # not done: what was in its way may be mended by the next time
            self.done.reasons[source.name] = reason
            return
        for place in self._places(source):
            place.unlink(missing_ok=True)
        self.journal.add(source)


def _head(file: BinaryIO) -> bytes:
    """The beginning of a file: all of its head."""
    head = b""
    while len(head) < META_LIMIT_BYTES and (piece := file.read(META_LIMIT_BYTES - len(head))):
        head += piece
    return head


def _meta(head: bytes) -> Meta | None:
    try:
        return read_meta(head)
    except Unreadable:
        return None


def _reason(error: Exception) -> str:
    match error:
        case Refused():
            return error.outcome.comment
        case UnknownPatient():
            return "the table has no line for its patient"
        case _:
            return f"cannot be read ({type(error).__name__})"


class Journal:
    """Which files of one source are done; survives the process, removed when all is done."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._done = set(path.read_text().split()) if path.exists() else set()
        self._file = path.open("a")

    @classmethod
    def of(cls, source: Path, folder: Path) -> Journal:
        """The journal of what is at ``source``."""
        name = hashlib.sha256(str(source.resolve()).encode()).hexdigest()
        return cls(folder / name)

    def has(self, source: Source) -> bool:
        """Whether the file is done and has not changed since."""
        return _mark(source) in self._done

    def add(self, source: Source) -> None:
        """Note that a file is done; what a crash takes of this is done again."""
        self._file.write(f"{_mark(source)}\n")
        self._file.flush()

    def close(self, *, complete: bool) -> None:
        """Keep the journal for the next time, unless everything is done."""
        self._file.close()
        if complete:
            self._path.unlink(missing_ok=True)


def _mark(source: Source) -> str:
    return hashlib.sha256(f"{source.name}\0{source.state}".encode()).hexdigest()
