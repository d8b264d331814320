"""The version of Kosmos and of the libraries whose faults would be ours."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version

from node.texts import tr

DISTRIBUTION = "kosmos-xds"
LIBRARIES = ("lxml", "pydicom", "pynetdicom", "SQLAlchemy", "uvicorn", "cryptography")


def kosmos_version() -> str:
    """The version that is installed; a tree that is not installed says so."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return tr("not installed")


def versions() -> dict[str, str]:
    """Name -> version, Kosmos first."""
    found = {"kosmos": kosmos_version(), "python": platform.python_version()}
    found |= {name: version(name) for name in LIBRARIES}
    found["sqlite"] = sqlite3.sqlite_version
    return found
