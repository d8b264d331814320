"""Manifests of several families side by side, and none sent again that says nothing new."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column and the table; what is published already has one family."""
    op.add_column("publication", sa.Column("content_hash", sa.Text))
    op.create_table(
        "further_manifest",
        sa.Column("submission_set_unique_id", sa.Text, nullable=False),
        sa.Column("flavour", sa.Text, nullable=False),
        sa.Column("entry_uuid", sa.Text, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("submission_set_unique_id", "flavour", name="pk_further_manifest"),
    )
