"""The names of a report are found by it."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_report_name_report", "report_name", ["report_uid"])
