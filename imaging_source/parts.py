"""The instances that leave: looked up, judged and located before an answer begins.

One pre-flight stands behind every way out (RAD-69, WADO-RS, C-MOVE, ZIP): the index tells
which instances are shown and where they belong, the disk tells whether the file is there with
all its bytes; what is with an archive alone is fetched again first (``imaging_source.recalling``).
Status and headers precede the bytes on the wire, so nothing may be found missing
later. The bytes stream from disk when the answer is written. They are not hashed on the way:
that would halve the rate of a study (SHA-256 does 1.1 GiB a second here), and what rots on a
disk is for a scrub to find.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, Select, select

from imaging_source.coercion import Leaving, coerced
from imaging_source.corrections import Correction
from imaging_source.elements import Unreadable
from imaging_source.recalling import Recalling
from imaging_source.schema import INSTANCE, SERIES
from imaging_source.shown import IN_ORDER, SHOWN
from storage.blobs import BlobStore
from storage.errors import BlobCorrupt, BlobMissing, BlobStoreUnavailable
from storage.files import FileContent
from storage.operators import among
from storage.statement import Statement

Row = Mapping[str, Any] | RowMapping
"""What the index has of an instance, by column."""


class Part(NamedTuple):
    """An instance whose file is there: ``row`` is that of the index, or what became of it.

    ``content`` is what leaves: the file, or the file with what was corrected of its patient by
    ``correction``. Reading it raises BlobMissing or BlobStoreUnavailable where the file is gone
    meanwhile, and BlobCorrupt where it ends too soon or is not as it was sealed. The answer must
    then break off: what has been sent is no instance.
    """

    row: Row
    content: Leaving
    correction: Correction | None = None


@dataclass(frozen=True, slots=True)
class Preflight:
    """What can leave, in the order asked for, and what has lost its file."""

    parts: tuple[Part, ...]
    missing: tuple[Row, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.content.size for part in self.parts)


# What leaves is told by these.
_COLUMNS = (
    INSTANCE.c.sop_instance_uid,
    INSTANCE.c.study_instance_uid,
    INSTANCE.c.series_instance_uid,
    INSTANCE.c.sop_class_uid,
    INSTANCE.c.transfer_syntax_uid,
    INSTANCE.c.sha256,
    INSTANCE.c.size,
    INSTANCE.c.number_of_frames,
)
_NAMES = tuple(column.name for column in _COLUMNS)
_OF_UIDS = Statement(select(*_COLUMNS).where(among(INSTANCE.c.sop_instance_uid, "uids"), SHOWN))


def look_up(connection: Connection, uids: Iterable[str]) -> dict[str, Row]:
    """The rows of the instances of these UIDs that are shown, by SOP Instance UID."""
    rows = _OF_UIDS.rows(connection, {"uids": uids})
    return {row[0]: dict(zip(_NAMES, row, strict=True)) for row in rows}


def select_under(study: str, series: str | None = None, instance: str | None = None) -> Select:  # type: ignore[type-arg]
    """The instances shown below a study, series or instance, by series and instance number."""
    query = (
        select(INSTANCE)
        .join(SERIES, SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid)
        .where(INSTANCE.c.study_instance_uid == study, SHOWN)
        .order_by(*IN_ORDER)
    )
    if series is not None:
        query = query.where(INSTANCE.c.series_instance_uid == series)
    if instance is not None:
        query = query.where(INSTANCE.c.sop_instance_uid == instance)
    return query


def under(
    connection: Connection, study: str, series: str | None = None, instance: str | None = None
) -> list[RowMapping]:
    """The rows of ``select_under``."""
    return list(connection.execute(select_under(study, series, instance)).mappings())


def locate(blobs: BlobStore, row: Row, correction: Correction | None = None) -> Part | None:
    """The instance with what was corrected, if its file is there with all its bytes.

    Raises Away where it is with an archive that does not give it now, and BlobStoreBusy where
    nobody can tell now.
    """
    names = (row["study_instance_uid"], row["sop_instance_uid"], row["sha256"])
    try:
        file = opened(blobs, *names)
        content = leaving(file, row["size"], row["transfer_syntax_uid"], correction)
        return Part(row, content, correction)
    except (BlobCorrupt, BlobMissing, BlobStoreUnavailable, Unreadable, OSError):
        return None


def ask_for(blobs: BlobStore, studies: Iterable[str]) -> None:
    """Have what is evicted of several studies fetched while the first is waited for: see
    ``opened``. Raises StorageError.
    """
    if isinstance(blobs, Recalling):
        blobs.begin(list(dict.fromkeys(studies)))


def opened(blobs: BlobStore, study: str, uid: str, sha256: str) -> FileContent:
    """The file of an instance of a study, fetched again where its archive has it.

    Raises Away where that does not give it now, BlobMissing where it is lost, and
    BlobStoreUnavailable.
    """
    if isinstance(blobs, Recalling):
        return blobs.recalled(study, uid, sha256)
    return blobs.content(sha256)


def leaving(
    file: FileContent, size: int, transfer_syntax_uid: str, correction: Correction | None
) -> Leaving:
    """The Part 10 file of an instance with what was corrected.

    Raises BlobMissing where the file is not there with all its bytes, BlobStoreUnavailable or
    OSError where it cannot be read, and Unreadable where it cannot be corrected.
    """
    if file.size != size:
        raise BlobMissing(file.name)
    return coerced(correction, file, transfer_syntax_uid)


def preflight(
    blobs: BlobStore, rows: Iterable[Row], corrections: Mapping[str, Correction]
) -> Preflight:
    """Locate every instance before the first byte of an answer; ``corrections`` are by study.

    Raises Away where some are with an archive that does not give them now.
    """
    located = [
        (row, locate(blobs, row, corrections.get(row["study_instance_uid"]))) for row in rows
    ]
    return Preflight(
        tuple(part for _, part in located if part is not None),
        tuple(row for row, part in located if part is None),
    )
