"""``kosmos check``: tries what the configuration names, without changing anything.

Databases are opened for reading, folders asked whether they may be written, certificates
loaded and dated, peers connected to. Every finding is told, good or bad.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imaging_source import schema as imaging_source_schema
from node import check_access, check_tls, codes
from node.config import Settings
from node.config_file import ConfigError, Problem
from node.migrate import Actor, actors, database_url, refuse_unsafe, script_location
from node.safe_versions import refuse_outdated
from node.sealing import at_rest
from node.texts import tr
from node.wiring.blobs import open_blobs
from node.wiring.common import affinity_domain, client_tls
from registry import schema as registry_schema
from repository import schema as repository_schema
from security.access import schema as access_schema
from security.choices import schema as choices_schema
from security.trust import TlsError
from soap.address import port_of
from storage.database import Database
from storage.errors import StorageError
from storage.migrations import SchemaVersion, metadata_differs, schema_version
from storage.objects import ObjectStore
from storage.safety import may_create_tables, release

# The tables that each actor's code expects.
METADATA = {
    "registry": registry_schema.METADATA,
    "repository": repository_schema.METADATA,
    "imaging_source": imaging_source_schema.METADATA,
    "access": access_schema.METADATA,
    "choices": choices_schema.METADATA,
}

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried; ``peer`` tells another node's trouble from our own."""

    subject: str
    ok: bool
    text: str
    peer: bool = False


class SchemaDiffers(Exception):
    """The tables of a database are not those that the code expects."""


def check_all(settings: Settings) -> list[Finding]:
    """Try everything; the findings in the order of the configuration."""
    return [
        _try("versions", _versions),
        _try("affinity_domain.codes", lambda: _codes(settings)),
        *_tls(settings),
        *(
            _try(f"{name}.database", _database(name, actor))
            for name, actor in actors(settings).items()
        ),
        *(_try(subject, _folder(path)) for subject, path in _folders(settings)),
        *_object_store(settings),
        *(_try(subject, attempt) for subject, attempt in check_access.attempts(settings)),
        _try("secrets", lambda: secrets(settings)),
        _try("at_rest", lambda: at_rest(settings)),
        *_withdrawal(settings),
        *_peers(settings),
    ]


def _try(subject: str, attempt: Callable[[], str], *, peer: bool = False) -> Finding:
    try:
        return Finding(subject, True, attempt(), peer)
    except (ConfigError, StorageError, TlsError, SchemaDiffers) as error:
        return Finding(subject, False, str(error), peer)
    except (OSError, ssl.SSLError) as error:
        return Finding(subject, False, error.strerror or str(error), peer)


def secrets(settings: Settings) -> str:
    """Who may read the private keys and the files of passwords. Raises ConfigError."""
    known = [*_secret_files(settings.model_dump())]
    if settings.tls.enabled:
        known.append(("tls.key", settings.tls.key))
        if settings.assertions.own.name:
            known.append(("assertions.own.key", settings.assertions.own.key))
    problems = [
        Problem(key, "", tr("{file} may be read by others: chmod o= {file}", file=file))
        for key, file in known
        if file.is_file() and file.stat().st_mode & _OTHERS
    ]
    if problems:
        raise ConfigError(problems)
    return tr("private keys and passwords are read by nobody else")


# Rights of whoever is neither owner nor of the group, in which a key may be shared on purpose.
_OTHERS = 0o007


def _secret_files(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Path]]:
    """The keys that name files of secrets, and the files."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _secret_files(value, f"{prefix}{key}.")
        elif key.endswith("_file") and isinstance(value, Path):
            yield f"{prefix}{key}", value


def _versions() -> str:
    refuse_outdated()
    return tr("no library with a known hole")


def _codes(settings: Settings) -> str:
    sets = affinity_domain(settings).code_sets
    content = codes.read(settings.affinity_domain.codes)
    ours, named = settings.affinity_domain.assigning_authority, content.assigning_authority
    notes = list(content.notes)
    if named and named != ours:
        notes.append(tr("it names the authority {named}, this node {ours}", named=named, ours=ours))
    return "; ".join([tr("{count} code sets", count=len(sets)), *notes])


def _tls(settings: Settings) -> Iterator[Finding]:
    if not settings.tls.enabled:
        yield Finding("tls", True, tr("off: loopback only"))
        return
    for subject, attempt in check_tls.attempts(settings):
        yield _try(subject, attempt)


def _database(name: str, actor: Actor) -> Callable[[], str]:
    def attempt() -> str:
        url = database_url(actor, name)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            return tr("not there yet; `kosmos serve` makes it")
        with Database.open(url, read_only=True) as database:
            refuse_unsafe(database, name)
            with script_location(name) as scripts:
                version = schema_version(database, scripts, name)
            with database.read() as connection:
                found, may_create = release(connection), may_create_tables(connection)
            if version.present is None:
                if not may_create:
                    raise StorageError(
                        tr("the user may not make tables: GRANT CREATE ON SCHEMA public TO user")
                    )
                return tr("not there yet; `kosmos serve` makes it")
            _compare(database, name, version)
        return tr("answers ({release}), its schema is up to date", release=found)

    return attempt


def _compare(database: Database, name: str, version: SchemaVersion) -> None:
    """Raise SchemaDiffers unless the tables are those that the code expects."""
    if version.present != version.newest:
        raise SchemaDiffers(
            tr(
                "its schema is at version {present} of {newest}: `kosmos migrate`",
                present=version.present,
                newest=version.newest,
            )
        )
    if differences := metadata_differs(database, METADATA[name], shared=True):
        words = tr("its tables are not those of its version: {first}", first=differences[0])
        raise SchemaDiffers(words)


def _folders(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "node.data_dir", settings.node.data_dir
    if settings.repository.enabled and isinstance(settings.repository.blobs, Path):
        yield "repository.blobs", settings.repository.blobs
    if settings.imaging_source.enabled and settings.imaging_source.files is not None:
        yield "imaging_source.files", settings.imaging_source.files


def _folder(path: Path) -> Callable[[], str]:
    def attempt() -> str:
        # What is not there yet is made below the nearest folder that is.
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(0, tr("{folder} cannot be written", folder=there))
        return str(path)

    return attempt


def _object_store(settings: Settings) -> Iterator[Finding]:
    if settings.repository.enabled and isinstance(settings.repository.blobs, str):
        yield _try("repository.blobs", lambda: _stored_once(settings))


def _stored_once(settings: Settings) -> str:
    store = open_blobs(settings)
    assert isinstance(store, ObjectStore)
    store.prove()
    return tr("takes bytes, and each object once")


def _withdrawal(settings: Settings) -> Iterator[Finding]:
    """Whether the registry of this node takes the orders that its imaging source gives.

    Nothing is broken where it does not: studies are published and replaced, but the manifest of
    one that has no image left stays in force until the registry may be administrated.
    """
    source, registry = settings.imaging_source, settings.registry
    if source.enabled and source.registry == "local" and registry.enabled:
        words = tr("the registry takes the withdrawal of a manifest")
        if not registry.administration:
            words = tr("registry.administration is off: the withdrawal of a manifest waits for it")
        yield Finding("imaging_source.withdrawal", True, words)


def _peers(settings: Settings) -> Iterator[Finding]:
    named = {
        "repository.registry": settings.repository.enabled and settings.repository.registry,
        "imaging_source.repository": settings.imaging_source.enabled
        and settings.imaging_source.repository,
        "imaging_source.registry": settings.imaging_source.enabled
        and settings.imaging_source.registry,
        **{f"peers.repositories.{oid}": url for oid, url in settings.peers.repositories.items()},
        **{
            f"peers.imaging_sources.{oid}": url
            for oid, url in settings.peers.imaging_sources.items()
        },
        **{f"peers.dicomweb.{oid}": url for oid, url in settings.peers.dicomweb.items()},
    }
    for subject, url in named.items():
        if url and url != "local":
            yield _try(subject, _connection(url, settings), peer=True)


def _connection(url: str, settings: Settings) -> Callable[[], str]:
    def attempt() -> str:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = port_of(parts)
        with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
            if parts.scheme == "https" and (tls := client_tls(settings)) is not None:
                tls.wrap_socket(connection, server_hostname=host).close()
        return tr("{host}:{port} accepts connections", host=host, port=port)

    return attempt
