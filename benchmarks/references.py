"""What the machine itself can do: the bare work beside which our figures are read.

Each reference does the durable part of the job and nothing else, in the same run and on
the same disk as the measurement it stands beside.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

# How long each reference works: some hundreds of syncs, so that one slow one does not count.
SECONDS = 2.0

Rows = Mapping[str, Sequence[Mapping[str, object]]]
"""What one transaction inserts: rows by table."""


def sqlite_commits(database: Path, transactions: Iterable[Rows], seconds: float = SECONDS) -> float:
    """Transactions per second of one writer on the driver, WAL and synchronous=FULL.

    ``database`` has the tables; the statements are made before the clock starts, and every
    transaction is one commit. Ends early when there are no more.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    prepared = deque([list(_statements(rows)) for rows in transactions])

    def commit() -> bool:
        if not prepared:
            return False
        connection.execute("BEGIN IMMEDIATE")
        for statement, values in prepared.popleft():
            connection.executemany(statement, values)
        connection.execute("COMMIT")
        return True

    rate = _rate(commit, seconds)
    connection.close()
    return rate


def _statements(rows: Rows) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    for table, new_rows in rows.items():
        columns = list(new_rows[0])
        statement = (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        )
        yield statement, [tuple(row.values()) for row in new_rows]


def durable_files(folder: Path, size: int, threads: int, seconds: float = SECONDS) -> float:
    """Files per second: write, fsync, rename, fsync of the folder, by ``threads`` threads."""
    data = os.urandom(size)
    rates: list[float] = []

    def worker(number: int) -> None:
        place = folder / f"files-{number}"
        place.mkdir(exist_ok=True)
        rates.append(_rate(lambda: _durable_file(place, data), seconds))

    workers = [threading.Thread(target=worker, args=(number,)) for number in range(threads)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return sum(rates)


def _durable_file(place: Path, data: bytes) -> bool:
    name = place / f"{time.perf_counter_ns()}"
    part = name.with_suffix(".part")
    with open(part, "wb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    os.rename(part, name)
    folder = os.open(place, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return True


def _rate(work: Callable[[], bool], seconds: float) -> float:
    """How often a second ``work`` is done, until the time is over or it has nothing to do."""
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < seconds and work():
        done += 1
    return done / (time.perf_counter() - started)
