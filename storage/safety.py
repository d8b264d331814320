"""Settings of a database under which an acknowledged commit could be lost, or what is sent could
not be kept: found, named.

Durability on PostgreSQL is the server's. What is judged is what our own session sees, so a
setting of the role or of the database counts as one of the server. On SQLite there is nothing to
find: ``storage.sqlite`` makes every setting that matters, and lets one process write, whatever
the release (those before 3.51.3 can corrupt a file that several write).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

# The oldest release that the tests run on; its community supports it until November 2027.
OLDEST_POSTGRESQL = 15

# Each must be on: without the first two a power cut can corrupt the database or lose what was
# committed, without the third the last commits are lost. ``local`` and the ``remote`` values of
# synchronous_commit all wait for the server's own disk.
_MUST_BE_ON = ("fsync", "full_page_writes", "synchronous_commit")

# Any other has no room for some of the names that XML and HL7 may bring, or mixes them up.
_ENCODING = "UTF8"


@dataclass(frozen=True, slots=True)
class Unsafe:
    """One setting: what it is and what it must be."""

    setting: str
    value: str
    needed: str


def unsafe_settings(connection: Connection) -> list[Unsafe]:
    """What makes the database behind ``connection`` unsafe; empty if nothing does."""
    if connection.dialect.name != "postgresql":
        return []
    return list(_unsafe_postgresql(connection))


def may_create_tables(connection: Connection) -> bool:
    """Whether the user of ``connection`` may make the tables of a new database; PostgreSQL lets
    nobody but its owner unless it was told to."""
    if connection.dialect.name != "postgresql":
        return True
    may = connection.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')"))
    return bool(may.scalar_one())


def release(connection: Connection) -> str:
    """Name and release of the database, for a person."""
    if connection.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    return f"PostgreSQL {_setting(connection, 'server_version').split()[0]}"


def _unsafe_postgresql(connection: Connection) -> Iterator[Unsafe]:
    number = int(_setting(connection, "server_version_num"))
    if number // 10_000 < OLDEST_POSTGRESQL:
        found = _setting(connection, "server_version").split()[0]
        yield Unsafe("server_version", found, str(OLDEST_POSTGRESQL))
    for name in _MUST_BE_ON:
        if (value := _setting(connection, name)) == "off":
            yield Unsafe(name, value, "on")
    if (encoding := _setting(connection, "server_encoding")) != _ENCODING:
        yield Unsafe("server_encoding", encoding, _ENCODING)
    if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
        yield Unsafe("pg_is_in_recovery", "on", "off")


def _setting(connection: Connection, name: str) -> str:
    value = connection.execute(text("SELECT current_setting(:name)"), {"name": name})
    return str(value.scalar_one())
