"""On PostgreSQL the ebRIM of objects is compressed by LZ4.

Beside PGLZ, PostgreSQL's own choice, an object of 8 KB takes 6 % more room, a fifth of the time
to compress and half of it to read. What is stored already stays as it is, and readable. A server
that was built without LZ4, or is no PostgreSQL but speaks like one, goes on as before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("document_entry", "submission_set", "folder", "association")
_HAS_LZ4 = sa.text(
    "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
)


def upgrade() -> None:
    _compress("lz4")


def downgrade() -> None:
    _compress("default")


def _compress(method: str) -> None:
    context = op.get_context()
    if context.dialect.name == "postgresql" and op.get_bind().scalar(_HAS_LZ4):
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN ebrim SET COMPRESSION {method}")
