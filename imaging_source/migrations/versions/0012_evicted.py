"""Bytes that are with their archive alone, and when studies were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the tables; everything is here so far."""
    op.create_table(
        "evicted",
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("evicted_at", sa.Float, nullable=False),
        sa.Column("reason", sa.Text),
    )
    op.create_index("ix_evicted_study", "evicted", ["study_instance_uid"])
    op.create_table(
        "study_use",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("used_at", sa.Float, nullable=False),
        sa.Column("evicted_at", sa.Float),
    )
