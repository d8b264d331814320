"""The three tables of subscriptions, among those of ``registry.schema``.

- ``subscription`` leads with the patient, so that a registration finds those of its patient in
  one look; those across patients are kept under the empty patient.
- ``notification`` is the outbox: written by the commit that registers, deleted once delivered.
  A number is never used again, so numbers tell the order in which a subscription is served.
  ``given`` is the last answer of its pull point that held it, where it has one.
- ``pull_point`` is where a recipient fetches (ITI-69, ITI-70): whose it is, the ``answers`` it has
  given, the MessageID of the ``last`` request that was given something, and when it was asked.

``due_at`` is when a subscription may be served next, in milliseconds since 1970: after a pause
that follows a failure, or when the lease of its ``owner`` has run out. ``attempts`` counts the
failures of the notification that is the next.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, text

from registry.schema import METADATA

WAITING = "waiting"
DEAD = "dead"
HELD = "held"
"""At a pull point, until it is fetched."""

_IS_WAITING = text(f"state = '{WAITING}'")
_IS_HELD = text("pull_point IS NOT NULL")


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
    Column("pull_point", Text, nullable=True),
    Index("ix_subscription_id", "id", unique=True),
    Index("ix_subscription_pull_point", "pull_point"),
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
    Column("pull_point", Text, nullable=True),
    Column("given", BigInteger, nullable=True),
    Index("ix_notification_subscription_number", "subscription", "number"),
    Index(
        "ix_notification_pull_point_number",
        "pull_point",
        "number",
        sqlite_where=_IS_HELD,
        postgresql_where=_IS_HELD,
    ),
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

pull_point = Table(
    "pull_point",
    METADATA,
    Column("id", Text, primary_key=True),
    _text("node"),
    _text("user_name"),
    _text("created_at"),
    _text("asked_at"),
    Column("answers", BigInteger, nullable=False, server_default="0"),
    _text("last"),
    sqlite_with_rowid=False,
)
