from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, InternalError, OperationalError, ProgrammingError

from storage import postgresql, sqlite
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseLocked, DatabaseUnavailable, OutOfSpace
from storage.space import LowWaterMark
from storage.statement import Statement

METADATA = MetaData()
NOTES = Table(
    "notes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("words", String(80), nullable=False),
)
NO_LIMIT = LowWaterMark(minimum_free_bytes=0)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.write(METADATA.create_all)
        yield opened


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def add(number: int, words: str = "a") -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(insert(NOTES).values(id=number, words=words))
        return number

    return work


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(NOTES)).scalar_one()


def test_a_work_returns_its_result_and_its_effect_is_seen_by_readers(database: Database) -> None:
    assert database.write(add(1)) == 1
    assert count(database) == 1


def test_a_failing_work_is_undone_and_raises_its_own_exception(database: Database) -> None:
    def work(connection: Connection) -> None:
        add(1)(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        database.write(work)
    assert count(database) == 0


def test_a_broken_constraint_fails_only_its_own_work(database: Database) -> None:
    def attempt(number: int) -> bool:
        try:
            database.write(add(number % 10))
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(attempt, range(100)))
    assert outcomes.count(True) == 10
    assert count(database) == 10


def test_works_of_many_threads_all_happen(database: Database) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(lambda n: database.write(add(n)), range(200))) == list(range(200))
    assert count(database) == 200


def test_a_work_may_use_savepoints(database: Database) -> None:
    def work(connection: Connection) -> None:
        add(1)(connection)
        with pytest.raises(IntegrityError), connection.begin_nested():
            add(1)(connection)
        add(2)(connection)

    database.write(work)
    assert count(database) == 2


def test_a_read_sees_one_snapshot(database: Database) -> None:
    query = select(func.count()).select_from(NOTES)
    with database.read() as connection:
        before = connection.execute(query).scalar_one()
        database.write(add(1))
        assert connection.execute(query).scalar_one() == before
    assert count(database) == before + 1


def test_a_read_without_a_snapshot_holds_nothing(database: Database) -> None:
    query = select(func.count()).select_from(NOTES)
    with database.read(snapshot=False) as connection:
        before = connection.execute(query).scalar_one()
        database.write(add(1))
        assert connection.execute(query).scalar_one() == before + 1
        with pytest.raises((OperationalError, InternalError)):
            add(2)(connection)
    assert count(database) == before + 1


_WORDS = Statement(select(NOTES.c.words).where(NOTES.c.id == bindparam("of")))


def test_one_statement_is_asked_by_itself(database: Database) -> None:
    for number in (1, 2):
        database.write(add(number, f"words of {number}"))
    assert database.rows(_WORDS, [{"of": 1}]) == [("words of 1",)]
    assert database.rows(_WORDS, [{"of": 2}, {"of": 3}, {"of": 1}]) == [
        ("words of 2",),
        ("words of 1",),
    ]
    assert database.rows(_WORDS, []) == []
    database.write(add(3, "new"))  # nothing is held that would hide what is written since
    assert database.rows(_WORDS, [{"of": 3}]) == [("new",)]


def test_one_statement_meets_trouble_as_a_read_does(sqlite_file: Path) -> None:
    with Database.open(f"sqlite:///{sqlite_file}") as database:
        database.write(METADATA.create_all)
    sqlite_file.write_bytes(b"no database, " * 1000)
    with Database.open(f"sqlite:///{sqlite_file}", read_only=True) as database:
        for each in ([{"of": 1}], [{"of": 1}, {"of": 2}]):
            with pytest.raises(DatabaseUnavailable):
                database.rows(_WORDS, each)


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises((DatabaseUnavailable, InternalError)), database.read() as connection:
        add(1)(connection)
    assert count(database) == 0


def test_a_wrong_statement_is_the_callers_own_error(database: Database) -> None:
    def wrong(connection: Connection) -> None:
        connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises((OperationalError, ProgrammingError)):
        database.write(wrong)
    with pytest.raises((OperationalError, ProgrammingError)), database.read() as connection:
        wrong(connection)
    assert count(database) == 0


def test_a_database_opened_for_reading_refuses_works(database: Database, database_url: str) -> None:
    database.write(add(1))
    with Database.open(database_url, read_only=True) as reader:
        assert count(reader) == 1
        with pytest.raises(DatabaseUnavailable, match="reading only"):
            reader.write(add(2))


def test_a_closed_database_refuses_works(sqlite_file: Path) -> None:
    database = Database.open(f"sqlite:///{sqlite_file}")
    database.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        database.write(METADATA.create_all)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "no database URL"),
        ("postgresql://me@db1:5432,db2:5432/kosmos", "no database URL"),
        ("sqlite://", "must name a file"),
        ("mysql://host/name", "not supported"),
        ("postgresql://nobody@/none?host=/nowhere", "PostgreSQL"),
    ],
)
def test_a_url_of_no_use_is_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=says):
        Database.open(url)


# SQLite


@pytest.fixture
def notes(sqlite_file: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{sqlite_file}", low_water=NO_LIMIT) as opened:
        opened.write(METADATA.create_all)
        yield opened


def test_commits_survive_a_power_cut(notes: Database) -> None:
    def settings(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    full = 2
    assert notes.write(settings) == ["wal", full, 1]


def test_nobody_else_on_the_machine_can_read_the_files(notes: Database, sqlite_file: Path) -> None:
    notes.write(add(1))
    for name in ("notes.db", "notes.db-wal", "notes.db-shm", "notes.db.writer"):
        assert sqlite_file.with_name(name).stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatabaseUnavailable, match="cannot be written"):
        Database.open(f"sqlite:///{tmp_path / 'file' / 'notes.db'}")


def test_a_writer_that_fails_itself_tells_its_callers(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(sqlite._Writer, "_try", fail)
        with pytest.raises(DatabaseUnavailable, match="a defect"):
            notes.write(add(1))
    notes.write(add(2))
    assert count(notes) == 1


def test_a_caller_who_is_interrupted_while_he_writes_leaves_the_turn_to_others(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(sqlite._Writer, "_commit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            notes.write(add(1))
    notes.write(add(2))
    assert count(notes) == 1


def test_works_that_come_while_one_is_written_are_committed_together(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    commit = sqlite._Writer._commit

    def note(writer: sqlite._Writer, group: list[sqlite._Work]) -> None:
        groups.append(len(group))
        commit(writer, group)

    monkeypatch.setattr(sqlite._Writer, "_commit", note)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(notes.write, slow)
        assert begun.wait(10)
        others = [pool.submit(notes.write, add(number)) for number in range(3)]
        writer = notes._engine._writer  # type: ignore[attr-defined]  # to see that they wait
        while len(writer._waiting) < 3:
            begun.wait(0)
        go_on.set()
        first.result()
        for other in others:
            other.result()
    assert groups == [1, 3]
    assert count(notes) == 3


def test_a_second_writer_is_told_which_file_and_what_to_do(
    notes: Database, sqlite_file: Path
) -> None:
    with pytest.raises(DatabaseLocked) as refused:
        Database.open(f"sqlite:///{sqlite_file}")
    for word in (str(sqlite_file), str(os.getpid()), "read-only", "PostgreSQL"):
        assert word in str(refused.value)


def test_closing_lets_the_next_writer_in_and_leaves_no_log(sqlite_file: Path) -> None:
    for number in range(3):
        with Database.open(f"sqlite:///{sqlite_file}") as database:
            database.write(METADATA.create_all)
            database.write(add(number))
        assert not sqlite_file.with_name("notes.db-wal").exists()


def test_a_missing_file_cannot_be_read(sqlite_file: Path) -> None:
    with (
        Database.open(f"sqlite:///{sqlite_file}", read_only=True) as database,
        pytest.raises(DatabaseUnavailable),
        database.read(),
    ):
        pass


def test_a_file_that_is_no_database_is_reported(sqlite_file: Path) -> None:
    sqlite_file.write_bytes(b"something else entirely " * 100)
    with pytest.raises(DatabaseUnavailable):
        Database.open(f"sqlite:///{sqlite_file}")
    sqlite_file.unlink()  # the lock was given back: the name can be used at once
    Database.open(f"sqlite:///{sqlite_file}").close()


def test_writing_from_inside_a_work_is_refused_instead_of_waiting_for_ever(
    notes: Database,
) -> None:
    with pytest.raises(RuntimeError, match="inside a work"):
        notes.write(lambda _: notes.write(add(1)))


def test_a_full_queue_answers_busy_at_once(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "QUEUE_LIMIT", 2)
    started, go_on = threading.Event(), threading.Event()

    def block(_: Connection) -> None:
        started.set()
        go_on.wait()

    with ThreadPoolExecutor(8) as pool:
        blocked = pool.submit(notes.write, block)
        started.wait()
        queued = [pool.submit(notes.write, add(number)) for number in range(6)]
        ended = as_completed(queued)
        busy = [next(ended) for _ in range(4)]  # four are sent away, two wait in the queue
        go_on.set()
        blocked.result()
    assert all(isinstance(work.exception(), DatabaseBusy) for work in busy)
    assert count(notes) == 2


def test_a_lock_held_by_another_program_answers_busy(
    notes: Database, sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.write(lambda connection: connection.execute(text("PRAGMA busy_timeout=1")).close())
    shell = sqlite3.connect(sqlite_file, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy):
        notes.write(add(1))
    shell.execute("ROLLBACK")
    shell.close()
    notes.write(add(1))
    assert count(notes) == 1


def test_below_the_low_water_mark_works_are_refused_and_reads_go_on(sqlite_file: Path) -> None:
    Database.open(f"sqlite:///{sqlite_file}").close()
    with Database.open(
        f"sqlite:///{sqlite_file}", low_water=LowWaterMark(minimum_free_bytes=2**62)
    ) as database:
        with pytest.raises(OutOfSpace, match="must stay free"):
            database.write(METADATA.create_all)
        with database.read() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1


def fill_until_full(url: str, acknowledged: Path) -> None:
    """Child process: write with a file-size limit until refused; then prove that reads work."""
    with Database.open(url, low_water=NO_LIMIT) as database:
        database.write(METADATA.create_all)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        done = 0
        with suppress(OutOfSpace):
            while True:
                database.write(add(done, "x" * 80))
                done += 1
        assert count(database) == done
        acknowledged.write_text(str(done))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_that_may_not_grow_refuses_works_and_loses_none(
    sqlite_file: Path, tmp_path: Path
) -> None:
    url, acknowledged = f"sqlite:///{sqlite_file}", tmp_path / "acknowledged"
    run_in_child("fill_until_full", url, acknowledged)
    done = int(acknowledged.read_text())
    assert done > 0
    with Database.open(url, low_water=NO_LIMIT) as database:
        assert count(database) == done
        database.write(add(done, "there is room again"))


def acknowledge_until_killed(url: str, acknowledged: Path) -> None:
    """Child process: eight threads write, each noting what was acknowledged, until killed."""
    database = Database.open(url)
    database.write(METADATA.create_all)
    log = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def go(first: int) -> None:
        for number in range(first, 1_000_000, 8):
            database.write(add(number))
            os.write(log, b"%d\n" % number)
            if number > 800:
                os.kill(os.getpid(), signal.SIGKILL)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go, range(8)))


def test_what_was_acknowledged_before_a_kill_is_there_after_it(
    sqlite_file: Path, tmp_path: Path
) -> None:
    url, log = f"sqlite:///{sqlite_file}", tmp_path / "log"
    run_in_child("acknowledge_until_killed", url, log)
    acknowledged = {int(line) for line in log.read_text().splitlines()}
    assert len(acknowledged) > 100
    with Database.open(url) as database, database.read() as connection:
        kept = set(connection.execute(select(NOTES.c.id)).scalars())
    assert acknowledged <= kept


def run_in_child(function: str, *arguments: object) -> None:
    """Run a function of this file in a new interpreter; it must end by SIGKILL."""
    script = (
        "import sys, runpy, pathlib\n"
        "names = runpy.run_path(sys.argv[1])\n"
        "names[sys.argv[2]](sys.argv[3], pathlib.Path(sys.argv[4]))\n"
    )
    command = [sys.executable, "-c", script, __file__, function, *map(str, arguments)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    child = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()


def test_an_error_that_undoes_a_whole_commit_fails_only_the_work_that_met_it(
    notes: Database,
) -> None:
    """SQLite rolls everything back on some errors: the other works of the group are run again."""
    started, go_on = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        started.set()
        go_on.wait()

    def lose_the_transaction(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("ROLLBACK")
        raise sqlite3.OperationalError("the disk went away")

    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(notes.write, hold)
        started.wait()
        good = [pool.submit(notes.write, add(number)) for number in range(3)]
        bad = pool.submit(notes.write, lose_the_transaction)
        good += [pool.submit(notes.write, add(number)) for number in range(3, 6)]
        go_on.set()
        held.result()
        assert sorted(work.result() for work in good) == list(range(6))
        assert isinstance(bad.exception(), sqlite3.OperationalError)
    assert count(notes) == 6


# PostgreSQL


@pytest.fixture
def postgresql_notes(postgresql_database_url: str) -> Iterator[Database]:
    with Database.open(postgresql_database_url) as opened:
        opened.write(METADATA.create_all)
        yield opened


def test_works_that_deadlock_are_tried_again(postgresql_notes: Database) -> None:
    for number in (1, 2):
        postgresql_notes.write(add(number))
    both_have_one = threading.Barrier(2)
    first_try: set[int] = set()

    def cross(number: int) -> None:
        def work(connection: Connection) -> None:
            for target in (number, 3 - number):
                connection.execute(
                    update(NOTES).where(NOTES.c.id == target).values(words=str(number))
                )
                if number not in first_try:
                    first_try.add(number)
                    both_have_one.wait()

        postgresql_notes.write(work)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(cross, (1, 2)))
    with postgresql_notes.read() as connection:
        words = set(connection.execute(select(NOTES.c.words)).scalars())
    assert len(words) == 1


def test_a_collision_that_never_ends_is_reported_as_busy(
    postgresql_notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "FIRST_PAUSE_SECONDS", 0.0)
    tries = 0

    def collide(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        connection.execute(
            text("DO $$ BEGIN RAISE EXCEPTION 'collision' USING ERRCODE = '40001'; END $$")
        )

    with pytest.raises(DatabaseBusy):
        postgresql_notes.write(collide)
    assert tries == postgresql.ATTEMPTS


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("53100", OutOfSpace),
        ("55P03", DatabaseBusy),
        ("57014", DatabaseBusy),
        ("53300", DatabaseBusy),
        ("57P01", DatabaseUnavailable),
        ("58030", DatabaseUnavailable),
    ],
)
def test_errors_of_the_server_are_told_apart(
    postgresql_notes: Database, state: str, error: type[Exception]
) -> None:
    def fail(connection: Connection) -> None:
        connection.execute(
            text(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")
        )

    with pytest.raises(error):
        postgresql_notes.write(fail)


def test_connections_that_the_server_has_closed_are_replaced(postgresql_notes: Database) -> None:
    count(postgresql_notes)
    # Waits until each is gone: one that is still going may be taken from the pool once more.
    kill = text(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    postgresql_notes.write(lambda connection: connection.execute(kill).close())
    assert count(postgresql_notes) == 0
    postgresql_notes.write(add(1))


def test_no_transaction_outlasts_its_read(postgresql_database_url: str) -> None:
    """However it was read, and whether it went well: what a pool keeps holds nothing back."""
    idle = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state LIKE 'idle in transaction%'"
    )
    url = postgresql_database_url.replace("+psycopg", "")
    with (
        Database.open(postgresql_database_url) as database,
        psycopg.connect(url, autocommit=True) as other,
    ):
        for snapshot in (True, False):
            with database.read(snapshot=snapshot) as connection:
                connection.execute(text("SELECT 1")).scalar_one()
            assert other.execute(idle).fetchone() == (0,)
            with pytest.raises(ZeroDivisionError), database.read(snapshot=snapshot):
                raise ZeroDivisionError
            assert other.execute(idle).fetchone() == (0,)


def test_what_a_connection_has_prepared_outlasts_a_read(postgresql_notes: Database) -> None:
    """However it ended: a statement that is asked often is parsed and planned once."""
    often = Statement(select(NOTES.c.id))
    for _ in range(6):
        with postgresql_notes.read() as connection:
            often.rows(connection, {})
        with suppress(ZeroDivisionError), postgresql_notes.read():
            raise ZeroDivisionError
    prepared = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%notes%'")
    with postgresql_notes.read() as connection:
        assert connection.execute(prepared).scalar_one() == 1
