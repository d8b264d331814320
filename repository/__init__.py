"""The Document Repository (ITI TF-1 10.1.1.4): documents kept durably and served on request.

It answers ITI-41 Provide and Register Document Set-b and ITI-43 Retrieve Document Set, and
registers what it keeps through ITI-42. It judges nothing of the metadata but what ties it
to the bytes: that is the registry's part.
"""

from pathlib import Path

from repository.repository import Repository

__all__ = ["MIGRATIONS", "Repository"]

MIGRATIONS = Path(__file__).parent / "migrations"
"""Where the repository's schema versions are: for ``Database.migrate``."""
