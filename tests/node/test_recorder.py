"""What a request for images over the web leaves in the trail, also when its answer breaks off."""

from __future__ import annotations

import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import IncompleteRead
from pathlib import Path

import pytest

from node.migrate import script_location
from node.wiring.audit import BROKEN_OFF, Auditor
from node.wiring.doorman import Recorder
from security.audit.chain import make_key
from security.audit.trail import Trail
from soap.asgi import Receive, Scope, Send
from soap.server import Router, running_server
from storage.space import LowWaterMark

STUDY = "/studies/1.2.9"


async def images(scope: Scope, receive: Receive, send: Send) -> None:
    """Two pieces; the second never comes where the path says so."""
    head = [(b"content-length", b"8"), (b"content-type", b"application/dicom")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["path"].endswith("/broken"):
        return
    await send({"type": "http.response.body", "body": b"rest"})


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[str]:
    make_key(tmp_path)
    with (
        script_location("security") as scripts,
        Trail(tmp_path, "north", "web-0", LowWaterMark(1), scripts) as trail,
    ):
        door = Recorder(images, Auditor(trail, "north", ""), lambda _scope: "RAD-107")
        with running_server(Router({}, {"/dicomweb": door})) as base:
            yield f"{base}/dicomweb{STUDY}"


def told(folder: Path) -> list[tuple[int, bool]]:
    """The outcome of every record, and whether it says that an answer broke off."""
    with closing(sqlite3.connect(folder / "web-0.db")) as connection:
        query = "SELECT outcome, message FROM audit_record ORDER BY number"
        rows = connection.execute(query).fetchall()
    return [(outcome, BROKEN_OFF.encode() in message) for outcome, message in rows]


def test_an_answer_that_left_whole_is_one_record(recorded: str, tmp_path: Path) -> None:
    with urllib.request.urlopen(recorded) as answer:
        assert answer.read() == b"halfrest"
    assert told(tmp_path) == [(0, False)]


def test_one_that_broke_off_is_recorded_as_a_failure_too(recorded: str, tmp_path: Path) -> None:
    with (
        pytest.raises((IncompleteRead, ConnectionError)),
        urllib.request.urlopen(f"{recorded}/broken") as answer,
    ):
        answer.read()
    with urllib.request.urlopen(recorded):  # whose record comes after it
        pass
    assert told(tmp_path) == [(0, False), (12, True), (0, False)]
