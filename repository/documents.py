"""The rows of ``repository.schema``: claimed, confirmed, released, found, removed.

Every method is one durable transaction or one snapshot, and correct for any number of
repositories over one database: the uniqueness of a uniqueId is the table's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from repository.schema import (
    DOCUMENT,
    GONE,
    REGISTERED,
    REMOVED,
    REMOVING,
    STORED,
    UNCONFIRMED,
)
from storage.database import Database

# Rows read, or identifiers asked for, in one statement: far below the 32,766 parameters
# of SQLite, large enough that the statement's own cost disappears.
_PAGE = 500

_columns = DOCUMENT.c
_COLUMNS = (
    _columns.unique_id,
    _columns.sha256,
    _columns.sha1,
    _columns.size,
    _columns.mime_type,
    _columns.state,
    _columns.claimed_at,
    _columns.blake3,
)
_ONE_CLAIM_LESS = case((_columns.claims > 0, _columns.claims - 1), else_=0)

# Statements are made once: making one anew for each submission cost more than running it.
_OURS = _columns.unique_id == bindparam("ours")
_FIND_ONE = select(*_COLUMNS).where(_OURS)
_FIND = select(*_COLUMNS).where(_columns.unique_id.in_(bindparam("ids", expanding=True)))
# Spelled out: an IN takes no list of rows to be executed for.
_GONE = or_(*(_columns.state == state for state in GONE))
_HERE = ~_GONE
_CONFIRM = update(DOCUMENT).where(_OURS, _HERE).values(state=REGISTERED, claims=_ONE_CLAIM_LESS)
_UNCLAIM = update(DOCUMENT).where(_OURS).values(claims=_ONE_CLAIM_LESS)
_UNCLAIMED = (_columns.state == STORED) & (_columns.claims == 0)
# What had been removed before goes back to being removed.
_REMOVED_BEFORE = _columns.removed_at.is_not(None)
_REMOVE_UNCLAIMED = (
    update(DOCUMENT).where(_OURS, _UNCLAIMED, _REMOVED_BEFORE).values(state=REMOVING)
)
_DELETE_UNCLAIMED = delete(DOCUMENT).where(_OURS, _UNCLAIMED)
_REMOVE = (
    update(DOCUMENT)
    .where(_OURS, _HERE)
    .values(state=REMOVING, claims=0, removed_at=bindparam("now"), removed_by="ITI-86")
)
_FORGET_BYTES = update(DOCUMENT).where(_OURS, _columns.state == REMOVING).values(state=REMOVED)


@dataclass(frozen=True, slots=True)
class Document:
    """What a uniqueId stands for: ``sha256`` is the address of the bytes.

    ``state``, ``claimed_at`` and ``blake3`` are those of the schema.
    """

    unique_id: str
    sha256: str
    sha1: str
    size: int
    mime_type: str
    state: str = STORED
    claimed_at: int = field(default=0, compare=False)
    blake3: str | None = None

    @property
    def removed(self) -> bool:
        """Whether only the memory of it is here."""
        return self.state in GONE


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A document that the registry may or may not know; ``claimed_at`` as in the schema."""

    unique_id: str
    claimed_at: int


class OtherBytes(Exception):
    """A uniqueId of these is in use for other bytes: nothing was claimed."""


def _claiming(insert: Any) -> Any:
    """Insert a row, or count one claim more on a row with the same bytes; nothing otherwise.

    A removed document with these bytes is a document again.
    """
    statement = insert(DOCUMENT)
    revived = case((_GONE, statement.excluded.state), else_=_columns.state)
    return statement.on_conflict_do_update(
        index_elements=[_columns.unique_id],
        set_={
            "state": revived,
            "claims": _columns.claims + statement.excluded.claims,
            "claimed_at": statement.excluded.claimed_at,
        },
        where=_columns.sha256 == statement.excluded.sha256,
    ).returning(_columns.unique_id)


_CLAIM = {"sqlite": _claiming(sqlite.insert), "postgresql": _claiming(postgresql.insert)}


class Documents:
    """The repository's rows in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claim = _CLAIM[database.backend]

    def claim(self, documents: Iterable[Document]) -> None:
        """Note that a submission relies on these documents, all or none.

        Raises OtherBytes if one of the uniqueIds already stands for other bytes.
        """
        rows = [_row(document) for document in documents]
        # One order for all: two submissions of the same documents cannot deadlock.
        rows.sort(key=lambda row: str(row["unique_id"]))

        def work(connection: Connection) -> None:
            for row in rows:
                if connection.execute(self._claim, row).first() is None:
                    raise OtherBytes

        self._database.write(work)

    def confirm(self, unique_ids: Sequence[str]) -> None:
        """The registry has these documents: they stay, and this submission's claim ends."""
        ours = [{"ours": unique_id} for unique_id in sorted(set(unique_ids))]
        self._database.write(lambda connection: connection.execute(_CONFIRM, ours).close())

    def release(self, unique_ids: Sequence[str]) -> None:
        """The registry refused this submission: rows that nobody else relies on go."""
        ours = [{"ours": unique_id} for unique_id in sorted(set(unique_ids))]

        def work(connection: Connection) -> None:
            connection.execute(_UNCLAIM, ours)
            connection.execute(_REMOVE_UNCLAIMED, ours)
            connection.execute(_DELETE_UNCLAIMED, ours)

        self._database.write(work)

    def find(self, unique_ids: Iterable[str]) -> dict[str, Document]:
        """The documents among these that are here, or were removed, by uniqueId."""
        wanted = list(dict.fromkeys(unique_ids))
        found: dict[str, Document] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), _PAGE):
                for row in _found(connection, wanted[start : start + _PAGE]):
                    found[row.unique_id] = Document(*row)
        return found

    def here(self, unique_id: str) -> Document | None:
        """The document with this uniqueId, unless it was removed."""
        document = self.find([unique_id]).get(unique_id)
        return None if document is None or document.removed else document

    def all(self) -> Iterator[Document]:
        """Every document, removed ones too, in the order of uniqueIds.

        Each page is a snapshot of its own.
        """
        after = ""
        while page := self._page(after):
            yield from page
            after = page[-1].unique_id

    def registered(self) -> Iterator[str]:
        """The uniqueIds that the registry is known to have had, in order, page by page."""
        after = ""
        statement = select(_columns.unique_id).where(_columns.state == REGISTERED)
        while True:
            page = statement.where(_columns.unique_id > after).order_by(_columns.unique_id)
            with self._database.read() as connection:
                found = list(connection.execute(page.limit(_PAGE)).scalars())
            if not found:
                return
            yield from found
            after = found[-1]

    def count(self) -> int:
        """How many documents there are."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(DOCUMENT)).scalar_one()

    def unconfirmed(self, claimed_before: float) -> list[Unconfirmed]:
        """The stored documents not claimed since that time (seconds since the epoch)."""
        old = _columns.claimed_at <= int(claimed_before * 1000)
        statement = select(_columns.unique_id, _columns.claimed_at).where(UNCONFIRMED, old)
        with self._database.read() as connection:
            return [Unconfirmed(*row) for row in connection.execute(statement)]

    def settle(self, document: Unconfirmed, registered: bool) -> bool:
        """Confirm or remove an unconfirmed row, unless it was claimed meanwhile; whether done."""
        unchanged = (
            (_columns.unique_id == document.unique_id)
            & (_columns.state == STORED)
            & (_columns.claimed_at == document.claimed_at)
        )
        if registered:
            confirm = update(DOCUMENT).values(state=REGISTERED, claims=0)
            return self._changed(confirm.where(unchanged))
        remove = update(DOCUMENT).values(state=REMOVING, claims=0)
        return self._changed(remove.where(unchanged, _REMOVED_BEFORE)) or self._changed(
            delete(DOCUMENT).where(unchanged)
        )

    def remove(self, unique_id: str) -> bool:
        """From the commit on the document is not here, its memory is; whether it was here."""
        return self._changed(_REMOVE, {"ours": unique_id, "now": _now()})

    def forget_bytes(self, unique_id: str) -> None:
        """Note that the bytes of a removed document are deleted, or belong to others."""
        self._changed(_FORGET_BYTES, {"ours": unique_id})

    def _changed(self, statement: Any, values: dict[str, object] | None = None) -> bool:
        return self._database.write(
            lambda connection: bool(connection.execute(statement, values or {}).rowcount)
        )

    def removing(self) -> list[str]:
        """The removed documents whose bytes may still be here: few, those of a crash."""
        statement = select(_columns.unique_id).where(_columns.state == REMOVING)
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def addresses_in_use(self, addresses: Sequence[str]) -> set[str]:
        """Those of the addresses that some document has, removed ones not counted."""
        having = select(_columns.sha256).where(_columns.sha256.in_(addresses), _HERE)
        statement = having.distinct()
        with self._database.read() as connection:
            return set(connection.execute(statement).scalars())

    def _page(self, after: str) -> list[Document]:
        statement = (
            select(*_COLUMNS)
            .where(_columns.unique_id > after)
            .order_by(_columns.unique_id)
            .limit(_PAGE)
        )
        with self._database.read() as connection:
            return [Document(*row) for row in connection.execute(statement)]


def _found(connection: Connection, unique_ids: list[str]) -> Sequence[Row[*tuple[Any, ...]]]:
    if len(unique_ids) == 1:  # the usual case, in half the time
        return connection.execute(_FIND_ONE, {"ours": unique_ids[0]}).all()
    return connection.execute(_FIND, {"ids": unique_ids}).all()


def _row(document: Document) -> dict[str, object]:
    return {
        "unique_id": document.unique_id,
        "sha256": document.sha256,
        "sha1": document.sha1,
        "size": document.size,
        "mime_type": document.mime_type,
        "state": document.state,
        # What no submission relies on has no claim that would ever end.
        "claims": 1 if document.state == STORED else 0,
        "claimed_at": _now(),
        "blake3": document.blake3,
    }


def _now() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
