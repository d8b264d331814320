"""What only a whole secure node can answer: the authorisation matrix, the audit trail."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from conformance import auditing
from conformance.access import AccessTable, AccessTableError
from conformance.auditing import AuditRecord
from conformance.bench import Bench, Session
from conformance.case import Case
from conformance.cases import audit_options, audit_trail, authorisation
from conformance.cases.authorisation import CALLERS
from conformance.results import Verdict
from conformance.run import run
from conformance.source import Source
from conformance.targets import Targets
from conformance.tokens import USER, unsigned
from node.config_file import load
from node.init import NewNode, create
from node.wiring.client import consumer
from node.wiring.common import affinity_domain, client_tls, server_tls
from node.wiring.tokens import own_issuer
from security.access.decision import Policy
from tests.conformance.conftest import free_port
from tests.node.conftest import Node, free_ports

DOORS = {"ITI-18", "ITI-43", "RAD-69", "WADO-RS", "QIDO-RS"}
AUDIT_PORT, TOLD_PORT = free_port(), free_port()
PERMISSIVE = """
[[rule]]
groups = ["professional", "patient", "guardian", "user", "node"]
decision = "permit"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = create(NewNode(tmp_path_factory.mktemp("access") / "node", port_base=free_ports()))
    quick = '[imaging_source]\nquiet_seconds = 0.2\nquery_titles = ["*"]\nuser_titles = ["WARD"]'
    text = file.read_text().replace("[imaging_source]", quick)
    for room in ("registry", "repository"):
        text = text.replace(f"[{room}]", f"[{room}]\nadministration = true")
    audit = f'\n[audit]\nsend_to = ["tls://127.0.0.1:{AUDIT_PORT}"]\n'
    told = f'\n[subscriptions]\nconsumers = ["http://127.0.0.1:{TOLD_PORT}/"]\n'
    users = f'\n[peers]\ndicom_users = ["{load(file).imaging_source.unique_id}"]\n'
    file.write_text(text + audit + told + users)
    return file


def of(callers: Iterable[str]) -> list[Case]:
    wanted = {f"S05-{door}-{one}" for door in DOORS for one in callers}
    return [case for case in authorisation.CASES if case.id in wanted]


def targets_of(node: Node) -> Targets:
    """Where the kit finds the node."""
    settings = load(node.config)
    command = f"{sys.executable} -m node.cli access treat {{patient}} {{who}}"
    places = node.endpoints
    return Targets(
        registry=places["registry"],
        repository=places["repository"],
        imaging=places["imaging"],
        dicomweb=places["dicomweb"],
        mllp=places["mllp"],
        identity_v3=places["registry"],
        subscriptions=places["subscriptions"],
        listener=f"127.0.0.1:{TOLD_PORT}",
        multi_patient=True,
        on_demand=True,
        administration=True,
        publishes=True,
        assigning_authority=settings.affinity_domain.assigning_authority,
        domain=affinity_domain(settings),
        repository_unique_id=settings.repository.unique_id,
        imaging_unique_id=settings.imaging_source.unique_id,
        ssl_context=client_tls(settings),
        issuer=own_issuer(settings),
        treat=f"{command} --until 2099-01-01 --config {node.config}",
        audit_listener=f"127.0.0.1:{AUDIT_PORT}",
        audit_tls=server_tls(settings, "http"),
        timeout=5,
    )


def judge(node: Node, cases: list[Case]) -> dict[str, tuple[Verdict, str]]:
    """The verdicts by id, and what was seen."""
    results = run(targets_of(node), cases).results
    return {
        one.case.id: (one.verdict, f"{one.expected}: {one.seen} {one.reason.en}") for one in results
    }


@pytest.fixture
def serve(config: Path) -> Iterator[Callable[[], Node]]:
    nodes: list[Node] = []

    def start() -> Node:
        nodes.append(Node(config))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


def another_action(message: bytes) -> AuditRecord:
    """The record of a node that says that something else was done."""
    spoilt = re.sub(rb'(?<=EventActionCode=")\w', b"X", message)
    return auditing.record_of(spoilt)


@pytest.mark.timeout(400)  # a table of hundreds of questions: half a minute, more when busy
def test_a_node_shows_each_caller_what_its_policy_says_and_records_every_call(
    serve: Callable[[], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [*of(CALLERS), *audit_trail.CASES, *audit_options.CASES]
    assert {*authorisation.CASES, *audit_trail.CASES, *audit_options.CASES} == set(cases)
    told = judge(node := serve(), cases)
    assert {name: one for name, one in told.items() if one[0] is not Verdict.PASSED} == {}
    monkeypatch.setattr(auditing.AuditRepository, "read", staticmethod(another_action))
    told = judge(node, list(audit_options.CASES))
    assert {name: one for name, one in told.items() if one[0] is not Verdict.FAILED} == {}


def found_by_dicom(
    node: Node, study: str, assertion: str = "", title: str = "ASKER"
) -> list[str] | None:
    """The studies found by C-FIND and what C-GET brings of them; None where there is no
    association."""
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field = 4, assertion.encode()
    user.positive_response_requested = True
    came: list[str] = []

    def take(event: Any) -> int:
        came.append(str(event.dataset.StudyInstanceUID))
        return 0

    ae = AE(title)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage)
    association = ae.associate(
        host,
        int(port),
        ae_title="KOSMOS",
        tls_args=(client_tls(load(node.config)), None),  # type: ignore[arg-type]
        ext_neg=[build_role(CTImageStorage, scp_role=True), *([user] if assertion else [])],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    if not association.is_established:
        return None
    answered = association.acceptor.user_identity
    response = (answered.server_response or b"") if answered else b""
    assert (b"status:Success" in response) is bool(assertion)
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study
    answers = association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind)
    found = [str(one.StudyInstanceUID) for _, one in answers if one is not None]
    list(association.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet))
    association.release()
    assert set(came) == set(found)
    return found


def test_over_dicom_it_is_the_user_who_may_see_and_not_the_node_that_asks_for_him(
    serve: Callable[[], Node],
) -> None:
    targets = targets_of(node := serve())
    session = Session(targets, "dicom")
    bench = Bench(session)
    patient = bench.patient()
    study = str(Source(bench).stored_study(patient)[0].StudyInstanceUID)
    issuer = targets.issuer
    assert issuer is not None
    good = issuer.issue(USER)
    assert found_by_dicom(node, study) == [study]
    assert found_by_dicom(node, study, good) == [study]
    assert found_by_dicom(node, study, good) == [study]  # for a session, again
    elsewhere = AccessTable.read().callers["doctor-elsewhere"]
    assert found_by_dicom(node, study, elsewhere.token(issuer, patient, patient)) == [study]
    stranger = bench.unknown_patient()
    assert found_by_dicom(node, study, elsewhere.token(issuer, patient, stranger)) == []
    for bad in (unsigned(issuer), good[:-20], "x" * 60_000):
        assert found_by_dicom(node, study, bad) is None
    assert found_by_dicom(node, study, title="WARD") is None
    assert found_by_dicom(node, study, good, title="WARD") == [study]
    settings = load(node.config)
    own = consumer(settings, "ada").dicom[settings.imaging_source.unique_id]
    assert found_by_dicom(node, study, own.token(), title="WARD") == [study]
    session.close()
    node.stop()
    trail = node.config.parent / "data" / "audit" / "dicom.db"
    with closing(sqlite3.connect(trail)) as connection:
        query = "SELECT type, outcome, CAST(message AS TEXT) FROM audit_record"
        records = connection.execute(query).fetchall()
    refused = [text for kind, outcome, text in records if (kind, outcome) == ("110126", 8)]
    assert len(refused) == 4
    assert sum("needs an assertion" in one for one in refused) == 1
    named = {kind for kind, _, text in records if USER.subject in text}
    assert named == {"RAD-14", "RAD-16"}


def test_a_node_that_shows_everything_fails_wherever_something_is_hidden(
    serve: Callable[[], Node], config: Path
) -> None:
    policy = config.with_name("policy.toml")
    shipped = Path(sys.modules[Policy.__module__].__file__ or "").with_name("policy.toml")
    policy.write_text(shipped.read_text().partition("[[rule]]")[0] + PERMISSIVE)
    config.write_text(f'{config.read_text()}\n[policy]\nfile = "{policy}"\n')
    told = judge(serve(), of(["doctor", "other-patient", "nobody", "emergency"]))
    failed = {name for name, one in told.items() if one[0] is Verdict.FAILED}
    assert failed == {f"S05-{door}-{who}" for door in DOORS for who in ("doctor", "other-patient")}
    assert {one[0] for name, one in told.items() if name not in failed} == {Verdict.PASSED}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[states]\n[callers.doctor]\nsees = ['normal']", "no state normal"),
        ("[states]\n[callers.doctor]\nrole = []", "unknown word role"),
        ("[states]\n[callers.doctor]\nroles = ['221']", "is not CODE^^SYSTEM"),
        ("[states]\n[callers.doctor]\nabout = 'me'", "about is own or other"),
        ("[states]", "'callers' is missing"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(text)
    with pytest.raises(AccessTableError, match=re.escape(told)):
        AccessTable.read(file)
