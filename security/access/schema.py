"""The tables of what a node remembers of users: the assertions it has met, emergencies.

One database, shared by the processes of a node and, on PostgreSQL, by the nodes of a region.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, MetaData, Table, Text

METADATA = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
)

ASSERTION_SEEN = Table(
    "assertion_seen",
    METADATA,
    Column("issuer", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # SHA-256 of the signed bytes
    Column("node", Text, nullable=False),  # SHA-256 of the certificate it came with; or empty
    Column("until", Text, nullable=False),  # UTC, ISO 8601: sorts as it reads
    Index(None, "until"),
    sqlite_with_rowid=False,
)
"""An assertion from the first time it was met until it has expired: who brings it again, or
another one of that name, is compared with the first."""

EMERGENCY = Table(
    "emergency",
    METADATA,
    Column("issuer", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("person", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("patients", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("until", Text, nullable=False),
    Index(None, "started"),
    sqlite_with_rowid=False,
)
"""A glass that was broken, by the assertion that broke it."""

CARRIED_CHOICE = Table(
    "carried_choice",
    METADATA,
    Column("patient", Text, primary_key=True),  # CX, normalised
    Column("opposed", Text, nullable=False),  # Y or N, as PD1-12 says it
    Column("sender", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("said_at", Text),  # the message's own time, a DTM in UTC; empty where it told none
    sqlite_with_rowid=False,
)
"""What the last identity message that said so said of a patient's opposition."""
