"""The repository's one table: which bytes a uniqueId stands for.

A uniqueId names one sequence of bytes for ever; several DocumentEntries may share it (ITI
TF-2 3.42.4.1.3.3.1), and so one row serves them all. A row exists only when its bytes are
durable in the blob store, and it exists before the registry hears of the document.

``claims`` counts the submissions that rely on the row and whose outcome is not known: one
submission that is refused must not take away the row under another that is being
registered. A crash or a lost answer leaves its claim behind, which keeps the row until
``repository.reconciliation`` has asked the registry.

A document that was removed (ITI-86) leaves its row behind: the uniqueId, hash and size, since
when it is gone and by what. So its uniqueId is never given to other bytes; the same bytes may be
provided again, and then are a document again.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text

METADATA = MetaData()

# The states of a row: bytes durable; and known to be in the registry; or assembled here, on
# demand, with no registry to be asked about them; or assembled later than they were registered,
# with a registry to be told.
STORED = "stored"
REGISTERED = "registered"
ASSEMBLED = "assembled"
DELAYED = "delayed"
# Removed: the bytes are being deleted; and are deleted, as far as no other document has them.
REMOVING = "removing"
REMOVED = "removed"
GONE = (REMOVING, REMOVED)

# A literal, for a partial index serves only statements that repeat its condition.
UNCONFIRMED = text(f"state = '{STORED}'")

DOCUMENT = Table(
    "stored_document",
    METADATA,
    Column("unique_id", Text, primary_key=True),
    Column("sha256", Text, nullable=False, index=True),
    Column("sha1", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("claims", Integer, nullable=False),
    # When a submission last relied on the row: milliseconds since the epoch, UTC.
    Column("claimed_at", BigInteger, nullable=False),
    # When the document was last removed, likewise; kept when its bytes were provided again.
    Column("removed_at", BigInteger, nullable=True),
    # What it was removed by, as long as it is gone: the transaction.
    Column("removed_by", Text, nullable=True),
    # By which large bytes are proved when they are read; the address proves all others.
    Column("blake3", Text, nullable=True),
    # Few rows are ever unconfirmed: the index holds those only.
    Index(
        "ix_stored_document_unconfirmed",
        "claimed_at",
        sqlite_where=UNCONFIRMED,
        postgresql_where=UNCONFIRMED,
    ),
)
