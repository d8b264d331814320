"""Pull points: notifications that wait to be fetched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "pull_point",
        _text("id"),
        _text("node"),
        _text("user_name"),
        _text("created_at"),
        _text("asked_at"),
        sa.Column("answers", sa.BigInteger(), nullable=False, server_default="0"),
        _text("last"),
        sa.PrimaryKeyConstraint("id", name="pk_pull_point"),
        sqlite_with_rowid=False,
    )
    op.add_column("subscription", sa.Column("pull_point", sa.Text(), nullable=True))
    op.add_column("notification", sa.Column("pull_point", sa.Text(), nullable=True))
    op.add_column("notification", sa.Column("given", sa.BigInteger(), nullable=True))
    op.create_index("ix_subscription_pull_point", "subscription", ["pull_point"])
    op.create_index(
        "ix_notification_pull_point_number",
        "notification",
        ["pull_point", "number"],
        sqlite_where=sa.text("pull_point IS NOT NULL"),
        postgresql_where=sa.text("pull_point IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_notification_pull_point_number", "notification")
    op.drop_index("ix_subscription_pull_point", "subscription")
    op.drop_column("notification", "given")
    op.drop_column("notification", "pull_point")
    op.drop_column("subscription", "pull_point")
    op.drop_table("pull_point")
