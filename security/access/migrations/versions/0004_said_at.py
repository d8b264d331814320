"""When the message was made that carried a choice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what was kept before nothing is known."""
    op.add_column("carried_choice", sa.Column("said_at", sa.Text(), nullable=True))
