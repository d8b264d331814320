"""What the index keeps of many instances, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Column, RowMapping, select

from imaging_source.schema import DESCRIPTION
from storage.database import Database

# Instances read by one statement and held at once: some 200 KB as they are stored, 2 MB of JSON.
PAGE = 500

Described = list[tuple[RowMapping, bytes | None]]


def described(
    database: Database, rows: Sequence[RowMapping], column: Column[bytes]
) -> Iterator[Described]:
    """Each instance with this column of its description, None where it has none yet."""
    query = select(DESCRIPTION.c.sop_instance_uid, column)
    for start in range(0, len(rows), PAGE):
        page = rows[start : start + PAGE]
        uids = [row["sop_instance_uid"] for row in page]
        with database.read() as connection:
            found = connection.execute(query.where(DESCRIPTION.c.sop_instance_uid.in_(uids)))
            known: dict[str, bytes] = {row[0]: row[1] for row in found}
        yield [(row, known.get(row["sop_instance_uid"])) for row in page]
