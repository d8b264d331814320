"""What archives have committed to (storage commitment): the outcome for each instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the table; nothing has been asked yet."""
    op.create_table(
        "archive_commitment",
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
        sa.Column("archive", sa.Text, primary_key=True),
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("transaction_uid", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Integer),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_index("ix_archive_commitment_transaction", "archive_commitment", ["transaction_uid"])
    op.create_index("ix_archive_commitment_state", "archive_commitment", ["archive", "state"])
