"""The imaging source's schema, version by version (Alembic)."""
