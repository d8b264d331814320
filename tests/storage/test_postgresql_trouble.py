"""PostgreSQL that is paused, locked or out of connections: told as busy, then served again."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, TextClause, text

from storage import postgresql
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable

COUNT = text("SELECT count(*) FROM note")
ADD = text("INSERT INTO note (id) VALUES (:id)")


@pytest.fixture
def url(postgresql_database_url: str) -> str:
    """A database with a table of numbers."""
    with psycopg.connect(plain(postgresql_database_url)) as connection:
        connection.execute("CREATE TABLE note (id integer PRIMARY KEY)")
    return postgresql_database_url


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


def add(database: Database, number: int) -> None:
    database.write(lambda connection: connection.execute(ADD, {"id": number}).close())


def count(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(COUNT).scalar_one())


def outcome(database: Database, number: int) -> str:
    try:
        add(database, number)
    except DatabaseBusy:
        return "busy"
    return "kept"


def test_many_works_behind_a_held_lock_are_busy_in_time_and_go_on_after_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LOCK_TIMEOUT_MILLISECONDS", 300)
    monkeypatch.setattr(postgresql, "POOL_TIMEOUT_SECONDS", 0.3)
    numbers = range(3 * postgresql.WRITERS)
    with Database.open(url) as database, ThreadPoolExecutor(len(numbers)) as pool:
        with psycopg.connect(plain(url)) as holder:
            holder.execute("LOCK TABLE note IN EXCLUSIVE MODE")
            outcomes = list(pool.map(lambda number: outcome(database, number), numbers))
            assert count(database) == 0  # who only reads is not in the way
        assert outcomes == ["busy"] * len(numbers)
        assert outcome(database, 1) == "kept"
        assert count(database) == 1


@contextmanager
def paused(database: Database) -> Iterator[None]:
    """The server's process behind the one connection that will write, stopped."""

    def process(connection: Connection) -> int:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    backend = database.write(process)
    os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(backend, signal.SIGCONT)


def test_works_behind_a_paused_server_wait_in_a_bounded_queue_and_none_is_lost(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "WRITERS", 1)
    monkeypatch.setattr(postgresql, "POOL_TIMEOUT_SECONDS", 0.3)
    with Database.open(url) as database, ThreadPoolExecutor(8) as pool:
        with paused(database):
            stuck = pool.submit(outcome, database, 0)
            # Who finds the only connection taken is told so; whoever has it waits.
            while not stuck.running():
                pass
            refused = [pool.submit(outcome, database, number) for number in range(1, 8)]
            answers = [future.result() for future in refused]
        assert answers.count("busy") >= len(refused) - 1
        assert [stuck.result(), *answers].count("kept") == 1
        assert count(database) == 1


@pytest.mark.parametrize("again", [ADD, text("COMMIT")], ids=["statement", "commit"])
def test_a_transaction_that_the_server_gave_up_as_idle_is_busy_for_nothing_of_it_was_done(
    url: str, again: TextClause, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "IDLE_TIMEOUT_MILLISECONDS", 50)

    def work(connection: Connection) -> None:
        connection.execute(ADD, {"id": 1})
        server = select.poll()
        server.register(connection.connection.driver_connection.fileno(), select.POLLIN)  # type: ignore[union-attr]
        assert server.poll(5000)  # it says that it has given up
        connection.execute(again, {"id": 2} if again is ADD else {})

    with Database.open(url) as database:
        with pytest.raises(DatabaseBusy):
            database.write(work)
        assert count(database) == 0
        assert outcome(database, 1) == "kept"


def end(connection: Connection) -> None:
    """The server ends the connection, and says so."""
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def cut(connection: Connection) -> None:
    """The network loses the connection, and nobody says anything."""
    descriptor = os.dup(connection.connection.driver_connection.fileno())  # type: ignore[union-attr]
    with socket.socket(fileno=descriptor) as line:
        line.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("lose", [end, cut])
def test_a_connection_that_is_lost_before_the_commit_is_busy_for_nothing_of_it_was_done(
    url: str, lose: Callable[[Connection], None]
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(ADD, {"id": 1})
        lose(connection)
        connection.execute(ADD, {"id": 2})

    with Database.open(url) as database:
        with pytest.raises(DatabaseBusy):
            database.write(work)
        assert count(database) == 0
        assert outcome(database, 1) == "kept"


def test_a_connection_that_is_lost_at_the_commit_leaves_the_outcome_unknown(url: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(ADD, {"id": 1})
        cut(connection)

    with Database.open(url) as database, pytest.raises(DatabaseUnavailable):
        database.write(work)


def test_a_server_without_a_free_connection_is_busy_and_comes_back(url: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as admin:
        role = Identifier(f"limited_{admin.info.dbname}")
        admin.execute(SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 1").format(role))
        admin.execute(SQL("GRANT SELECT, INSERT ON note TO {}").format(role))
        limited = url.replace("postgres@", f"limited_{admin.info.dbname}@")
        with Database.open(limited) as database:  # its one reader has the only connection
            assert count(database) == 0
            assert outcome(database, 1) == "busy"
            with pytest.raises(DatabaseUnavailable):  # a start is refused, not put off
                Database.open(limited)
            admin.execute(SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(role))
            assert outcome(database, 1) == "kept"
        admin.execute(SQL("DROP OWNED BY {}").format(role))
        admin.execute(SQL("DROP ROLE {}").format(role))


def test_a_user_without_a_right_is_told_which(url: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as admin:
        role = Identifier(f"powerless_{admin.info.dbname}")
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(role))
        powerless = url.replace("postgres@", f"powerless_{admin.info.dbname}@")
        with Database.open(powerless) as database:
            with pytest.raises(DatabaseUnavailable, match="permission denied for table note"):
                count(database)
            with pytest.raises(DatabaseUnavailable, match="permission denied for table note"):
                add(database, 1)
        admin.execute(SQL("DROP ROLE {}").format(role))


def test_a_standby_is_busy_until_somebody_promotes_it(url: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION READ ONLY"))  # as every one of a standby is
        connection.execute(ADD, {"id": 1})

    with Database.open(url) as database, pytest.raises(DatabaseBusy):
        database.write(work)


def test_who_opens_a_database_is_told_why_it_cannot_be_had(url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(plain(url))["dbname"]
    with pytest.raises(DatabaseUnavailable, match=f'database "{name}_x" does not exist'):
        Database.open(url.replace(f"/{name}?", f"/{name}_x?"))


def test_text_is_utf_8_whatever_the_environment_says(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with Database.open(url) as database, database.read() as connection:
        assert connection.execute(text("SELECT 'Łódź'")).scalar_one() == "Łódź"
