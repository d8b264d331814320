"""A DICOMweb service on loopback over both engines, and a client that reads its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3
from pydicom.dataset import Dataset

from imaging_source.description.worker import Describer
from imaging_source.dicomweb import DicomWeb
from imaging_source.index import MIGRATIONS
from soap.asgi import Receive, Scope, Send
from soap.server import Router, running_server
from soap.service import Ended
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes

    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)

    def parts(self) -> list[tuple[dict[str, str], bytes]]:
        """Heads and contents of a multipart body, taken apart by the boundary alone."""
        _, _, boundary = self.headers["content-type"].partition("boundary=")
        mark = b"\r\n--" + boundary.strip('"').encode()
        before, *pieces, end = self.body.split(mark)
        assert (before, end) == (b"", b"--\r\n")
        found = []
        for piece in pieces:
            head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            lines = (line.partition(": ") for line in head.decode().split("\r\n"))
            found.append(({name.lower(): value for name, _, value in lines}, content))
        return found


class Client:
    """Asks one service."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._pool = urllib3.PoolManager(retries=False)

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Reply:
        """What is answered at a path below the root; headers with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._pool.request(
            method, f"{self.root}{path}", headers=named, decode_content=False, timeout=20.0
        )
        return Reply(answer.status, answer.headers, answer.data)

    def found(self, path: str) -> list[dict[str, Any]]:
        """The hits of a query."""
        answer = self.get(path)
        assert answer.status in (200, 204), answer.body
        return answer.json() if answer.status == 200 else []


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@pytest.fixture
def outcomes() -> list[str]:
    """How the requests of the test ended, as they are counted."""
    return []


@pytest.fixture
def web(database: Database, blobs: BlobStore, outcomes: list[str]) -> Iterator[Client]:
    def observe(call: Ended) -> None:
        outcomes.append(call.outcome)

    with ThreadPoolExecutor(4) as pool:
        service = DicomWeb(database, blobs, pool, observe=observe)
        with running_server(Router({}, {"/dicomweb": service})) as base:
            yield Client(f"{base}/dicomweb")


@pytest.fixture
def hidden() -> set[str]:
    """The studies that whoever asks ``veiled_web`` may not see."""
    return set()


@pytest.fixture
def veiled_web(database: Database, blobs: BlobStore, hidden: set[str]) -> Iterator[Client]:
    """The same service for somebody from whom something is hidden."""
    with ThreadPoolExecutor(4) as pool:
        service = DicomWeb(database, blobs, pool)

        async def veiled(scope: Scope, receive: Receive, send: Send) -> None:
            scope["unseen"] = hidden.intersection
            await service(scope, receive, send)

        with running_server(Router({}, {"/dicomweb": veiled})) as base:
            yield Client(f"{base}/dicomweb")


@pytest.fixture
def describe_all(database: Database, blobs: BlobStore) -> Callable[[], int]:
    """Describes what has been stored, as the background thread would."""
    return Describer(database, blobs).sweep
