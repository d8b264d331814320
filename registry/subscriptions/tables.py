"""The two tables of subscriptions, among those of ``registry.schema``.

- ``subscription`` leads with the patient, so that a registration finds those of its patient in
  one look; those across patients are kept under the empty patient.
- ``notification`` is the outbox: written by the commit that registers, deleted once delivered.
  A number is never used again, so numbers tell the order in which a subscription is served.

``due_at`` is when a subscription may be served next, in milliseconds since 1970: after a pause
that follows a failure, or when the lease of its ``owner`` has run out. ``attempts`` counts the
failures of the notification that is the next.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, text

from registry.schema import METADATA

WAITING = "waiting"
DEAD = "dead"

_IS_WAITING = text(f"state = '{WAITING}'")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


subscription = Table(
    "subscription",
    METADATA,
    Column("patient", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    _text("topic"),
    _text("consumer"),
    _text("created_at"),
    _text("expires_at"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", BigInteger, nullable=False, server_default="0"),
    Column("owner", Text, nullable=True),
    _text("filter"),
    Index("ix_subscription_id", "id", unique=True),
    sqlite_with_rowid=False,
)

notification = Table(
    "notification",
    METADATA,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),  # SQLite counts in INTEGER alone
        primary_key=True,
        autoincrement=True,
    ),
    _text("subscription"),
    _text("topic"),
    _text("producer"),
    _text("state"),
    _text("created_at"),
    _text("error"),
    Column("objects", LargeBinary, nullable=False),
    Index("ix_notification_subscription_number", "subscription", "number"),
    # What is to be delivered: empty on a quiet day, however many dead letters are kept.
    Index(
        "ix_notification_waiting",
        "subscription",
        "number",
        sqlite_where=_IS_WAITING,
        postgresql_where=_IS_WAITING,
    ),
    sqlite_autoincrement=True,
)
