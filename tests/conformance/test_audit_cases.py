"""The cases about audit records: a node that writes them wrongly, or loses them, fails."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conformance.auditing import AuditRepository
from conformance.case import Case
from conformance.cases import audit_trail
from conformance.cases.user_assertions import INTERRUPTED
from conformance.results import Verdict
from conformance.run import run
from conformance.targets import Targets
from conformance.tokens import USER
from metadata.identifiers import SUCCESS
from security.assertions.issuing import Issuer
from security.assertions.profile import AssertionProfile
from security.audit.syslog import Sender, frame
from security.pki import create_authority
from soap.endpoint import Endpoint, Operation
from soap.server import Router, running_server
from tests.conformance.conftest import free_port
from transactions import iti_18
from transactions.audit import Node, Scene, Side, to_xml
from transactions.iti_18 import ITI_18, AdhocQueryResponse

Lie = Callable[[bytes], bytes]
CASES = {case.id: case for case in audit_trail.CASES}
QUERIED, OUTAGE = CASES["S03-ITI-18-ok"], CASES["S04"]
NOW = "2026-03-01T12:00:00.000Z"


@contextmanager
def scribe(port: int, lie: Lie) -> Iterator[str]:
    """A registry that knows nothing; it tells a repository of a query once, as it likes."""

    def answer(request: Any, context: Any) -> AdhocQueryResponse:
        response = AdhocQueryResponse(SUCCESS)
        server = Node("http://127.0.0.1/registry", "127.0.0.1", "1")
        scene = Scene(Side.SERVER, datetime.now(UTC), Node("kit", "127.0.0.1"), server, "scribe")
        message = b"".join(map(to_xml, iti_18.audit(request, response, scene)))
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(frame(lie(Sender("h", "a", "1").write(message, NOW, False))))
        return response

    with ThreadPoolExecutor(2) as pool:
        operation = Operation(ITI_18, answer)
        name = "DocumentRegistry"
        door = Endpoint([operation], pool=pool, title=name, service_name=name)
        with running_server(Router({"/registry": door})) as url:
            yield f"{url}/registry"


def verdict(case: Case, lie: Lie, timeout: float, issuer: Issuer | None = None) -> Verdict:
    port = free_port()
    with scribe(port, lie) as url:
        targets = Targets(
            registry=url,
            patients=("A", "B", "C"),
            audit_listener=f"127.0.0.1:{port}",
            timeout=timeout,
            issuer=issuer,
        )
        [result] = run(targets, [case]).results
    return result.verdict


def replaced(old: bytes, new: bytes) -> Lie:
    def lie(message: bytes) -> bytes:
        assert old in message
        return message.replace(old, new)

    return lie


def without_objects(message: bytes) -> bytes:
    return message.partition(b"<ParticipantObjectIdentification")[0] + b"</AuditMessage>"


def without_patient(message: bytes) -> bytes:
    head, patient, query = message.split(b"<ParticipantObjectIdentification")
    assert b'TypeCodeRole="1"' in patient
    return head + b"<ParticipantObjectIdentification" + query


LIES: dict[str, Lie] = {
    "header": replaced(b"IHE+RFC-3881", b"-"),
    "priority": replaced(b"<85>", b"<13>"),
    "event": replaced(b"110112", b"110106"),
    "type": replaced(b'<EventTypeCode csd-code="ITI-18"', b'<EventTypeCode csd-code="ITI-51"'),
    "action": replaced(b'EventActionCode="E"', b'EventActionCode="R"'),
    "outcome": replaced(b'EventOutcomeIndicator="0"', b'EventOutcomeIndicator="8"'),
    "old-code": replaced(b"csd-code", b"code"),
    "no-source": replaced(b"AuditSourceID", b"SourceID"),
    "requestor": replaced(b'UserIsRequestor="true"', b'UserIsRequestor="false"'),
    "roles": lambda message: message.replace(b"110153", b"x").replace(b"110152", b"110153"),
    "no-objects": without_objects,
    "no-patient": without_patient,
    "truncated": lambda message: message[:-20],
}


def test_right_records_pass() -> None:
    assert verdict(QUERIED, lambda message: message, 5) is Verdict.PASSED


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_wrong_record_fails(lie: Lie) -> None:
    assert verdict(QUERIED, lie, 0.3) is Verdict.FAILED


def naming(user: str) -> Lie:
    """Says that this user asked."""
    end = b"<AuditSourceIdentification"
    participant = f'<ActiveParticipant UserID="u" UserName="&lt;{user}@issuer&gt;"/>'.encode()
    return replaced(end, participant + end)


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_record_that_names_the_user_in_part_fails(name: str, tmp_path: Path) -> None:
    identity = create_authority(tmp_path, "Issuer")
    issuer = Issuer.read(
        "https://idp.example",
        identity.certificate,
        identity.key,
        profile=AssertionProfile.read(),
        audiences=[],
        lifetime=timedelta(hours=1),
    )
    case = CASES[f"S03-{name}"]
    assert verdict(case, naming(USER.subject), 5, issuer) is Verdict.PASSED
    for told in ("kit", ".user@example.org", "kituser@example.org"):
        assert verdict(case, naming(told), 0.3, issuer) is Verdict.FAILED


def test_a_node_that_sends_a_record_once_only_loses_it_in_an_outage() -> None:
    assert verdict(OUTAGE, lambda message: message, 0.3) is Verdict.FAILED


def test_without_a_listener_no_case_is_run_and_says_what_is_missing() -> None:
    results = run(Targets(registry="http://127.0.0.1:9"), audit_trail.CASES).results
    assert {one.verdict for one in results} == {Verdict.NOT_RUN}
    assert all("--audit-listener" in one.reason.en for one in results)


def test_a_port_that_is_taken_is_no_verdict_about_the_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        [result] = run(
            Targets(registry="http://x", patients=("A", "B", "C"), audit_listener=place), [QUERIED]
        ).results
    assert result.verdict is Verdict.NOT_RUN


def test_a_repository_drops_who_does_not_frame_and_keeps_listening() -> None:
    repository = AuditRepository("127.0.0.1", port := free_port(), None)
    repository.start()
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"hello")
            assert connection.recv(1) == b""
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                frame(b"no syslog") + frame(Sender("h", "a", "1").write(b"<", NOW, True))
            )
            found = repository.await_records(lambda record: True, 2, 5)
    finally:
        repository.close()
    assert [one.faults for one in found] == [["the syslog header", "no XML"], ["no XML"]]
