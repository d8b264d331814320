"""PostgreSQL through psycopg 3: pooled transactions, tried again when they collide.

Works run at READ COMMITTED, so an actor takes the row locks it needs; reads run at
REPEATABLE READ, READ ONLY, so that the statements of one read see one snapshot, or without
a transaction where one statement is enough: its BEGIN and its end would each be a way to the server
and back, which takes as long as the statement. Durability
is the server's: this module never touches ``synchronous_commit``.
"""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import DatabaseBusy, DatabaseUnavailable, OutOfSpace, StorageError
from storage.statement import one_snapshot

T = TypeVar("T")

# Connections of one process in each of the two pools: commits gain nothing beyond 8
# clients (3.1k/s at 8 and at 32), and a server allows 100 in all unless told otherwise.
WRITERS = 8
READERS = 8

# How long a thread waits for a free connection before the caller is told to come back.
POOL_TIMEOUT_SECONDS = 10.0

# How long a work waits for a row lock, a statement may run, a transaction may sit idle,
# and a server may take to accept a connection.
LOCK_TIMEOUT_MILLISECONDS = 10_000
STATEMENT_TIMEOUT_MILLISECONDS = 30_000
IDLE_TIMEOUT_MILLISECONDS = 60_000
CONNECT_TIMEOUT_SECONDS = 5

# Tries of one work before a collision is reported, and the first pause between them in
# seconds; it doubles, with jitter so that two rivals do not meet again.
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.005
# Our own: whoever seeds the common one counts on nobody else drawing from it.
_dice = random.Random()

_COLLISIONS = frozenset({"40001", "40P01"})  # serialization failure, deadlock
# Lock not available, statement timeout, too many connections, out of memory, a server that
# starts, stops or recovers, and a transaction that it gave up as idle before anything of it was
# committed: so it is where a server that stood still for longer goes on.
_BUSY = frozenset({"55P03", "57014", "53300", "53200", "57P03", "25P03"})
# Nothing can be written: a standby, which may stand where the primary was until it is promoted.
_READ_ONLY = "25006"
_FULL = frozenset({"53100"})  # disk full
_FORBIDDEN = frozenset({"42501"})  # insufficient privilege: the operator's to grant
# A broken connection, a shutdown, the server's disk, a corrupt table.
_BROKEN = ("08", "57P", "58", "XX")


def _state(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _words(error: DBAPIError) -> str:
    """What the server says, without the statement, or what the way to it does; on one line."""
    said = error.orig.diag.message_primary if isinstance(error.orig, psycopg.Error) else None
    return " ".join((said or str(error.orig)).split())


def translate(error: DBAPIError) -> StorageError | None:
    """The StorageError that PostgreSQL's error stands for, or None if it is the caller's own."""
    state = _state(error)
    text = f"PostgreSQL: {type(error.orig).__name__} {state or ''}".rstrip()
    if state in _FULL:
        return OutOfSpace(text)
    if state in _BUSY or state in _COLLISIONS:
        return DatabaseBusy(text)
    if state in _FORBIDDEN:  # names tables and roles, no data
        return DatabaseUnavailable(f"PostgreSQL: {_words(error)}")
    unreached = state is None and isinstance(error.orig, psycopg.OperationalError)
    if unreached or error.connection_invalidated or (state or "").startswith(_BROKEN):
        return DatabaseUnavailable(text)
    return None


class PostgreSQLEngine:
    """The two ways into one PostgreSQL database."""

    def __init__(self, url: URL, read_only: bool) -> None:
        self._read_only = read_only
        self._writers = _pool(url, WRITERS, "READ COMMITTED", read_only)
        self._readers = _pool(url, READERS, "AUTOCOMMIT", True)
        try:
            with self.read(snapshot=False):
                pass  # a wrong URL or a server that is away shows when opening, not later
        except DatabaseBusy as error:
            self.close()
            raise DatabaseUnavailable(_why_closed(error)) from error

    @contextmanager
    def read(self, snapshot: bool) -> Iterator[Connection]:
        """See ``Database.read``."""
        with (
            _translating(),
            _connected(self._readers) as connection,
            one_snapshot(connection) if snapshot else nullcontext(),
        ):
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """See ``Database.write``."""
        if self._read_only:
            raise DatabaseUnavailable("this database was opened for reading only")
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._attempt(work)
            except DBAPIError as error:
                if _state(error) not in _COLLISIONS:
                    raise
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt * _dice.uniform(0.5, 1.5))
        with _translating():
            return self._attempt(work)

    def close(self) -> None:
        """See ``Database.close``."""
        self._writers.dispose()
        self._readers.dispose()

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        with (
            _translating_all_but_collisions(),
            _connected(self._writers) as connection,
            connection.begin(),
            _nothing_committed(),
        ):
            return work(connection)


def _pool(url: URL, size: int, isolation: str, read_only: bool) -> Engine:
    settings = {
        "statement_timeout": STATEMENT_TIMEOUT_MILLISECONDS,
        "lock_timeout": LOCK_TIMEOUT_MILLISECONDS,
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_MILLISECONDS,
        "default_transaction_read_only": "on" if read_only else "off",
    }
    pool = create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        hide_parameters=True,  # error texts must not carry health data
        isolation_level=isolation,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "kosmos",
            # Whatever PGCLIENTENCODING or the database says.
            "client_encoding": "utf8",
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        },
    )
    event.listen(pool, "checkout", _refuse_closed)
    return pool


def _refuse_closed(driver: psycopg.Connection[Any], record: Any, proxy: Any) -> None:
    """Let the pool open a new connection in place of one that the server has closed.

    So a restarted server costs nobody an error. To an idle connection a server says nothing but
    that it ends it (or that a setting was changed: a new connection does no harm then), so there
    is no need to ask it, which takes as long as a short query.
    """
    if driver.closed or _has_something_to_read(driver):
        raise DisconnectionError("PostgreSQL has ended the connection")


def _has_something_to_read(driver: psycopg.Connection[Any]) -> bool:
    socket = select.poll()
    socket.register(driver.fileno(), select.POLLIN)
    return bool(socket.poll(0))


@contextmanager
def _connected(pool: Engine) -> Iterator[Connection]:
    """A connection of the pool; where there is none nothing has been done, and it may come back.

    A server that takes no connection gives no code by which its reasons could be told apart.
    """
    try:
        connection = pool.connect()
    except PoolTimeout as error:
        raise DatabaseBusy("every connection to PostgreSQL is in use") from error
    except DBAPIError as error:
        raise DatabaseBusy(
            f"PostgreSQL takes no connection: {type(error.orig).__name__}"
        ) from error
    with connection:
        yield connection


def _why_closed(error: DatabaseBusy) -> str:
    """The same for who starts the node, with what only words tell: password, name, address."""
    cause = error.__cause__
    return f"PostgreSQL: {_words(cause)}" if isinstance(cause, DBAPIError) else str(error)


@contextmanager
def _nothing_committed() -> Iterator[None]:
    """Where the connection breaks within, or can only be read from, no COMMIT was sent: the work
    may come back."""
    try:
        yield
    except DBAPIError as error:
        if _state(error) == _READ_ONLY:
            raise DatabaseBusy("PostgreSQL is a standby") from error
        if not error.connection_invalidated:
            raise
        text = f"PostgreSQL broke off: {type(error.orig).__name__}"
        raise DatabaseBusy(text) from error


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if translated := translate(error):
            raise translated from error
        raise


@contextmanager
def _translating_all_but_collisions() -> Iterator[None]:
    try:
        with _translating():
            yield
    except DatabaseBusy as error:
        if isinstance(error.__cause__, DBAPIError) and _state(error.__cause__) in _COLLISIONS:
            raise error.__cause__ from None
        raise
