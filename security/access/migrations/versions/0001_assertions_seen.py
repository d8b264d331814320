"""The assertions that were met."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "assertion_seen",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("until", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "id", name="pk_assertion_seen"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_assertion_seen_until", "assertion_seen", ["until"])


def downgrade() -> None:
    op.drop_table("assertion_seen")
