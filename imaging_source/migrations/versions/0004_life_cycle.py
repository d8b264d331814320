"""What rejection notes have named, and publications that withdraw a manifest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"


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
    op.add_column(
        "publication", sa.Column("kind", sa.Text(), nullable=False, server_default="manifest")
    )
