"""The imaging source's first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "instance",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("number_of_frames", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_instance")),
    )
    op.create_index("ix_instance_sha256", "instance", ["sha256"], unique=False)
    op.create_index(
        "ix_instance_study", "instance", ["study_instance_uid", "series_instance_uid"], unique=False
    )
    op.create_table(
        "publication",
        sa.Column("submission_set_unique_id", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("manifest_uid", sa.Text(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("submission_set_unique_id", name=op.f("pk_publication")),
    )
    op.create_index("ix_publication_due", "publication", ["state", "next_attempt_at"], unique=False)
    op.create_index(
        "ix_publication_open",
        "publication",
        ["study_instance_uid"],
        unique=True,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_publication_study", "publication", ["study_instance_uid"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )
    op.create_index(
        "ix_quarantine_instance", "quarantine", ["sop_instance_uid", "sha256"], unique=True
    )
    op.create_index("ix_quarantine_sha256", "quarantine", ["sha256"], unique=False)
    op.create_table(
        "series",
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("body_part", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("series_instance_uid", name=op.f("pk_series")),
    )
    op.create_index("ix_series_study", "series", ["study_instance_uid"], unique=False)
    op.create_table(
        "study",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("issuer_oid", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Text(), nullable=False),
        sa.Column("sex", sa.Text(), nullable=False),
        sa.Column("date", sa.Text(), nullable=False),
        sa.Column("time", sa.Text(), nullable=False),
        sa.Column("timezone_offset", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("accession_issuer_oid", sa.Text(), nullable=False),
        sa.Column("placer_order_number", sa.Text(), nullable=False),
        sa.Column("placer_issuer_oid", sa.Text(), nullable=False),
        sa.Column("requested_procedure_id", sa.Text(), nullable=False),
        sa.Column("referring_physician", sa.Text(), nullable=False),
        sa.Column("institution", sa.Text(), nullable=False),
        sa.Column("manufacturer", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("published_revision", sa.Integer(), nullable=False),
        sa.Column("published_entry", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_study")),
    )
    op.create_index(
        "ix_study_unpublished",
        "study",
        ["changed_at"],
        unique=False,
        sqlite_where=sa.text("revision > published_revision"),
        postgresql_where=sa.text("revision > published_revision"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_study_unpublished",
        table_name="study",
        sqlite_where=sa.text("revision > published_revision"),
        postgresql_where=sa.text("revision > published_revision"),
    )
    op.drop_table("study")
    op.drop_index("ix_series_study", table_name="series")
    op.drop_table("series")
    op.drop_index("ix_quarantine_sha256", table_name="quarantine")
    op.drop_index("ix_quarantine_instance", table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_index("ix_publication_study", table_name="publication")
    op.drop_index(
        "ix_publication_open",
        table_name="publication",
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index("ix_publication_due", table_name="publication")
    op.drop_table("publication")
    op.drop_index("ix_instance_study", table_name="instance")
    op.drop_index("ix_instance_sha256", table_name="instance")
    op.drop_table("instance")
