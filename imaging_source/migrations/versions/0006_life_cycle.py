"""Rejections, corrected patients, and publications that withdraw a manifest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add what the life cycle of a published study needs; nothing changes for what is there."""
    op.create_table(
        "rejection",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("note_uid", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_rejection")),
    )
    op.create_table(
        "merged_patient",
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer_oid", sa.Text(), nullable=False),
        sa.Column("surviving_id", sa.Text(), nullable=False),
        sa.Column("merged_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "issuer_oid", name=op.f("pk_merged_patient")),
    )
    op.create_index("ix_merged_patient_survivor", "merged_patient", ["surviving_id"])
    op.create_table(
        "correction",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text()),
        sa.Column("patient_name", sa.Text()),
        sa.Column("birth_date", sa.Text()),
        sa.Column("sex", sa.Text()),
        sa.Column("corrected_at", sa.Float(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_correction")),
    )
    op.create_table(
        "unidentified",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Float(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_unidentified")),
    )
    op.create_table(
        "completion",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("told_at", sa.Float(), nullable=False),
        sa.Column("instances", sa.Integer()),
        sa.PrimaryKeyConstraint("study_instance_uid", "signal", name=op.f("pk_completion")),
    )
    op.create_index("ix_study_patient", "study", ["patient_id", "issuer_oid"])
    op.add_column(
        "publication", sa.Column("kind", sa.Text(), nullable=False, server_default="manifest")
    )
