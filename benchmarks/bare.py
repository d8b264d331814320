"""The bare path: the same bytes by the shortest way, on the same server and its threads.

What stands beside the actors' endpoints in the process that is measured: plain ASGI
handlers that parse, ask the driver, read or write a file, and nothing else. They check
nothing, refuse nothing and log nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import psycopg
from lxml import etree
from sqlalchemy import Connection, create_engine
from sqlalchemy.sql.elements import ClauseElement

from metadata.affinity_domain import AffinityDomain
from metadata.identifiers import QUERY, RIM
from registry import Registry
from registry.search import DOCUMENTS
from soap.asgi import Receive, Scope, Send, respond
from storage.database import Database
from transactions.query_catalogue import STORED_QUERIES
from transactions.query_decoding import decode
from transactions.stored_query import find_documents

# Pieces read from disk for an answer, as the store itself reads them.
_PIECE = 256 * 1024

_ANSWER = (
    f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>'
    f'<q:AdhocQueryResponse xmlns:q="{QUERY}" xmlns:rim="{RIM}"><rim:RegistryObjectList>'.encode()
)
_END = b"</rim:RegistryObjectList></q:AdhocQueryResponse></s:Body></s:Envelope>"
_PATIENT = etree.XPath(
    "string(//rim:Slot[@name='$XDSDocumentEntryPatientId']/rim:ValueList/rim:Value)",
    namespaces={"rim": RIM},
)

# Stands for the patient while the statement is looked at; nobody has this identifier.
_SOMEBODY = "somebody^^^&1.2.3.4.5&ISO"


def statement_of(database: Database, registry: Registry) -> str:
    """The SQL of FindDocuments as the registry gives it to the driver, the patient a parameter."""
    seen: list[str] = []
    with database.read() as connection:
        driver = _driver(connection)
    driver.set_trace_callback(seen.append)  # the next reader is the last one given back
    registry.query(find_documents(_SOMEBODY))
    driver.set_trace_callback(None)
    [statement] = [sql for sql in seen if "document_entry" in sql]
    return statement.replace(f"'{_SOMEBODY}'", "?")


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


class Query:
    """FindDocuments of a patient, without the registry."""

    def __init__(self, database: Database, path: str, registry: Registry) -> None:
        self._sql = statement_of(database, registry)
        self._connection = sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one query."""
        patient = str(_PATIENT(etree.fromstring(await _body(receive)))).strip("'")
        hits = self._connection.execute(self._sql, (patient,)).fetchall()
        answer = b"".join([_ANSWER, *[hit[-1] for hit in hits], _END])
        await respond(send, 200, answer, content_type="application/soap+xml; charset=utf-8")


class PostgreSQLQuery:
    """The same on PostgreSQL: prepared by the driver, results in binary form."""

    def __init__(self, url: str, domain: AffinityDomain) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._cursor = self._connection.cursor(binary=True)
        self._parameters: dict[str, Any] = {
            "patient": _SOMEBODY,
            "limit": domain.max_results + 1,
        }
        decoded = decode(find_documents(_SOMEBODY), STORED_QUERIES)
        assert not isinstance(decoded, list)
        clause = DOCUMENTS.of_patient(decoded, self._parameters).clause
        dialect = create_engine("postgresql+psycopg://").dialect
        self._sql = str(cast(ClauseElement, clause).compile(dialect=dialect)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one query."""
        patient = str(_PATIENT(etree.fromstring(await _body(receive)))).strip("'")
        found = self._cursor.execute(self._sql, {**self._parameters, "patient": patient})
        answer = b"".join([_ANSWER, *[hit[-1] for hit in found.fetchall()], _END])
        await respond(send, 200, answer, content_type="application/soap+xml; charset=utf-8")


class Upload:
    """Writes a request's body to a file, durably."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one file in; one at a time."""
        part, file = self._folder / "upload.part", self._folder / "upload"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        more = True
        while more:
            message = await receive()
            rest = memoryview(message.get("body", b""))
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            more = message.get("more_body", False)
        os.fsync(descriptor)
        os.close(descriptor)
        os.replace(part, file)
        _sync_folder(self._folder)
        await respond(send, 200, b"kept")


class Download:
    """Sends the files named in a request's body, one path a line, one after the other."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send one answer."""
        paths = (await _body(receive)).decode().split("\n")
        length = sum(os.stat(path).st_size for path in paths)
        headers = [(b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_files(paths, send)
        await send({"type": "http.response.body", "body": b""})


async def _send_files(paths: Iterable[str], send: Send) -> None:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    pieces = [message["body"]]
    while message.get("more_body", False):
        message = await receive()
        pieces.append(message["body"])
    return b"".join(pieces)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
