"""The cases about assertions over HTTP: a registry that verifies passes, any other does not."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conformance.bench import Bench, Session
from conformance.case import Case
from conformance.cases import secure_nodes
from conformance.cases.user_assertions import BAD, CASES, FOR_EVER
from conformance.results import Verdict
from conformance.run import run_case
from conformance.targets import Targets
from metadata.identifiers import FAILURE
from node.cli.app import app
from node.cli.exits import UsageError
from node.migrate import script_location
from registry import MIGRATIONS
from registry.registry import Registry
from security.assertions import conditions, structure
from security.assertions.conditions import Terms
from security.assertions.issuing import Issuer
from security.assertions.profile import AssertionProfile
from security.assertions.seen import Reuse, Seen
from security.assertions.signature import Issuers
from security.assertions.verifier import Verifier
from security.pki import Identity, create_authority, issue
from security.tls import client_context, server_context
from soap.endpoint import Endpoint, Operation
from soap.server import Router, running_server
from storage.database import Database
from tests.conformance.conftest import domain_of
from tests.conformance.gates import (
    BelievingGate,
    Holds,
    SignatureGate,
    StrictGate,
    by_the_key_it_brings,
    by_the_key_of,
    by_whatever_it_says,
    with_all_transforms,
)
from tests.conformance.test_wrong_peers import REASON, garbage, http_peer, soap_reply
from transactions.iti_18 import ITI_18
from transactions.stored_query import get_associations

NAME, AUDIENCE = "https://idp.example/kit", "urn:example:kit"
DAY = timedelta(days=1)
FORGED = {f"S02-{name}" for name in (*BAD, "outside", "same-id", "replay")}


@dataclass(frozen=True)
class Registries:
    """The same registry behind gates that verify, or do not; by TLS."""

    url: str
    issuer: Issuer
    identity: Identity
    authority: Identity
    router: Router

    def at(self, door: str) -> str:
        """The URL of a door of the registry."""
        return f"{self.url}/{door}"

    def targets(self, door: str) -> Targets:
        """What the kit knows of a door."""
        one, trust = self.identity, self.authority.certificate
        return Targets(
            registry=self.at(door),
            issuer=self.issuer,
            ssl_context=client_context(one.certificate, one.key, trust),
            authority=self.authority,
            timeout=10,
        )


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registries]:
    folder = tmp_path_factory.mktemp("asking")
    authority = create_authority(folder, "Kit authority")
    identity = issue(folder, authority, "kit", ["localhost"])
    profile = AssertionProfile.read()
    with ExitStack() as stack:
        database = stack.enter_context(Database.open(f"sqlite:///{folder}/registry.db"))
        database.migrate(MIGRATIONS)
        access = stack.enter_context(Database.open(f"sqlite:///{folder}/access.db"))
        with script_location("security.access") as scripts:
            access.migrate(scripts)
        issuers, seen = Issuers.read({NAME: identity.certificate}), Seen(access, Reuse.SAME_NODE)

        def strict(longest: timedelta) -> StrictGate:
            return StrictGate(Verifier(profile, issuers, Terms([AUDIENCE], longest), seen))

        registry = Registry(database, domain_of())
        pool = stack.enter_context(ThreadPoolExecutor(2))

        def door(gate: Any) -> Endpoint:
            query = Operation(ITI_18, lambda request, context: registry.query(request))
            name = "DocumentRegistry"
            return Endpoint([query], pool=pool, title=name, service_name=name, gate=gate)

        issuer = Issuer.read(
            NAME,
            identity.certificate,
            identity.key,
            profile=profile,
            audiences=[AUDIENCE],
            lifetime=timedelta(hours=1),
        )
        gates = {
            "strict": strict(DAY),
            "lasting": strict(2 * FOR_EVER),
            "believing": BelievingGate(),
            **{name: SignatureGate(one) for name, one in lenient(issuer).items()},
        }
        router = Router({f"/{name}": door(gate) for name, gate in gates.items()})
        tls = server_context(identity.certificate, identity.key, authority.certificate)
        url = stack.enter_context(running_server(router, tls=tls))
        yield Registries(url, issuer, identity, authority, router)


def lenient(issuer: Issuer) -> dict[str, Holds]:
    """Gates that look for a signature that holds, and at nothing else."""
    return {
        "signed": by_the_key_of(issuer.certificate),
        "bringing": by_the_key_it_brings,
        "saying": by_whatever_it_says(issuer.certificate),
        "filtering": with_all_transforms(issuer.certificate),
    }


Judge = Callable[[Case, str], Verdict]


@pytest.fixture
def judge(registries: Registries) -> Judge:
    """Runs a case against a door of the registry."""

    def judged(case: Case, door: str) -> Verdict:
        return run_case(case, Session(registries.targets(door), "ASK")).verdict

    return judged


@pytest.mark.parametrize("case", list(CASES), ids=lambda case: case.id)
def test_a_registry_that_verifies_passes(case: Case, judge: Judge) -> None:
    assert judge(case, "strict") is Verdict.PASSED


@pytest.mark.parametrize("case", list(CASES), ids=lambda case: case.id)
def test_a_registry_that_believes_everything_fails_what_is_forged(case: Case, judge: Judge) -> None:
    wanted = Verdict.FAILED if case.id in FORGED else Verdict.PASSED
    assert judge(case, "believing") is wanted


# Of these no signature holds, whatever it is of.
UNHELD = {"none", "unsigned", "key", "weak-key", "hmac", "changed", "twice-signed", "transform"}


@pytest.mark.parametrize(
    ("door", "held"),
    [
        ("signed", set()),
        ("bringing", {"key", "weak-key"}),
        ("saying", {"hmac"}),
        ("filtering", {"transform"}),
    ],
)
def test_a_registry_that_only_looks_whether_a_signature_holds_fails_wherever_one_does(
    door: str, held: set[str], judge: Judge
) -> None:
    failed = {case.id for case in CASES if judge(case, door) is Verdict.FAILED}
    assert failed == FORGED - {f"S02-{name}" for name in UNHELD - held}


@pytest.mark.parametrize(
    ("room", "check", "admitted"),
    [
        (structure, "_no_identifier_twice", {"identifier"}),
        (conditions, "check_time", {"expired", "early"}),
        (conditions, "_check_audience", {"audience"}),
        (conditions, "_holds", {"holder"}),
        (Seen, "meet", {"same-id", "replay"}),
    ],
)
def test_a_registry_that_leaves_out_one_check_fails_what_it_is_for(
    room: Any, check: str, admitted: set[str], judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, check, lambda *given: True)
    failed = {case.id for case in CASES if judge(case, "strict") is Verdict.FAILED}
    assert failed == {f"S02-{name}" for name in admitted}


def test_a_registry_that_takes_an_assertion_for_ever_fails_the_long_lived_one(
    judge: Judge,
) -> None:
    failed = {case.id for case in CASES if judge(case, "lasting") is Verdict.FAILED}
    assert failed == {"S02-long-lived"}


def test_a_registry_that_answers_something_else_fails_every_case(registries: Registries) -> None:
    for reply in (garbage, soap_reply(FAILURE, REASON)):
        with http_peer(reply) as url:
            session = Session(replace(registries.targets("strict"), registry=url), "ASK")
            plain = [case for case in CASES if "secured" not in case.needs]
            verdicts = {run_case(case, session).verdict for case in plain}
            assert verdicts == {Verdict.FAILED}


def test_without_an_issuer_no_case_is_run(registries: Registries) -> None:
    session = Session(replace(registries.targets("strict"), issuer=None), "ASK")
    for case in CASES:
        result = run_case(case, session)
        assert result.verdict is Verdict.NOT_RUN
        assert "--issuer" in result.reason.en


def test_ordinary_calls_bring_a_good_assertion(registries: Registries) -> None:
    for issuer, answered in ((registries.issuer, True), (None, False)):
        targets = replace(registries.targets("strict"), issuer=issuer)
        answer = Bench(Session(targets, "ASK")).query(get_associations(["urn:uuid:1"]))
        assert (answer.fault is None) is answered


def test_the_issuer_is_named_on_the_command_line(registries: Registries) -> None:
    identity, authority = registries.identity, registries.authority
    options = {
        "issuer": NAME,
        "issuer-certificate": identity.certificate,
        "issuer-key": identity.key,
        "audience": AUDIENCE,
        "tls-certificate": identity.certificate,
        "tls-key": identity.key,
        "tls-trust": authority.certificate,
        "tls-authority": authority.certificate,
        "tls-authority-key": authority.key,
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = ["conformance", "run", "--case", "S02", *given, "--registry"]
    ended = CliRunner().invoke(app, [*command, registries.at("strict")])
    assert ended.exit_code == 0, ended.output
    assert f"{len(list(CASES))} passed, 0 failed, 0 not run" in ended.output
    ended = CliRunner().invoke(app, [*command, registries.at("believing")])
    assert ended.exit_code == 1
    assert f"{len(FORGED)} failed" in ended.output
    told = [line for line in ended.output.splitlines() if line.startswith(("✓", "✗"))]
    again = told[len(list(CASES)) :]
    assert again == [line for line in told[: len(list(CASES))] if line.startswith("✗")]
    assert len(again) == len(FORGED)


@pytest.mark.parametrize(
    "half",
    ["--issuer-certificate", "--tls-certificate", "--tls-authority", "--direct-certificate"],
)
def test_half_an_identity_is_none(registries: Registries, half: str) -> None:
    command = ["conformance", "run", "--case", "S02", half, str(registries.identity.certificate)]
    ended = CliRunner().invoke(app, command)
    assert isinstance(ended.exception, UsageError)
    assert "go together" in str(ended.exception)


SUITES = {f"S01-{suite.lower()}" for suite in secure_nodes.SUITES}
MET = {case.id for case in secure_nodes.CASES}
KNOWN_BY_TRUST = {"S01-direct", "S01-issued"}
SPOKEN = {*SUITES, *KNOWN_BY_TRUST, "S01-tls-1.3"}


def careless(one: Identity) -> ssl.SSLContext:
    """Answers anybody, in any version of TLS; Python brings no DHE by itself."""
    door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    door.load_cert_chain(one.certificate, one.key)
    door.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        door.minimum_version = ssl.TLSVersion.TLSv1
    return door


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A certificate that signs itself."""
    return create_authority(tmp_path_factory.mktemp("direct"), "Direct")


@pytest.fixture
def meet(
    registries: Registries, direct: Identity
) -> Callable[[ssl.SSLContext], dict[str, Verdict]]:
    """The verdicts about a registry behind this door."""
    one = registries.identity
    client = client_context(one.certificate, one.key, registries.authority.certificate)

    def met(door: ssl.SSLContext) -> dict[str, Verdict]:
        with running_server(registries.router, tls=door) as url:
            targets = Targets(
                registry=f"{url}/believing",
                ssl_context=client,
                authority=registries.authority,
                direct=direct,
                timeout=10,
            )
            session = Session(targets, "ASK")
            return {case.id: run_case(case, session).verdict for case in secure_nodes.CASES}

    return met


Meet = Callable[[ssl.SSLContext], dict[str, Verdict]]


def failed(verdicts: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in verdicts.items() if verdict is Verdict.FAILED}


def test_a_registry_that_is_strict_about_who_connects_passes(
    registries: Registries, direct: Identity, meet: Meet, tmp_path: Path
) -> None:
    one, trust = registries.identity, tmp_path / "trust.pem"
    trust.write_bytes(
        registries.authority.certificate.read_bytes() + direct.certificate.read_bytes()
    )
    door = server_context(one.certificate, one.key, trust)
    assert meet(door) == dict.fromkeys(MET, Verdict.PASSED)


def test_a_registry_that_answers_anybody_fails_all_that_is_to_be_refused(
    registries: Registries, meet: Meet
) -> None:
    without_dhe = {name for name in SUITES if "-dhe-" in name}
    assert failed(meet(careless(registries.identity))) == MET - SPOKEN | without_dhe


def test_a_registry_that_speaks_tls_1_3_alone_and_trusts_one_node_fails_the_rest(
    registries: Registries, meet: Meet
) -> None:
    one = registries.identity
    door = server_context(one.certificate, one.key, one.certificate, minimum="1.3")
    assert failed(meet(door)) == SUITES | KNOWN_BY_TRUST


def test_without_files_of_a_certificate_no_version_is_tried(registries: Registries) -> None:
    [case] = [one for one in secure_nodes.CASES if one.id == "S01-tls-1.1"]
    one = registries.identity
    door = server_context(one.certificate, one.key, registries.authority.certificate)
    client = ssl.create_default_context(cafile=registries.authority.certificate)
    client.load_cert_chain(one.certificate, one.key)
    with running_server(registries.router, tls=door) as url:
        targets = Targets(
            registry=f"{url.replace('127.0.0.1', 'localhost')}/believing",
            ssl_context=client,
            timeout=10,
        )
        assert run_case(case, Session(targets, "ASK")).verdict is Verdict.NOT_RUN
