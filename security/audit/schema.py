"""The tables of one trail: records in a chain, what they mention, acts begun, signed heads, where
it begins, who was sent what.

A trail is one SQLite file, written by one process: each process that audits has its own.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.schema import PrimaryKeyConstraint

METADATA = MetaData()

RECORD = Table(
    "audit_record",
    METADATA,
    # Without a gap, from 1 or from what was pruned on: a record that was taken out is missed.
    Column("number", Integer, primary_key=True),
    Column("at", Text, nullable=False),  # UTC, ISO 8601 with milliseconds: sorts as it reads
    Column("type", Text, nullable=False),  # "ITI-18"; the EventID where no transaction is told
    Column("action", Text, nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("message", LargeBinary, nullable=False),  # the DICOM AuditMessage
    Column("chain", LargeBinary, nullable=False),
    Index("ix_audit_record_at", "at"),
    Index("ix_audit_record_type", "type", "number"),
)
"""The columns beside ``message`` are for searching; what counts is the message."""

MENTION = Table(
    "audit_mention",
    METADATA,
    Column("kind", Text, nullable=False),  # patient, user
    Column("value", Text, nullable=False),
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("kind", "value", "number", name="pk_audit_mention"),
)
"""Whom a record is about, and who took part."""

BEGUN = Table(
    "audit_begun",
    METADATA,
    Column("act", Integer, nullable=False),
    Column("place", Integer, nullable=False),  # an act may have several records
    Column("at", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("mentions", Text, nullable=False),  # JSON: patients and users
    PrimaryKeyConstraint("act", "place"),
)
"""What is to be recorded of an act whose process dies before its record is written."""

HEAD = Table(
    "audit_head",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("at", Text, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
"""The chain at a record, signed: whoever makes another history lacks the key."""

PRUNED = Table(
    "audit_pruned",
    METADATA,
    Column("number", Integer, primary_key=True),  # the last record that has left
    Column("chain", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
"""Where a trail begins whose old records have left: one row, signed; none where all are there."""

SENT = Table(
    "audit_sent",
    METADATA,
    Column("target", Text, primary_key=True),
    Column("number", Integer, nullable=False),
)
"""The last record that an audit record repository has for certain."""
