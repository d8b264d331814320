"""Databases as the actors see them: ``read()`` a snapshot, ``write(work)`` durably.

Two engines stand behind the same two methods: SQLite (``storage.sqlite``), where one
thread at a time writes and many works share one commit, and PostgreSQL
(``storage.postgresql``), where every work is a transaction of its own. Statements are
SQLAlchemy Core on both. This module knows no table: each actor brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from storage import migrations
from storage.errors import DatabaseUnavailable
from storage.postgresql import PostgreSQLEngine
from storage.space import LowWaterMark
from storage.sqlite import SQLiteEngine
from storage.statement import Parameters, Statement

T = TypeVar("T")


class Engine(Protocol):
    """What an engine must offer; see ``Database`` for the meaning."""

    def read(self, snapshot: bool) -> AbstractContextManager[Connection]:
        """A connection that sees one snapshot; without ``snapshot``, one for each statement."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, once it is durable."""

    def close(self) -> None:
        """Give everything back."""


class Database:
    """One actor's database.

    Safe for use by many threads. ``url`` is a SQLAlchemy URL:
    ``sqlite:////var/lib/kosmos/registry.db`` or ``postgresql://user@host/name``.
    """

    def __init__(self, url: URL, engine: Engine) -> None:
        self.url = url
        self._engine = engine

    @classmethod
    def open(
        cls,
        url: str | URL,
        *,
        read_only: bool = False,
        low_water: LowWaterMark | None = None,
    ) -> Database:
        """Open the database at ``url``; a SQLite file is made if it does not exist.

        A SQLite file has exactly one writing process; every other one must open it with
        ``read_only``. Raises DatabaseLocked if there is a writer already, and
        DatabaseUnavailable if the database cannot be reached or the URL is of no use.
        ``low_water`` is what must stay free on the disk of a SQLite file.
        """
        parsed = _parse(url)
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            return cls(parsed, SQLiteEngine(_file(parsed), read_only, low_water or LowWaterMark()))
        if backend == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
            return cls(parsed, PostgreSQLEngine(parsed, read_only))
        raise DatabaseUnavailable(f"{backend} databases are not supported: sqlite or postgresql")

    @property
    def backend(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.url.get_backend_name()

    def read(self, *, snapshot: bool = True) -> AbstractContextManager[Connection]:
        """A read-only connection whose statements all see one snapshot.

        Without ``snapshot`` each sees one of its own: cheaper for who needs one statement alone,
        above all on PostgreSQL, where a transaction costs two more exchanges with the server.

        Short and indexed reads may run in the event loop. Close or exhaust every result
        before the block ends. Raises DatabaseBusy or DatabaseUnavailable.
        """
        return self._engine.read(snapshot)

    def rows(self, statement: Statement, each: Sequence[Parameters]) -> list[Any]:
        """The rows of one statement for each of some parameters, all of one snapshot.

        Raises what ``read`` does.
        """
        with self.read(snapshot=len(each) > 1) as connection:
            return [row for one in each for row in statement.rows(connection, one)]

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction; when this returns, its effect is durable.

        ``work`` must not commit, must depend on nothing but the connection and may be run
        again from the start (after a deadlock, a serialization failure, or the failure of
        another work in the same commit). Keep it short and never wait in it for anything
        else: on SQLite all other works wait. What it raises is raised here, its effect undone.

        Raises DatabaseBusy or OutOfSpace when nothing was done, and DatabaseUnavailable
        when the database failed, in which case the outcome of the commit may be unknown.
        """
        return self._engine.write(work)

    def migrate(self, script_location: str | Path) -> None:
        """Bring the schema up to date: see ``storage.migrations.migrate``."""
        migrations.migrate(self, script_location)

    def close(self) -> None:
        """Finish queued work and give everything back."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _parse(url: str | URL) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseUnavailable(
            "this is no database URL: write sqlite:////path/file.db or postgresql://host/name"
        ) from None


def _file(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise DatabaseUnavailable("a SQLite URL must name a file: sqlite:////path/file.db")
    return Path(url.database).absolute()
