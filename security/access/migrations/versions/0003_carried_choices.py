"""Choices that identity messages carry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "carried_choice",
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("opposed", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("patient", name="pk_carried_choice"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("carried_choice")
