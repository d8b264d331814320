"""Instances that a rejection note names (IOCM) keep their row and are shown no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; nothing is rejected yet."""
    op.add_column("instance", sa.Column("rejection", sa.Text))
