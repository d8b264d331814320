"""SQLite: one writer with group commit, pooled read-only readers.

Every commit is synced (WAL with ``synchronous=FULL``: the only setting under which an
acknowledged commit survives a power cut). A sync takes 0.2 to 0.8 ms (measured) however much it
covers, so who writes takes all works that wait, gives each a SAVEPOINT of its own and
commits them together. Contending writers would starve each other for up to 1.3 s.

One process writes and checkpoints a file (SQLite before 3.51.3 can corrupt a WAL that two
connections checkpoint): a lock file beside the database keeps others out. Readers may be
in any process and never checkpoint. Network file systems are out of the question.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from storage.errors import (
    DatabaseBusy,
    DatabaseLocked,
    DatabaseUnavailable,
    OutOfSpace,
    StorageError,
)
from storage.space import LowWaterMark

T = TypeVar("T")

# Works waiting for the writer; at 4,000 a second the last of them waits a quarter second.
QUEUE_LIMIT = 1024

# Works in one commit: the gain is used up at 100 (10.7k/s), and nobody waits longer for it.
GROUP_LIMIT = 100

# How long a lock held by another process (a backup, a shell) is waited for.
BUSY_TIMEOUT_SECONDS = 5.0

# Readers kept open between uses: the threads of one process that read at the same time.
IDLE_READERS = 32

# Size to which the WAL file is cut back after a checkpoint.
_JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024

CACHE_KIB = 64 * 1024
"""What the writer keeps of pages and indexes; it comes to that as the database grows."""

_WRITER_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"journal_size_limit={_JOURNAL_LIMIT_BYTES}",
    f"cache_size={-CACHE_KIB}",  # negative: SQLite's convention for KiB
)
_READER_PRAGMAS = ("query_only=ON", "wal_autocheckpoint=0")


def translate(error: Exception) -> StorageError | None:
    """The StorageError that SQLite's error stands for, or None if it is the caller's own."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, sqlite3.Error):
        return None
    code: int = getattr(original, "sqlite_errorcode", 0)
    text = f"SQLite: {original}"
    # A full disk is SQLITE_FULL; a used-up quota or file-size limit fails as a write.
    if code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE:
        return OutOfSpace(text)
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusy(text)
    if code & 0xFF in _BROKEN:
        return DatabaseUnavailable(text)
    return None


_BROKEN = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)


class SQLiteEngine:
    """The two ways into one SQLite file."""

    def __init__(self, path: Path, read_only: bool, low_water: LowWaterMark) -> None:
        self._writer = None if read_only else _Writer(path, low_water)
        self._readers = _Readers(path)

    def read(self, snapshot: bool) -> _Reading:
        """See ``Database.read``."""
        return _Reading(self._readers, snapshot)

    def write(self, work: Callable[[Connection], T]) -> T:
        """See ``Database.write``."""
        if self._writer is None:
            raise DatabaseUnavailable("this database was opened for reading only")
        return self._writer.write(work)

    def close(self) -> None:
        """See ``Database.close``."""
        self._readers.close()
        if self._writer is not None:
            self._writer.close()


def _connections(path: Path, mode: str, pragmas: tuple[str, ...]) -> Engine:
    """An engine that opens connections without any transaction handling of its own."""
    uri = f"file:{quote(str(path))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_SECONDS,
            cached_statements=512,
        )
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    return create_engine(
        "sqlite://",
        creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # error texts must not carry health data
    )


def _open(engine: Engine, path: Path) -> Connection:
    try:
        return engine.connect()
    except (DBAPIError, sqlite3.Error) as error:
        raise translate(error) or DatabaseUnavailable(
            f"{path} cannot be opened: {error}"
        ) from error


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The connection of Python's own driver behind SQLAlchemy's."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)


class _Readers:
    """Open read-only connections, waiting to be used again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = _connections(path, "ro", _READER_PRAGMAS)
        self._idle: deque[tuple[Connection, sqlite3.Connection]] = deque()
        self._closed = False

    def take(self) -> tuple[Connection, sqlite3.Connection]:
        """A connection of which the caller is the only user."""
        try:
            return self._idle.pop()
        except IndexError:
            connection = _open(self._engine, self._path)
            return connection, driver_of(connection)

    def give_back(self, connection: Connection, driver: sqlite3.Connection) -> None:
        """Take a connection back."""
        if self._closed or len(self._idle) >= IDLE_READERS or connection.invalidated:
            connection.close()
        else:
            self._idle.append((connection, driver))

    def close(self) -> None:
        """Close the idle ones now and the others when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop()[0].close()


class _Reading:
    """One use of a reader; a class, for it is entered thousands of times a second."""

    __slots__ = ("_connection", "_driver", "_readers", "_snapshot")

    def __init__(self, readers: _Readers, snapshot: bool) -> None:
        self._readers = readers
        self._snapshot = snapshot

    def __enter__(self) -> Connection:
        self._connection, self._driver = self._readers.take()
        if self._snapshot:
            self._driver.execute("BEGIN")
        return self._connection

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")
        self._readers.give_back(self._connection, self._driver)
        if isinstance(error, DBAPIError) and (translated := translate(error)):
            raise translated from error


class _Work:
    """One caller's work, its outcome, and the lock on which the caller waits for its turn."""

    __slots__ = ("done", "error", "result", "run", "turn")

    def __init__(self, run: Callable[[Connection], Any]) -> None:
        self.run = run
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.turn = threading.Lock()  # the cheapest one-shot signal: held until the turn comes
        self.turn.acquire()


class _GroupLost(Exception):
    """SQLite undid the whole transaction: the works of this group are to be run one by one."""


class _Writer:
    """All the writing to one file: one caller at a time commits for all who wait by then.

    Who finds nobody writing begins at once, in his own thread; when he has done, he leaves to the
    first of those who came meanwhile. A thread of its own would cost every caller two switches.
    """

    def __init__(self, path: Path, low_water: LowWaterMark) -> None:
        self._path = path
        self._low_water = low_water
        self._lock = _lock_for_writing(path)
        try:
            self._connection = _open(_connections(path, "rwc", _WRITER_PRAGMAS), path)
        except StorageError:
            os.close(self._lock)
            raise
        self._driver = driver_of(self._connection)
        # For SQLAlchemy, and Alembic above it, one transaction lasts for ever: the real ones
        # are begun and committed on the driver, below their sight.
        self._connection.begin()
        self._waiting: deque[_Work] = deque()
        self._idle = threading.Condition(threading.Lock())
        self._is_busy = False
        self._writing: int | None = None  # the thread
        self._is_closed = False

    def write(self, run: Callable[[Connection], T]) -> T:
        """Queue the work, see that it becomes durable, and return what it returned."""
        if self._writing == threading.get_ident():
            raise RuntimeError("write() inside a work: use the connection the work was given")
        work = _Work(run)
        if not self._is_next(work):
            work.turn.acquire()
        if not work.done:
            self._write_group()
        if work.error is not None:
            raise work.error
        return cast(T, work.result)

    def close(self) -> None:
        """Finish what is queued, check point, and let another process write."""
        with self._idle:
            was_closed, self._is_closed = self._is_closed, True
            self._idle.wait_for(lambda: not self._is_busy)
        if was_closed:
            return
        with suppress(sqlite3.Error):  # a reader in the way, or no room: the WAL stays valid
            self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()
        os.close(self._lock)

    def _is_next(self, work: _Work) -> bool:
        """Let the work wait; whether it is its turn at once, for nobody is writing."""
        with self._idle:
            if self._is_closed:
                raise DatabaseUnavailable(f"{self._path.name} is closed")
            if len(self._waiting) >= QUEUE_LIMIT:
                raise DatabaseBusy(f"{QUEUE_LIMIT} works wait for {self._path.name} already")
            self._waiting.append(work)
            was_busy, self._is_busy = self._is_busy, True
            return not was_busy

    def _write_group(self) -> None:
        """Commit the works that wait, the first of which is the caller's; call who is next."""
        with self._idle:
            count = min(len(self._waiting), GROUP_LIMIT)
            group = [self._waiting.popleft() for _ in range(count)]
        self._writing = threading.get_ident()
        try:
            self._commit(group)
        except BaseException as error:  # handed to the callers, who must not hang
            for work in group:
                work.error = DatabaseUnavailable(f"{self._path.name}: {error}")
            if not isinstance(error, Exception):
                raise
        finally:
            self._writing = None
            self._end_turn(group)

    def _end_turn(self, group: list[_Work]) -> None:
        for work in group:
            work.done = True
        with self._idle:
            if self._waiting:
                self._waiting[0].turn.release()
            else:
                self._is_busy = False
                self._idle.notify_all()
        for work in group:
            work.turn.release()

    def _commit(self, group: list[_Work]) -> None:
        """Run and commit a group; every work then has its result or its error."""
        try:
            with self._transaction():
                for work in group:
                    self._try(work)
        except _GroupLost as lost:
            if len(group) > 1:
                for work in group:
                    self._commit([work])
            else:
                group[0].error = lost.__cause__
        except StorageError as error:
            for work in group:
                work.error = error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._low_water.check(self._path.parent)
            self._driver.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _storage_error(error) from error
        try:
            yield
            self._driver.execute("COMMIT")
        except sqlite3.Error as error:
            raise _GroupLost from _storage_error(error)
        finally:
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK")

    def _try(self, work: _Work) -> None:
        """Run one work in its savepoint; raises _GroupLost if it took the others with it."""
        work.error = None
        self._driver.execute("SAVEPOINT work")
        try:
            work.result = work.run(self._connection)
        except BaseException as error:  # noqa: BLE001 - handed to the caller who waits for it
            translated = translate(error) if isinstance(error, Exception) else None
            work.error = translated or error
            if not self._driver.in_transaction:
                raise _GroupLost from work.error
            self._driver.execute("ROLLBACK TO work")
        self._driver.execute("RELEASE work")


def _storage_error(error: sqlite3.Error) -> StorageError:
    return translate(error) or DatabaseUnavailable(f"SQLite: {error}")


def _lock_for_writing(path: Path) -> int:
    """The descriptor of the lock that makes this process the file's only writer."""
    lock = path.with_name(f"{path.name}.writer")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite itself would make a file that others may read; its logs take over the mode.
        os.close(os.open(path, flags, 0o600))
        descriptor = os.open(lock, flags, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"{path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise DatabaseLocked(
            f"{path} is being written by process {holder}: a SQLite file has one writing process. "
            "Stop that process, open the file read-only, or use PostgreSQL"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor
