"""What a refused message has spooled is given up, also when the writing of it starts late."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from soap.endpoint import Endpoint, Operation
from soap.limits import BATCH, Limits
from soap.server import running_server
from tests.soap.conftest import Spools

PARTS = (
    b'--b\r\nContent-Type: application/xop+xml; type="application/soap+xml"\r\n'
    b"Content-ID: <root@test>\r\n\r\n<x/>\r\n"
    b"--b\r\nContent-ID: <0@test>\r\n\r\n"
)
CONTENT_TYPE = (
    'multipart/related; type="application/xop+xml"; start="<root@test>"; '
    'start-info="application/soap+xml"; boundary="b"'
)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """One worker, so that its jobs run in the order in which they were given to it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def post(url: str, pieces: Iterator[bytes]) -> int:
    """Send a body in chunks; the status of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    with closing(connection):
        connection.request("POST", "/", pieces, {"Content-Type": CONTENT_TYPE})
        return connection.getresponse().status


def test_a_document_that_is_spooled_only_after_its_message_was_refused_is_given_up(
    pool: ThreadPoolExecutor, store: Any
) -> None:
    spools, free = Spools(), threading.Event()
    endpoint = Endpoint(
        [Operation(store, lambda contents, _context: [])],
        pool=pool,
        title="t",
        service_name="T",
        spool=spools,
        limits=Limits(message=2 * BATCH),
    )
    with running_server(endpoint) as url:
        pool.submit(free.wait, 10)
        # The first batch is waiting to be written when the second exceeds the limit.
        status = post(url, iter([PARTS, *[bytes(BATCH)] * 2]))
        free.set()
        pool.submit(int).result()  # the first batch has been written ...
        pool.submit(int).result()  # ... and what was to be done after it has been done

    assert status == 413
    assert spools.opened == 1
    assert spools.left == 0
