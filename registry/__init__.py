"""The Document Registry: registers metadata (ITI-42), answers stored queries (ITI-18), lets
administrators change and remove what is registered (ITI-57, ITI-92, ITI-62), knows the patients
of the affinity domain (ITI-8)."""

from pathlib import Path

from registry.registry import Registry

__all__ = ["MIGRATIONS", "Registry"]

MIGRATIONS = Path(__file__).parent / "migrations"
"""Where the registry's schema versions are: for ``Database.migrate``."""
