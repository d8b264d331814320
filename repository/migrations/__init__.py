"""The repository's schema, version by version (Alembic)."""
