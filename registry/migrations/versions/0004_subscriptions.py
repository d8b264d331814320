"""Subscriptions to what is registered, and the outbox of their notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "subscription",
        _text("patient"),
        _text("id"),
        _text("topic"),
        _text("consumer"),
        _text("created_at"),
        _text("expires_at"),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("due_at", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("owner", sa.Text(), nullable=True),
        _text("filter"),
        sa.PrimaryKeyConstraint("patient", "id", name="pk_subscription"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_subscription_id", "subscription", ["id"], unique=True)
    op.create_table(
        "notification",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        _text("subscription"),
        _text("topic"),
        _text("producer"),
        _text("state"),
        _text("created_at"),
        _text("error"),
        sa.Column("objects", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_notification"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_notification_subscription_number", "notification", ["subscription", "number"]
    )
    op.create_index(
        "ix_notification_waiting",
        "notification",
        ["subscription", "number"],
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )


def downgrade() -> None:
    op.drop_table("notification")
    op.drop_table("subscription")
