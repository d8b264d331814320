"""When a series was made: a manifest with descriptions (MADO) says it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; of series that are there already the time is not known."""
    for name in ("date", "time"):
        op.add_column("series", sa.Column(name, sa.Text))
