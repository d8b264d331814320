"""Large documents are proved by a hash that takes a quarter of the time of their address."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; documents from before go on being proved by their address."""
    op.add_column("stored_document", sa.Column("blake3", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take the column away."""
    op.drop_column("stored_document", "blake3")
