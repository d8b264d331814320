"""The memory of a removed document says by what it was removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; until now nothing but ITI-86 removed documents."""
    op.add_column("stored_document", sa.Column("removed_by", sa.Text(), nullable=True))
    op.execute("UPDATE stored_document SET removed_by = 'ITI-86' WHERE removed_at IS NOT NULL")


def downgrade() -> None:
    """Take the column away."""
    op.drop_column("stored_document", "removed_by")
