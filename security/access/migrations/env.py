"""Alembic's way in: see ``storage.migration_env``."""

from security.access.schema import METADATA
from storage.migration_env import run

run(METADATA, "access")
