"""Notices of availability add up: which instances each sender has named."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table; of earlier notices only the number is known, until the next one."""
    op.create_table(
        "available_instance",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("sender", sa.Text, primary_key=True),
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
    )
