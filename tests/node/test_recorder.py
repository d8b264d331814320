"""What a request for images over the web leaves in the trail, also when its answer breaks off."""

from __future__ import annotations

import contextlib
import sqlite3
import urllib.request
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPException, IncompleteRead
from pathlib import Path

import pytest
from lxml import etree

from node.migrate import script_location
from node.wiring.audit import BROKEN_OFF, Auditor
from node.wiring.doorman import Recorder, dicomweb_transaction
from security.audit.chain import make_key
from security.audit.trail import Trail
from soap.asgi import Receive, Scope, Send
from soap.server import Router, running_server
from storage.space import LowWaterMark
from tests.waiting import wait_for

STUDY = "/studies/1.2.9"


async def images(scope: Scope, receive: Receive, send: Send) -> None:
    """Two pieces; the second never comes where the path says so. What is sent here is taken in, and
    its sender gone before he is answered where the path says so."""
    if scope["method"] == "POST":
        scope["taken"].add("1.2.8")
        if scope["path"].endswith("/gone"):
            return
    head = [(b"content-length", b"8"), (b"content-type", b"application/dicom")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["path"].endswith("/broken"):
        return
    await send({"type": "http.response.body", "body": b"rest"})


def patients(studies: Collection[str]) -> list[str]:
    """One patient for each study."""
    return [f"4711^^^&{one}&ISO" for one in studies]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[str]:
    make_key(tmp_path)
    with (
        script_location("security") as scripts,
        ExitStack() as stack,
        Trail(tmp_path, "north", "web-0", LowWaterMark(1), scripts) as trail,
    ):
        auditor = Auditor(trail, "north", "", whose=patients)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        door = Recorder(images, auditor, pool, dicomweb_transaction)
        with running_server(Router({}, {"/dicomweb": door})) as base:
            yield f"{base}/dicomweb{STUDY}"


def told(folder: Path) -> list[tuple[int, bool]]:
    """The outcome of every record, and whether it says that an answer broke off."""
    with closing(sqlite3.connect(folder / "web-0.db")) as connection:
        query = "SELECT outcome, message FROM audit_record ORDER BY number"
        rows = connection.execute(query).fetchall()
    return [(outcome, BROKEN_OFF.encode() in message) for outcome, message in rows]


def about(folder: Path) -> list[tuple[str, list[str], list[str]]]:
    """Of every record its transaction, its patients and its studies."""
    with closing(sqlite3.connect(folder / "web-0.db")) as connection:
        query = "SELECT type, message FROM audit_record ORDER BY number"
        rows = connection.execute(query).fetchall()
    path = "ParticipantObjectIdentification[@ParticipantObjectTypeCode='{}']/@ParticipantObjectID"
    read = [(type_, etree.fromstring(message)) for type_, message in rows]
    return [(type_, *(one.xpath(path.format(kind)) for kind in "12")) for type_, one in read]


def test_a_record_names_the_patient_whose_images_were_asked_for(
    recorded: str, tmp_path: Path
) -> None:
    """PS3.15 A.5.3.7: the request names a study alone."""
    with urllib.request.urlopen(recorded):
        pass
    with urllib.request.urlopen(f"{recorded.removesuffix(STUDY)}/studies?PatientID=4711"):
        pass
    assert about(tmp_path) == [
        ("RAD-107", ["4711^^^&1.2.9&ISO"], ["1.2.9"]),
        ("RAD-129", [], ["RAD-129"]),
    ]


def test_what_was_taken_in_is_recorded_also_where_its_sender_has_gone(
    recorded: str, tmp_path: Path
) -> None:
    stow = recorded.removesuffix("/1.2.9")
    with urllib.request.urlopen(urllib.request.Request(stow, b"images")):
        pass
    with contextlib.suppress(HTTPException, OSError):
        urllib.request.urlopen(urllib.request.Request(f"{stow}/gone", b"images"))
    wait_for(lambda: len(told(tmp_path)) == 2)
    assert about(tmp_path) == [("RAD-108", ["4711^^^&1.2.8&ISO"], ["1.2.8"])] * 2
    assert told(tmp_path) == [(0, False), (12, True)]


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
