"""What the registry says of documents, for comparing it with what a repository holds.

Not a transaction: an operator's work on the store itself, in pages, for registries of any size.
Each page is a snapshot of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import bindparam, select

from metadata import ebrim
from metadata.identifiers import ON_DEMAND
from metadata.model import DocumentEntry
from registry.lookup import Located, locate_unique_ids, rows_at
from registry.schema import DOCUMENT, document_entry, identity
from storage.database import Database
from storage.operators import among
from storage.statement import Statement

# uniqueIds of one page: far below the 32,766 parameters of SQLite, large enough that the
# statement's own cost disappears.
PAGE = 500

_PAGE = Statement(
    select(identity.c.unique_id)
    .where(identity.c.unique_id > bindparam("after"), identity.c.kind == DOCUMENT)
    .order_by(identity.c.unique_id)
    .limit(PAGE)
)
_KNOWN = Statement(
    select(identity.c.unique_id).where(
        among(identity.c.unique_id, "ids"), identity.c.kind == DOCUMENT
    )
)
_FRAGMENTS = Statement(
    select(document_entry.c.ebrim).where(
        among(document_entry.c.patient, "patients"), among(document_entry.c.entry_uuid, "ids")
    )
)


class Inventory:
    """The documents of a registry, as the repository ``repository_unique_id`` asks for them."""

    def __init__(self, database: Database, repository_unique_id: str) -> None:
        self._database = database
        self._repository = repository_unique_id

    def pages(self) -> Iterator[list[str]]:
        """The uniqueIds of all documents, in their order."""
        after = ""
        while page := self._page(after):
            yield page
            after = page[-1]

    def known(self, unique_ids: Collection[str]) -> set[str]:
        """Those of ``unique_ids`` that some document has."""
        with self._database.read() as connection:
            return {row[0] for row in _KNOWN.rows(connection, {"ids": list(unique_ids)})}

    def expected_here(self, unique_ids: Collection[str]) -> set[str]:
        """Those of ``unique_ids`` that some DocumentEntry says are in this repository.

        Documents on demand are not: they are made when they are asked for.
        """
        with self._database.read() as connection:
            located: list[Located] = locate_unique_ids(connection, unique_ids, DOCUMENT)
            fragments = [row[0] for row in rows_at(connection, _FRAGMENTS, located)]
        entries = (ebrim.read_fragment(fragment) for fragment in fragments)
        return {
            entry.unique_id
            for entry in entries
            if isinstance(entry, DocumentEntry)
            and entry.unique_id
            and entry.object_type != ON_DEMAND
            and entry.repository_unique_id == self._repository
        }

    def _page(self, after: str) -> list[str]:
        with self._database.read() as connection:
            return [row[0] for row in _PAGE.rows(connection, {"after": after})]
