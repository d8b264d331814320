"""Merges that were undone, local identifiers that changed patients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "patient_unmerge",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subsumed", sa.Text(), nullable=False),
        sa.Column("surviving", sa.Text(), nullable=False),
        sa.Column("merged_at", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("unmerged_at", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_patient_unmerge"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_patient_unmerge_subsumed", "patient_unmerge", ["subsumed"])
    op.create_index("ix_patient_unmerge_surviving", "patient_unmerge", ["surviving"])
    op.create_table(
        "link_change",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("local", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("current", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", "local", name="pk_link_change"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_link_change_previous", "link_change", ["previous"])
    op.create_index("ix_link_change_current", "link_change", ["current"])
    op.create_table(
        "link_change_object",
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("change", "entry_uuid", name="pk_link_change_object"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("link_change_object")
    op.drop_table("link_change")
    op.drop_table("patient_unmerge")
