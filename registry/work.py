"""Writing works that may meet a rival."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from storage.database import Database

T = TypeVar("T")

# A work looks before it inserts, so a duplicate key means that a rival committed in between:
# the next try sees the rival's row. Each further try needs one more rival in the same instant.
ATTEMPTS = 4


def write(database: Database, work: Callable[[Connection], T]) -> T:
    """``database.write(work)``, tried again when a rival inserted the same key first.

    Only PostgreSQL has rivals: SQLite has one writer. Raises what ``Database.write`` raises,
    and IntegrityError when every try met a rival.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return database.write(work)
        except IntegrityError:
            continue
    return database.write(work)
