"""Copies of databases that are being written: held still together, copied one by one.

``hold`` begins a reading of each database and keeps all of them open, so that what is copied
is what each held at one moment, whatever is committed meanwhile. SQLite copies its pages with
its own online backup, PostgreSQL with ``pg_dump`` on an exported snapshot. ``load`` puts such a
copy where there is nothing yet. This module knows no table.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, make_url, text

from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.sqlite import driver_of, translate

# Holding three databases still takes a millisecond, in which a busy first one may change. After
# so many tries what the order alone promises must do: see ``hold``.
ATTEMPTS = 200

# Pages copied before another process may have the disk: 4 MiB.
_PAGES = 1024

_USER_TABLES = text(
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a database; ``connection`` reads it."""

    database: Database
    connection: Connection

    def copy(self, target: Path) -> None:
        """Write it to the file ``target``, which is durable when this returns.

        Raises OutOfSpace, and DatabaseUnavailable, saying what to do where PostgreSQL's programs
        are missing.
        """
        if self.database.backend == "sqlite":
            try:
                _copy_sqlite(driver_of(self.connection), target)
            except sqlite3.Error as error:
                raise translate(error) or DatabaseUnavailable(f"SQLite: {error}") from error
        else:
            exported = self.connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"]
            _run(["pg_dump", *options, f"--snapshot={exported}"], self.database.url)
        _sync(target)


@contextmanager
def hold(databases: Sequence[Database]) -> Iterator[list[Snapshot]]:
    """A snapshot of each of ``databases``, of one moment in the life of the first.

    They are begun in order: what the first refers to in the others must be there before the
    first refers to it. If the first changed while the others were begun, all are begun again,
    so that what the others have from the first is in the first. Raises DatabaseBusy and
    DatabaseUnavailable.
    """
    with ExitStack() as stack:
        version = stack.enter_context(_versions(databases[0]))
        for attempt in range(1, ATTEMPTS + 1):
            before = version()
            with ExitStack() as tentative:
                held = [_begin(database, tentative) for database in databases]
                if version() == before or attempt == ATTEMPTS:
                    stack.push(tentative.pop_all())
                    break
        yield held


def is_empty(url: str | URL) -> bool:
    """Whether there is nothing at ``url``: no file, or no table of anybody's."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return not Path(parsed.database or "").exists()
    with Database.open(parsed, read_only=True) as database, database.read() as connection:
        return bool(connection.execute(_USER_TABLES).scalar_one() == 0)


def load(copy: Path, url: str | URL) -> None:
    """Put a copy made by ``Snapshot.copy`` at ``url``, where ``is_empty``; durable at the end.

    Raises DatabaseUnavailable, saying what to do where PostgreSQL's programs are missing.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        target = Path(parsed.database or "")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copy, target)
        target.chmod(0o600)
        _sync(target)
        _sync(target.parent)
        return
    options = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
    _run(["pg_restore", *options, str(copy)], parsed)


def _begin(database: Database, stack: ExitStack) -> Snapshot:
    """A reading that has begun: on both engines the first statement makes the snapshot."""
    connection = stack.enter_context(database.read())
    if database.backend == "sqlite":
        connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()
    else:
        # It stays idle while others are copied, however long that takes.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT 1")).scalar_one()
    return Snapshot(database, connection)


@contextmanager
def _versions(database: Database) -> Iterator[Callable[[], object]]:
    """Returns a function whose value differs once anybody has committed anything."""
    if database.backend == "sqlite":
        uri = f"file:{quote(str(database.url.database))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            yield lambda: connection.execute("PRAGMA data_version").fetchone()[0]
    else:
        yield partial(_transactions, database)


def _transactions(database: Database) -> object:
    """Who has finished and who is at work: the whole server's, so it errs on the safe side."""
    with database.read() as connection:
        return connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one()


def _copy_sqlite(source: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=_PAGES, sleep=0)
        [verdict] = copy.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DatabaseUnavailable(f"{target.name}: the database itself is damaged: {verdict}")
    target.chmod(0o600)


def _run(command: list[str], url: URL) -> None:
    """Run a program of PostgreSQL on ``url``."""
    if shutil.which(command[0]) is None:
        raise DatabaseUnavailable(
            f"{command[0]} is not on the PATH: install PostgreSQL's client programs, of the "
            "server's version or newer (Debian: postgresql-client)"
        )
    place, secret = _way_to(url)
    done = subprocess.run(
        [*command, f"--dbname={place}"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **secret},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        # The first line names the cause; later ones may quote rows.
        reason = done.stderr.strip().splitlines()[:1]
        raise DatabaseUnavailable(" ".join([*reason, f"({command[0]} ended with an error)"]))


def _way_to(url: URL) -> tuple[str, dict[str, str]]:
    """The database as PostgreSQL's programs name it, by the words of our own connections, and
    the environment with its password: everybody sees what a program is called with."""
    ours = url.set(drivername="postgresql+psycopg")
    _, words = ours.get_dialect()().create_connect_args(ours)
    password = words.pop("password", None)
    return make_conninfo(**words), {"PGPASSWORD": password} if password else {}


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
