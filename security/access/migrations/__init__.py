"""The audit trail's schema, version by version (Alembic)."""
