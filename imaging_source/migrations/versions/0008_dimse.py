"""Storage commitments, performed procedure steps, and notices of availability."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the tables; nobody has told or asked anything yet."""
    op.create_table(
        "commitment",
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("transaction_uid", sa.Text, primary_key=True),
        sa.Column("named", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Float, nullable=False),
        sa.Column("requested_at", sa.Float, nullable=False),
    )
    op.create_index("ix_commitment_due", "commitment", ["state", "next_attempt_at"])
    op.create_table(
        "performed_step",
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_index("ix_performed_step_study", "performed_step", ["study_instance_uid"])
    op.create_table(
        "availability",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("sender", sa.Text, primary_key=True),
        sa.Column("retrieve_ae_title", sa.Text, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("told_at", sa.Float, nullable=False),
    )
    op.create_index("ix_availability_told", "availability", ["told_at"])
    op.create_table(
        "peer_told",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Float, nullable=False),
    )
