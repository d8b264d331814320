"""What DICOMweb serves: descriptions of instances, names as they are compared, indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from imaging_source.names import folded

revision = "0007"
down_revision = "0006"

_FOLDED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INDEXES = (
    ("ix_study_listed", "study", ["date", "time", "study_instance_uid"]),
    ("ix_study_accession", "study", ["accession_number"]),
    ("ix_study_study_id", "study", ["study_id"]),
    ("ix_series_study", "series", ["study_instance_uid", "modality"]),
    ("ix_series_modality", "series", ["modality", "series_instance_uid"]),
    ("ix_instance_study", "instance", ["study_instance_uid", "series_instance_uid", "rejection"]),
    ("ix_study_name_patient", "study_name", ["patient_name"]),
    ("ix_study_name_physician", "study_name", ["referring_physician"]),
    ("ix_series_step_start", "series_step", ["start_date", "start_time"]),
    ("ix_series_request_step", "series_request", ["scheduled_step_id"]),
    ("ix_series_request_procedure", "series_request", ["requested_procedure_id"]),
)

# Studies whose names are folded by one statement.
_PAGE = 1000


def upgrade() -> None:
    """Make the tables; the names of the studies there are; descriptions follow by themselves."""
    op.create_table(
        "study_name",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("patient_name", _FOLDED, nullable=False),
        sa.Column("referring_physician", _FOLDED, nullable=False),
    )
    op.create_table(
        "description",
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.Column("places", sa.LargeBinary, nullable=False),
        sa.Column("pixel_rows", sa.Integer),
        sa.Column("pixel_columns", sa.Integer),
        sa.Column("bits_allocated", sa.Integer),
    )
    op.create_table(
        "series_step",
        sa.Column("series_instance_uid", sa.Text, primary_key=True),
        sa.Column("start_date", sa.Text, nullable=False),
        sa.Column("start_time", sa.Text, nullable=False),
    )
    op.create_table(
        "series_request",
        sa.Column("series_instance_uid", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("scheduled_step_id", sa.Text, nullable=False),
        sa.Column("requested_procedure_id", sa.Text, nullable=False),
    )
    op.drop_index("ix_instance_study", "instance")
    op.drop_index("ix_series_study", "series")
    for name, table, columns in _INDEXES:
        op.create_index(name, table, columns)
    _fold_names(op.get_bind())


def _fold_names(connection: sa.Connection) -> None:
    columns = ("study_instance_uid", "patient_name", "referring_physician")
    study = sa.table("study", *(sa.column(name) for name in columns))
    name = sa.table("study_name", *(sa.column(column) for column in columns))
    query = sa.select(study).order_by(study.c.study_instance_uid).limit(_PAGE)
    last = ""
    while rows := connection.execute(query.where(study.c.study_instance_uid > last)).all():
        folded_rows = [(uid, folded(patient), folded(other)) for uid, patient, other in rows]
        values = [dict(zip(columns, row, strict=True)) for row in folded_rows]
        connection.execute(sa.insert(name), values)
        last = rows[-1][0]
