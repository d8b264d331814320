"""The migrations of the access database make what the statements expect."""

from security.access.schema import METADATA
from storage.database import Database
from storage.migrations import metadata_differs


def test_migrations_and_models_agree(database: Database) -> None:
    assert metadata_differs(database, METADATA) == []
