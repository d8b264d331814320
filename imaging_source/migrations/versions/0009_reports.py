"""Reports about studies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the tables; instances that came before are no reports to anybody yet."""
    op.create_table(
        "report",
        sa.Column("report_uid", sa.Text, primary_key=True),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("issued_at", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("accession_number", sa.Text, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("published_revision", sa.Integer, nullable=False),
        sa.Column("published_entry", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Float),
        sa.Column("reason", sa.Text),
    )
    op.create_index("ix_report_due", "report", ["next_attempt_at"])
    op.create_index("ix_report_study", "report", ["study_instance_uid"])
    op.create_index("ix_report_accession", "report", ["accession_number"])
    op.create_index("ix_report_sha256", "report", ["sha256"])
    op.create_table(
        "report_name",
        sa.Column("sender", sa.Text, primary_key=True),
        sa.Column("number", sa.Text, primary_key=True),
        sa.Column("report_uid", sa.Text, nullable=False),
    )
    op.create_table(
        "encapsulated",
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
    )
