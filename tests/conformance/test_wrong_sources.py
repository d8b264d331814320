"""Every case about images against sources that store rightly and then show wrongly."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from conformance.bench import Bench, Session
from conformance.case import Case
from conformance.cases.rejection_notes import LOOKED_AT, Rejected
from conformance.dimse import Entity, kind_of
from conformance.images import REJECTIONS, part10, rejection_note, study
from conformance.results import Verdict
from conformance.run import all_cases, run_case
from conformance.source import Source
from imaging_source.rejection import Reference, read_note
from imaging_source.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from tests.conformance.wrong_provider import wrong_provider

# Who may see images is judged in test_served_node.
WEB = [
    case
    for case in all_cases()
    if case.needs & {"dicomweb", "wado_uri"} and "issuer" not in case.needs
]
DIMSE = [case for case in all_cases() if case.needs & {"dicom"} and not case.needs & {"dicomweb"}]


class Welcome(BaseHTTPRequestHandler):
    """Says yes to everything, and hands over the same page."""

    def do_GET(self) -> None:
        body = b"<html>It works!</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def welcome() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Welcome)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Entity]:
    with wrong_provider(stored=0x0000) as provider:
        yield provider


@pytest.mark.parametrize("system", ["sqlite"], indirect=True)
def test_a_web_that_says_yes_to_everything_fails_every_case_about_it(
    system: Any, welcome: str
) -> None:
    targets = system.targets(dicomweb=welcome, wado_uri=welcome)
    session = Session(targets, secrets.token_hex(4))
    verdicts = {case.id: run_case(case, session).verdict for case in WEB}
    assert len(verdicts) > 75
    assert verdicts == dict.fromkeys(verdicts, Verdict.FAILED)


@pytest.mark.parametrize("system", ["sqlite"], indirect=True)
def test_a_provider_that_stores_and_forgets_fails_every_case_about_it(
    system: Any, forgetful: Entity
) -> None:
    # It is waited for until it shows what it has stored.
    targets = system.targets(dicom=str(forgetful), timeout=1.0)
    session = Session(targets, secrets.token_hex(4))
    verdicts = {case.id: run_case(case, session).verdict for case in DIMSE}
    assert len(verdicts) > 25
    assert verdicts == dict.fromkeys(verdicts, Verdict.FAILED)


@pytest.mark.parametrize("system", ["sqlite"], indirect=True)
def test_a_source_that_takes_a_note_and_shows_on_fails_at_every_door(system: Any) -> None:
    session = Session(system.targets(), secrets.token_hex(4))
    source = Source(Bench(session))
    image, *kept = source.stored_study(source.patient())
    # As it is where no note has had any effect.
    session.shared(LOOKED_AT, lambda: dict.fromkeys(REJECTIONS, Rejected(image, kept)))
    doors = [case for case in all_cases() if case.id.startswith("I07") and not is_slow(case)]
    verdicts = {case.id: run_case(case, session).verdict for case in doors}
    assert len(verdicts) == len(REJECTIONS) * 7
    assert verdicts == dict.fromkeys(verdicts, Verdict.FAILED)


def is_slow(case: Case) -> bool:
    """Whether a case would wait in vain for a manifest."""
    return "publishes" in case.needs


@pytest.mark.parametrize("code", REJECTIONS)
def test_a_note_says_what_it_rejects_and_why(code: str) -> None:
    image, other, _ = study("P1")
    # The data set begins after preamble, prefix and meta information, whose length that states.
    file = part10(rejection_note(code, [image, other]))
    start = 144 + int.from_bytes(file[140:144], "little")
    note = read_note(file[start:], EXPLICIT_VR_LITTLE_ENDIAN)
    assert note is not None
    assert note.code == code
    assert note.references == tuple(
        Reference(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)
        for one in (image, other)
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, "Success"),
        (0xFF00, "Pending"),
        (0xFE00, "Cancel"),
        (0xB000, "Warning"),
        (0x0107, "Warning"),
        (0xA801, "Failure"),
        (0xC001, "Failure"),
        (-1, ""),
    ],
)
def test_a_status_is_told_by_its_kind(status: int, kind: str) -> None:
    assert kind_of(status) == kind


@pytest.mark.parametrize("text", ["", "AE", "AE@host", "@host:104", "AE@:104", "AE@host:x"])
def test_what_names_no_application_entity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="AE@HOST:PORT"):
        Entity.parse(text)
    assert Entity.parse("AE@[::1]:104") == Entity("AE", "::1", 104)
