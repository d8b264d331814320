"""Removing what a dead process left behind: half a transfer, a file that no row names.

A file is kept before its row is committed, so a process that dies in between leaves a file
that nobody can reach. It is harmless, and removed here once it is old enough that no
transfer can be about to name it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import structlog
from sqlalchemy import Connection, Select, select, union_all

from imaging_source.schema import INSTANCE, QUARANTINE, REPORT
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

# Far longer than any transfer takes: its file is an hour old before anything is removed.
GRACE_SECONDS = 3600.0

DAY_SECONDS = 86_400.0

PAGE_SIZE = 500
"""Rows of one page of ``pages``."""

# Addresses looked up by one statement (SQLite allows 32,766 parameters).
_LOOKUP_SIZE = 1000


def tidy(database: Database, blobs: BlobStore, stop: threading.Event) -> int:
    """Remove stale transfers and orphaned files; how many there were. Ends early on ``stop``.

    Never raises: what cannot be removed today is removed at another start.
    """
    removed = 0
    try:
        removed += blobs.sweep_temporary(GRACE_SECONDS)
        for address in orphans(database, blobs):
            if stop.is_set():
                break
            removed += blobs.delete_if_older(address, GRACE_SECONDS)
    except (StorageError, OSError) as error:
        _log.warning("tidying stopped", code="imaging-tidy", error=type(error).__name__)
    if removed:
        _log.warning("orphaned files removed", code="imaging-orphans", count=removed)
    return removed


def pages(database: Database, query: Select[Any], **values: Any) -> Iterator[Any]:
    """Every row of ``query``, a page at a time: no snapshot is held while they are worked on.

    It gives the rows beyond ``:after``, in the order of their first column, and PAGE_SIZE at most.
    """
    after = ""
    while True:
        with database.read() as connection:
            rows = connection.execute(query, {"after": after, **values}).all()
        yield from rows
        if len(rows) < PAGE_SIZE:
            return
        after = rows[-1][0]


def orphans(database: Database, blobs: BlobStore) -> Iterator[str]:
    """The addresses of files that no row names now; one that has just come may be named yet."""
    for addresses in _groups(blobs):
        with database.read() as connection:
            unnamed = addresses - _named(connection, addresses)
        yield from sorted(unnamed)


def _groups(blobs: BlobStore) -> Iterator[set[str]]:
    """The addresses of all files, as many at a time as one statement takes."""
    group: set[str] = set()
    for blob in blobs.inventory():
        group.add(blob.sha256)
        if len(group) == _LOOKUP_SIZE:
            yield group
            group = set()
    yield group


def _named(connection: Connection, addresses: set[str]) -> set[str]:
    """Those of the addresses that a row names."""
    tables = (INSTANCE, QUARANTINE, REPORT)
    query = union_all(
        *(select(table.c.sha256).where(table.c.sha256.in_(addresses)) for table in tables)
    )
    return set(connection.execute(query).scalars())
