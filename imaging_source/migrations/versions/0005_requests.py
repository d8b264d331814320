"""A study that answers several requests keeps them all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NAMES = (
    "study_instance_uid",
    "accession_number",
    "placer_order_number",
    "accession_issuer_oid",
    "placer_issuer_oid",
    "requested_procedure_id",
)


def upgrade() -> None:
    """Make the table; of studies that are there already the first request alone is known."""
    op.create_table(
        "request",
        *(sa.Column(name, sa.Text, nullable=False) for name in _NAMES),
        sa.PrimaryKeyConstraint(*_NAMES[:3], name="pk_request"),
    )
