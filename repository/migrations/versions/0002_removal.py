"""Removed documents leave their row as a memory of what the uniqueId stood for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stored_document", sa.Column("removed_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("stored_document", "removed_at")
