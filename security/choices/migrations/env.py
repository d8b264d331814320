"""Alembic's way in: see ``storage.migration_env``."""

from security.choices.schema import METADATA
from storage.migration_env import run

run(METADATA, "choices")
