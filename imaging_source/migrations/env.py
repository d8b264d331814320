"""Alembic's way in: see ``storage.migration_env``."""

from imaging_source.schema import METADATA
from storage.migration_env import run

run(METADATA, "imaging_source")
