"""Schemas of every actor of the node, brought up to date before anything is served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sqlalchemy import URL, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from node.config import RegistrySection, RepositorySection, Settings
from node.config_file import ConfigError, Problem, read_secret
from node.config_imaging import ImagingSourceSection
from node.config_trust import AccessSection, ChoicesSection
from node.progress import Progress, silent
from node.texts import tr
from security.audit.chain import make_key
from storage.database import Database
from storage.migrations import VERSION_TABLE_SUFFIX
from storage.safety import Unsafe, unsafe_settings

Actor = RegistrySection | RepositorySection | ImagingSourceSection | AccessSection | ChoicesSection

# Below the data folder.
DICOM_MEMORY = "access-dicom.db"

# Where the migrations are of what is no room of its own.
_PACKAGES = {"access": "security.access", "choices": "security.choices"}


def actors(settings: Settings) -> dict[str, Actor]:
    """What of this node has a database, by the name of its room."""
    sections: dict[str, RegistrySection | RepositorySection | ImagingSourceSection] = {
        "registry": settings.registry,
        "repository": settings.repository,
        "imaging_source": settings.imaging_source,
    }
    found: dict[str, Actor] = {name: one for name, one in sections.items() if one.enabled}
    if settings.judges_assertions:
        found |= {"access": settings.access, "choices": settings.choices}
    return found


@dataclass(frozen=True, slots=True)
class Migrated:
    """An actor and the version of its schema before and after; None where it had none."""

    actor: str
    before: str | None
    after: str | None


def migrate(settings: Settings, progress: Progress = silent) -> list[Migrated]:
    """Migrate the database of every actor, and say how far that was.

    Makes the key that signs audit trails, too; each process migrates its own trail. Raises
    ConfigError, StorageError and OSError.
    """
    migrate_audit(settings)
    sections = actors(settings)
    migrated = []
    with progress(tr("databases"), len(sections)) as step:
        for name, section in sections.items():
            with open_database(section, name) as database, script_location(name) as scripts:
                before = schema_version(database, name)
                database.migrate(scripts)
                migrated.append(Migrated(name, before, schema_version(database, name)))
            step()
    if (memory := dicom_memory(settings)) is not None:
        with open_database(memory, "access") as database, script_location("access") as scripts:
            database.migrate(scripts)
    return migrated


def dicom_memory(settings: Settings) -> AccessSection | None:
    """The memory of assertions of the process ``dicom``, where that of the node is a file, which
    has one writing process; None where both have the same, or there is nobody to remember."""
    if not (settings.judges_assertions and settings.imaging_source.enabled):
        return None
    if database_url(settings.access, "access").get_backend_name() != "sqlite":
        return None
    return AccessSection(database=f"sqlite:///{settings.node.data_dir / DICOM_MEMORY}")


def migrate_access(settings: Settings) -> None:
    """Make what operators write of who may see what, where it is not there yet.

    Raises ConfigError and StorageError.
    """
    for name, section in (("access", settings.access), ("choices", settings.choices)):
        url = database_url(section, name)
        if url.get_backend_name() == "sqlite" and Path(url.database or "").exists():
            continue  # a node may be writing it, and has migrated it
        with open_database(section, name) as database, script_location(name) as scripts:
            database.migrate(scripts)


def migrate_audit(settings: Settings) -> None:
    """Make the folder of the audit trails, and their key, where they are wanted. Raises OSError."""
    if settings.audit.enabled:
        assert settings.audit.folder is not None  # filled in when the configuration was read
        make_key(settings.audit.folder)


def schema_version(database: Database, actor: str) -> str | None:
    """The version of an actor's schema in ``database``; None where it has none."""
    table = f"{actor}{VERSION_TABLE_SUFFIX}"
    with database.read() as connection:
        if not inspect(connection).has_table(table):
            return None
        found: str = connection.execute(text(f"SELECT version_num FROM {table}")).scalar_one()
        return found


def open_database(section: Actor, name: str, *, read_only: bool = False) -> Database:
    """The database of an actor; its folder is made where it is a file.

    Raises ConfigError for a URL that is none and for a database whose settings could lose what
    was acknowledged, StorageError for a database that cannot be had.
    """
    url = database_url(section, name)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    database = Database.open(url, read_only=read_only)
    try:
        refuse_unsafe(database, name)
    except BaseException:
        database.close()
        raise
    return database


def refuse_unsafe(database: Database, name: str) -> None:
    """Raise ConfigError naming every unsafe setting of the database, and its remedy."""
    with database.read() as connection:
        found = unsafe_settings(connection)
    if found:
        raise ConfigError([Problem(f"{name}.database", one.setting, _remedy(one)) for one in found])


def _remedy(unsafe: Unsafe) -> str:
    if unsafe.setting == "server_version":
        return tr(
            "PostgreSQL {value} is too old: {needed} or newer",
            value=unsafe.value,
            needed=unsafe.needed,
        )
    if unsafe.setting == "server_encoding":
        return tr(
            "is {value}, which cannot hold every name; CREATE DATABASE name ENCODING '{needed}' "
            "TEMPLATE template0",
            value=unsafe.value,
            needed=unsafe.needed,
        )
    if unsafe.setting == "pg_is_in_recovery":
        return tr("is a standby, where nothing can be written; name the primary, or promote it")
    return tr(
        "is {value}, so that a power cut loses what was acknowledged; "
        "ALTER SYSTEM SET {setting} = {needed}, then pg_reload_conf()",
        value=unsafe.value,
        setting=unsafe.setting,
        needed=unsafe.needed,
    )


def database_url(section: Actor, name: str) -> URL:
    """The URL with the password of its file, unless it has one itself, as another has that the
    environment names. Raises ConfigError."""
    try:
        url = make_url(section.database)
    except (ArgumentError, ValueError):
        text = tr("no database URL: write sqlite:////path/file.db or postgresql://host/name")
        raise ConfigError([Problem(f"{name}.database", "", text)]) from None
    if url.password is not None:
        return url
    password = read_secret(section.database_password_file)
    return url if password is None else url.set(password=password)


@contextmanager
def script_location(room: str) -> Iterator[Path]:
    """The folder of a room's migrations as a path, wherever the room is installed."""
    package = _PACKAGES.get(room, room)
    with resources.as_file(resources.files(package) / "migrations") as folder:
        yield folder
