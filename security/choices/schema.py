"""The tables of what operators write: choices of patients, reviews of emergencies.

A database of its own, because an embedded one has one writing process: operators write this one by
their commands, the node reads it.
"""

from __future__ import annotations

from sqlalchemy import Column, MetaData, Table, Text

METADATA = MetaData(naming_convention={"pk": "pk_%(table_name)s"})

# Kinds of choices.
OPPOSED = "opposed"
TREATING = "treating"
MASK = "mask"

CHOICE = Table(
    "choice",
    METADATA,
    Column("patient", Text, primary_key=True),  # CX, normalised
    Column("kind", Text, primary_key=True),
    # Who treats (the name of a person or of an organisation), or which document is masked.
    Column("subject", Text, primary_key=True),
    Column("audience", Text, primary_key=True),  # the group from which a document is masked
    Column("until", Text, nullable=False),  # UTC, ISO 8601; empty: until it is taken back
    Column("operator", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)

REVIEW = Table(
    "emergency_review",
    METADATA,
    Column("issuer", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("remark", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""An emergency (``security.access``) that somebody has looked at, and what he thinks of it."""
