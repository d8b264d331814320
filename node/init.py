"""``kosmos init``: a folder with everything a node needs to start.

Writes ``kosmos.toml``, the code sets (``codes.toml``, or ``codes.xml`` where that was given),
the password of the database in a file of its own and, unless the node is plain, a test PKI in
``pki/``.
Nothing that exists is overwritten: a node's identifiers must never change under its documents.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from metadata.datatypes import new_oid
from node import codes
from node.texts import tr

# The French code sets that ship; metadata.affinity_domain says how to write others.
DEFAULT_CODES = resources.files("metadata").joinpath("codes_fr.toml")
# The patient domain of plain nodes, which are for tests and first steps: the French test domain
# of the national health identifier, which the conformance kit takes for granted too.
TEST_AUTHORITY = "1.2.250.1.213.1.4.10"
CONFIG_FILE = "kosmos.toml"
PASSWORD_FILE = "database.password"

TEMPLATE = """\
# A Kosmos node. Every key is explained in docs/configuration.md; what is left out has a default.
# The identifiers below were made for this node and must not change while it holds documents.

[node]
name = {name}
data_dir = "data"
host = {host}
{ports}home_community_id = {home}

[affinity_domain]
assigning_authority = {authority}
codes = {codes}

[registry]
{administration}{database}
[repository]
unique_id = {repository}
{administration}{database}
[imaging_source]
unique_id = {source}
ae_title = "KOSMOS"
{database}
[tls]
enabled = {tls}
{crl}{assertions}{access}"""
# Who is asking: this node's own commands, by a key for tests. A region names its identity provider.
ASSERTIONS = """
[assertions.own]
name = {issuer}

[[assertions.issuers]]
name = {issuer}
certificates = "pki/issuer.pem"
"""

ACCESS = """
[access]
{database}
[choices]
{database}"""


class NodeExists(Exception):
    """The folder already holds a node; the text names its file."""


@dataclass(frozen=True, slots=True)
class NewNode:
    """What the caller may choose; the rest is made up.

    Without an ``assigning_authority`` it is the one that the file ``codes`` names.
    """

    folder: Path
    plain: bool = False
    port_base: int | None = None
    assigning_authority: str | None = None
    database: str | None = None
    codes: Path | None = None


def create(node: NewNode) -> Path:
    """Write the folder of ``node``; the path of its ``kosmos.toml``.

    Raises NodeExists, ConfigError naming what is wrong with the code sets, and OSError where
    the folder cannot be written.
    """
    file = node.folder / CONFIG_FILE
    if file.exists():
        raise NodeExists(tr("{file} exists already; nothing was changed", file=file))
    content = node.codes.read_bytes() if node.codes else DEFAULT_CODES.read_bytes()
    name = "codes.xml" if codes.is_xml(content) else "codes.toml"
    config = _config(node, name)
    node.folder.mkdir(parents=True, exist_ok=True)
    (node.folder / name).write_bytes(content)
    if (password := _separated(node.database)[1]) is not None:
        secret = node.folder / PASSWORD_FILE
        secret.touch(mode=0o600)
        secret.write_text(f"{password}\n")
    if not node.plain:
        _create_pki(node.folder / "pki")
    # Written last: a folder with this file is complete.
    file.write_text(config)
    return file


def _config(node: NewNode, codes_name: str) -> str:
    named = codes.read(node.codes).assigning_authority if node.codes else None
    authority = named or (TEST_AUTHORITY if node.plain else new_oid())
    base = "" if node.port_base is None else f"port_base = {node.port_base}\n"
    url, password = _separated(node.database)
    database = "" if url is None else f"database = {_quoted(url)}\n"
    database += "" if password is None else f"database_password_file = {_quoted(PASSWORD_FILE)}\n"
    return TEMPLATE.format(
        name=_quoted(node.folder.resolve().name or "kosmos"),
        # A plain node is for this machine only; a secure one is there to be reached.
        host=_quoted("127.0.0.1" if node.plain else "0.0.0.0"),
        ports=base,
        home=_quoted(new_oid()),
        authority=_quoted(node.assigning_authority or authority),
        # A plain node is a test bed; on any other an administrator decides.
        administration="administration = true\n" if node.plain else "",
        codes=_quoted(codes_name),
        database=database,
        repository=_quoted(new_oid()),
        source=_quoted(new_oid()),
        access=ACCESS.format(database=database) if database and not node.plain else "",
        tls="false" if node.plain else "true",
        crl="" if node.plain else 'crl = "pki/crl.pem"\n',
        assertions="" if node.plain else ASSERTIONS.format(issuer=_quoted(_issuer_name())),
    )


def _separated(database: str | None) -> tuple[str | None, str | None]:
    """A database's URL without its password, and the password; what is no URL stays as it is."""
    try:
        url = make_url(database or "")
    except (ArgumentError, ValueError):
        return database, None
    if url.password is None:
        return database, None
    rest = URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    )
    return rest.render_as_string(hide_password=False), url.password


def _quoted(text: str) -> str:
    """A TOML basic string: the same escapes as JSON's."""
    return json.dumps(text, ensure_ascii=False)


def _create_pki(folder: Path) -> None:
    from security.pki import create_authority, issue, write_crl

    host = socket.gethostname()
    authority = create_authority(folder, f"Test authority of {host}")
    write_crl(authority)
    hosts = ["localhost", "127.0.0.1", "::1", host]
    for name in ("node", "issuer"):
        issue(folder, authority, name, hosts)


def _issuer_name() -> str:
    return f"urn:kosmos:issuer:{socket.gethostname()}"
