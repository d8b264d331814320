"""``python -m benchmarks.sizing``: what an entry weighs, by table, on each engine.

Fills a fresh registry with valid entries as ITI-42 would (``benchmarks.population``), and the
repository's table with a row for each, then asks the engine for the bytes of every table with
its indexes. A row's bytes are those of the pages it takes, half-full ones included.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Table, func, insert, select, text

from benchmarks.place import Place, fresh
from benchmarks.population import populate
from node.migrate import script_location
from registry import schema
from repository.schema import DOCUMENT, METADATA, REGISTERED
from storage.database import Database

# The region that is reckoned for.
PATIENTS, ENTRIES = 3_000_000, 100_000_000

GB = 1_000_000_000

# Rows in one INSERT of the repository's table.
_BATCH = 10_000

# One row for each patient; all others grow with the entries.
_BY_PATIENT = frozenset({"patient"})

# By name of table: rows, and bytes with indexes.
Sizes = Mapping[str, tuple[int, int]]

_TABLES = {**schema.METADATA.tables, **METADATA.tables}

_SQLITE_BYTES = text(
    "SELECT thing.tbl_name, sum(dbstat.pgsize) FROM dbstat"
    " JOIN sqlite_schema AS thing ON dbstat.name = thing.name GROUP BY thing.tbl_name"
)
_POSTGRESQL_BYTES = text("SELECT relname, pg_total_relation_size(oid) FROM pg_class")


@dataclass(frozen=True, slots=True)
class Weight:
    """What a table comes to: rows for each entry (or patient), bytes of a row."""

    table: str
    rows: float
    bytes: float

    @property
    def region(self) -> float:
        """Bytes in the region that is reckoned for."""
        count = PATIENTS if self.table in _BY_PATIENT else ENTRIES
        return self.rows * self.bytes * count


def measure(entries: int, url: str | None = None) -> list[Weight]:
    """The tables that have rows, heaviest first; on SQLite unless ``url`` names an empty
    PostgreSQL database."""
    with fresh("sizing") as place:
        where = url or f"sqlite:///{place.folder / 'sizing.db'}"
        with Database.open(where) as database:
            patients = fill(database, place, entries)
            sizes = measured(database)
    weights = [
        Weight(table, rows / (patients if table in _BY_PATIENT else entries), size / rows)
        for table, (rows, size) in sizes.items()
        if rows
    ]
    return sorted(weights, key=lambda weight: weight.region, reverse=True)


def fill(database: Database, place: Place, entries: int) -> int:
    """Fill both rooms' tables; how many patients there are."""
    for room in ("registry", "repository"):
        with script_location(room) as scripts:
            database.migrate(scripts)
    populate(database, place.config, entries)
    documents = _documents(database)
    for start in range(0, len(documents), _BATCH):
        database.write(partial(_insert, rows=documents[start : start + _BATCH]))
    with database.read() as connection:
        return _count(connection, schema.patient)


def _insert(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    connection.execute(insert(DOCUMENT), rows)


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def measured(database: Database) -> Sizes:
    """Rows and bytes of every table."""
    with database.read() as connection:
        found = _bytes(connection)
        return {name: (_count(connection, table), found[name]) for name, table in _TABLES.items()}


def _bytes(connection: Connection) -> dict[str, int]:
    sqlite = connection.dialect.name == "sqlite"
    rows = connection.execute(_SQLITE_BYTES if sqlite else _POSTGRESQL_BYTES)
    return {name: int(size) for name, size in rows}


def _documents(database: Database) -> list[dict[str, object]]:
    """The repository's row of each document that the registry has."""
    identity = schema.identity.c
    wanted = select(identity.unique_id, identity.hash, identity.size)
    with database.read() as connection:
        rows = connection.execute(wanted.where(identity.kind == schema.DOCUMENT)).all()
    return [
        {
            "unique_id": unique_id,
            "sha256": (sha1 * 2)[:64],
            "sha1": sha1,
            "size": size,
            "mime_type": "application/dicom",
            "state": REGISTERED,
            "claims": 0,
            "claimed_at": 1_800_000_000_000,
        }
        for unique_id, sha1, size in rows
    ]


def page(weights: list[Weight]) -> str:
    """The table in Markdown, the region's sum at its end."""
    lines = ["| table | rows | bytes a row | in the region |", "|---|---|---|---|"]
    for weight in weights:
        each = "patient" if weight.table in _BY_PATIENT else "entry"
        lines.append(
            f"| `{weight.table}` | {weight.rows:.2f} an {each} | {weight.bytes:,.0f} "
            f"| {weight.region / GB:,.1f} GB |".replace("an patient", "a patient")
        )
    total = sum(weight.region for weight in weights)
    entry = sum(w.rows * w.bytes for w in weights if w.table not in _BY_PATIENT)
    return "\n".join([*lines, f"| all | | {entry:,.0f} an entry | {total / GB:,.1f} GB |"])


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--postgresql", metavar="URL", help="an empty database; else SQLite")
    given = parser.parse_args()
    print(page(measure(given.entries, given.postgresql)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
