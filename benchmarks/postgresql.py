"""A PostgreSQL server for a benchmark, durable as in service, and what it can do by itself."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

_ACCOUNT = "postgres"

# What an administrator would set on a machine of 16 GB or more; everything else, durability
# above all, is as PostgreSQL comes.
_SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "2GB",
    "max_wal_size": "8GB",
}

_TPS = re.compile(r"tps = ([0-9.]+)")


class NoPostgreSQL(Exception):
    """PostgreSQL's programs are not on this machine."""


@dataclass(slots=True)
class Cluster:
    """A running server below ``folder``."""

    programs: Path
    folder: Path
    numbers: Iterator[int]

    def new_database(self) -> str:
        """The URL of a fresh database."""
        name = f"kosmos_{next(self.numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of the database ``name``."""
        return f"postgresql://{_ACCOUNT}@/{name}?host={self.folder}"

    def commits(self, clients: int, seconds: float) -> float:
        """Single rows of some 100 bytes committed a second, by pgbench, which is written in C."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS one_row"
                " (id bigserial PRIMARY KEY, filler text NOT NULL)"
            )
        script = self.folder / "one_row.sql"
        script.write_text(f"INSERT INTO one_row (filler) VALUES ('{'x' * 84}');\n")
        script.chmod(0o644)
        command: list[str | Path] = [
            *(self.programs / "pgbench", "-h", self.folder, "-U", _ACCOUNT, "-n"),
            *("-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds)))),
            *("-f", script, "postgres"),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = _TPS.search(done.stdout)
        assert found is not None
        return float(found[1])


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A server of its own where temporary files go. Raises NoPostgreSQL."""
    programs = _programs()
    become = _become_account()
    # A socket's path may have 107 bytes, so the folder's name is short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if become is not None:
        shutil.chown(folder, _ACCOUNT)
    folder.chmod(0o755)
    data = folder / "data"
    try:
        options: list[str | Path] = [
            "-D",
            data,
            "-U",
            _ACCOUNT,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        _run([programs / "initdb", *options], folder, become)
        settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        server: list[str | Path] = [
            "-D",
            data,
            "-l",
            folder / "log",
            "-w",
            "-o",
            f"-k {folder} {settings}",
        ]
        _run([programs / "pg_ctl", *server, "start"], folder, become)
        yield Cluster(programs, folder, count())
    finally:
        _run([programs / "pg_ctl", "-D", data, "-m", "fast", "stop"], folder, become)
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    on_path = shutil.which("pgbench")
    if not found and not on_path:
        raise NoPostgreSQL("PostgreSQL's server and pgbench are not installed")
    return found[-1].parent if found else Path(on_path or "").parent


def _become_account() -> Callable[[], None] | None:
    """What a child must do first: the server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam(_ACCOUNT)

    def become() -> None:
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)

    return become


def _run(command: list[str | Path], folder: Path, become: Callable[[], None] | None) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, preexec_fn=become)
