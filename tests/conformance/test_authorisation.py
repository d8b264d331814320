"""The authorisation matrix before a served node: its policy passes, another one does not."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from conformance.access import AccessTable, AccessTableError
from conformance.bench import Session
from conformance.cases.authorisation import CALLERS, CASES
from conformance.results import Verdict
from conformance.run import run_case
from conformance.targets import Targets
from node.config_file import load
from node.init import NewNode, create
from node.wiring.common import affinity_domain, client_tls
from security.access.decision import Policy
from security.assertions.issuing import Issuer
from security.assertions.profile import AssertionProfile
from tests.node.conftest import Node, free_ports

DOORS = {"ITI-18", "ITI-43", "RAD-69", "WADO-RS", "QIDO-RS"}
PERMISSIVE = """
[[rule]]
groups = ["professional", "patient", "guardian", "user", "node"]
decision = "permit"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = create(NewNode(tmp_path_factory.mktemp("access") / "node", port_base=free_ports()))
    quick = "[imaging_source]\nquiet_seconds = 0.2"
    file.write_text(file.read_text().replace("[imaging_source]", quick))
    return file


Judge = Callable[[list[str]], dict[str, tuple[Verdict, str]]]


def judge(node: Node, callers: list[str]) -> dict[str, tuple[Verdict, str]]:
    """The verdicts of the cases of these callers, by id, and what was seen."""
    settings = load(node.config)
    own = settings.assertions.own
    command = f"{sys.executable} -m node.cli access treat {{patient}} {{who}}"
    places = node.endpoints
    targets = Targets(
        registry=places["registry"],
        repository=places["repository"],
        imaging=places["imaging"],
        dicomweb=places["dicomweb"],
        mllp=places["mllp"],
        publishes=True,
        assigning_authority=settings.affinity_domain.assigning_authority,
        domain=affinity_domain(settings),
        repository_unique_id=settings.repository.unique_id,
        imaging_unique_id=settings.imaging_source.unique_id,
        ssl_context=client_tls(settings),
        issuer=Issuer.read(
            own.name,
            own.certificate,
            own.key,
            profile=AssertionProfile.read(),
            audiences=[f"urn:oid:{settings.node.home_community_id}"],
            lifetime=timedelta(hours=1),
        ),
        treat=f"{command} --until 2099-01-01 --config {node.config}",
        timeout=20,
    )
    session = Session(targets, secrets.token_hex(4))
    wanted = {f"S05-{door}-{one}" for door in DOORS for one in callers}
    cases = [case for case in CASES if case.id in wanted]
    results = [run_case(case, session) for case in cases]
    return {one.case.id: (one.verdict, f"{one.expected}: {one.seen}") for one in results}


@pytest.fixture
def serve(config: Path) -> Iterator[Callable[[], Node]]:
    nodes: list[Node] = []

    def start() -> Node:
        nodes.append(Node(config))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


def test_a_node_shows_each_caller_what_its_policy_says(serve: Callable[[], Node]) -> None:
    told = judge(serve(), list(CALLERS))
    assert told.keys() == {case.id for case in CASES}
    assert {name: one for name, one in told.items() if one[0] is not Verdict.PASSED} == {}


def test_a_node_that_shows_everything_fails_wherever_something_is_hidden(
    serve: Callable[[], Node], config: Path
) -> None:
    policy = config.with_name("policy.toml")
    shipped = Path(sys.modules[Policy.__module__].__file__ or "").with_name("policy.toml")
    policy.write_text(shipped.read_text().partition("[[rule]]")[0] + PERMISSIVE)
    config.write_text(f'{config.read_text()}\n[policy]\nfile = "{policy}"\n')
    told = judge(serve(), ["doctor", "other-patient", "nobody", "emergency"])
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
