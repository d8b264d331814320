"""What a secure node is told of a patient, of who asks and why, is in no log, metric or other file.

As ``test_no_leak``, with the doors and the refusals that only a secure node has: assertions good,
forged and unreadable, an emergency with its reason, choices of the patient, DICOMweb, a proxy's
header from somebody who is none. Beside the patient's words those of the user are looked for, and
what a thief could use: assertions, and the keys that sign and connect.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
import urllib3

from hl7.client import MllpClient
from metadata.datatypes import LocalizedString
from metadata.model import Code
from node import feed
from node.config import Settings
from node.config_file import load
from node.wiring.common import client_tls
from node.wiring.tokens import own_issuer
from security.assertions.http import authorization
from security.assertions.issuing import Person
from soap.client import SoapClient
from soap.faults import SoapFault
from tests.system.conftest import KOSMOS, RunningNode, await_
from tests.system.test_no_leak import (
    BORN,
    FAMILY,
    GIVEN,
    PATIENT,
    TITLE,
    document,
    leaks,
    leaks_in,
    where_they_belong,
)
from tests.system.test_secure_node import SecureNodes
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41
from transactions.stored_query import find_documents

# Who asks, and why: nothing else would say these either.
USER, REASON = "Sumpfohreule", "Zwergdommelnotfall"
# The least of a token or a key that would tell it.
TELLTALE = 40


@dataclass(frozen=True)
class Kept:
    """What a node said and left behind, and the secrets that it must not have told."""

    folder: Path
    log: str
    metrics: str
    secrets: list[str]


class Doctor:
    """Asks a node in the name of a user, and remembers the assertions."""

    def __init__(self, settings: Settings) -> None:
        self.tokens: list[str] = []
        self._issuer = own_issuer(settings)
        self.tls = client_tls(settings)

    def token(self, purpose: str = "", *reasons: str) -> str:
        """A new assertion; with a purpose of use, and reasons."""
        said: dict[str, list[str | Code]] = {
            "display_name": [f"{USER} {GIVEN}"],
            "role": [Code("221", "2.16.840.1.113883.2.9.6.2.7", LocalizedString("Doctor"))],
        }
        if purpose:
            code = Code(purpose, "2.16.840.1.113883.5.8", LocalizedString(purpose))
            said |= {"purpose_of_use": [code], "reason": list(reasons)}
        self.tokens.append(self._issuer.issue(Person(USER, said)))
        return self.tokens[-1]

    def client(self, token: str) -> SoapClient:
        return SoapClient(ssl_context=self.tls, token=lambda: token)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    nodes = SecureNodes(tmp_path_factory.mktemp("secure-leak"))
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KOSMOS__NODE__LOG_LEVEL", "debug")
            node = nodes.start()
        settings = load(node.config)
        doctor = Doctor(settings)
        accepted(node, settings, doctor, tmp_path_factory.mktemp("sent"))
        chosen(node, doctor)
        refused(node, doctor)
        over_the_web(node, doctor)
        with urlopen(f"{node.endpoints['admin']}/metrics") as answer:
            metrics = answer.read().decode()
        node.stop()
        lines = node.process.stdout
        assert lines is not None
        await_(lambda: lines.closed)
        secrets = [*map(telltale, doctor.tokens), *keys(node.config.parent)]
        yield Kept(node.config.parent / "data", "".join(node.lines), metrics, secrets)
    finally:
        nodes.close()


def telltale(token: str) -> str:
    """The beginning of the signature of an assertion."""
    found = re.search(r"SignatureValue>\s*([A-Za-z0-9+/=]+)", token)
    assert found
    return found[1][:TELLTALE]


def keys(folder: Path) -> Iterator[str]:
    """A piece out of the middle of each private key."""
    for file in folder.rglob("*.key"):
        body = "".join(line for line in file.read_text().splitlines() if "-----" not in line)
        yield body[len(body) // 2 :][:TELLTALE]


def accepted(node: RunningNode, settings: Settings, doctor: Doctor, folder: Path) -> None:
    """A patient is announced, a document is provided and found."""
    authority = settings.affinity_domain.assigning_authority
    person = feed.Person(PATIENT, f"{FAMILY}^{GIVEN}", BORN, "F")
    host, port = node.endpoints["mllps"].split(":")
    with MllpClient(host, int(port), ssl_context=doctor.tls) as mllp:
        assert feed.acknowledgement(mllp.send(feed.announce(person, authority)))[0] == "AA"
    client = doctor.client(doctor.token())
    submitted = client.call(node.endpoints["repository"], ITI_41, document(node, PATIENT, folder))
    assert submitted.errors == ()
    found = client.call(node.endpoints["registry"], ITI_18, find_documents(node.patient(PATIENT)))
    assert len(found.objects().documents) == 1
    client.close()


def chosen(node: RunningNode, doctor: Doctor) -> None:
    """The patient is opposed; the doctor breaks the glass."""
    say = [*KOSMOS, "access", "oppose", PATIENT, "--reason", f"{TITLE} {REASON}"]
    subprocess.run([*say, "--config", str(node.config)], check=True, capture_output=True)
    question = find_documents(node.patient(PATIENT))
    for token, hits in ((doctor.token(), 0), (doctor.token("BTG", f"{REASON} {FAMILY}"), 1)):
        client = doctor.client(token)
        answer = client.call(node.endpoints["registry"], ITI_18, question)
        assert len(answer.objects().documents) == hits
        client.close()


def refused(node: RunningNode, doctor: Doctor) -> None:
    """Assertions that are forged, without what they need, or nothing at all."""
    question = find_documents(node.patient(PATIENT))
    forged = doctor.token().replace(USER, FAMILY)
    spoilt = doctor.token()[:-200]
    for token in ("", forged, spoilt, f"<{FAMILY}>{REASON}</{FAMILY}>", doctor.token("BTG")):
        client = doctor.client(token)
        with pytest.raises(SoapFault):
            client.call(node.endpoints["registry"], ITI_18, question)
        client.close()


def over_the_web(node: RunningNode, doctor: Doctor) -> None:
    """The same over DICOMweb; and a client's certificate, named by somebody who is no proxy."""
    url = f"{node.endpoints['dicomweb']}/studies?PatientID={PATIENT}&PatientName={FAMILY}"
    garbage = base64.b64encode(f"{USER} {REASON}".encode()).decode()
    given = [
        (authorization(doctor.token()), {200, 204}),
        (authorization(doctor.token().replace(USER, FAMILY)), {401}),
        ({"Authorization": f"IHE-SAML {garbage}"}, {401}),
        ({"Authorization": f"Basic {garbage}"}, {401}),
        ({"Client-Cert": f":{garbage}:"}, {400}),
        ({}, {401}),
    ]
    assert isinstance(doctor.tls, ssl.SSLContext)
    with urllib3.PoolManager(ssl_context=doctor.tls, assert_hostname=False) as pool:
        for headers, statuses in given:
            assert pool.request("GET", url, headers=headers, retries=False).status in statuses


def told(text: str, secrets: list[str]) -> list[str]:
    """Words of the patient and of the user, and secrets, in ``text``."""
    return [*leaks(text), *(word for word in (USER, REASON, *secrets) if word in text)]


def test_the_flow_carried_what_is_looked_for(kept: Kept) -> None:
    places = sorted(where_they_belong(kept.folder))
    kept_there = "".join(path.read_bytes().decode("latin-1") for path in places)
    assert all(word in kept_there for word in (FAMILY, PATIENT, TITLE, USER, REASON))
    assert len(kept.secrets) > 8


def test_no_log_line_tells_of_patient_user_or_secret(kept: Kept) -> None:
    assert [line for line in kept.log.splitlines() if told(line, kept.secrets)] == []
    # And the log did tell of what happened.
    codes = {json.loads(line).get("code") for line in kept.log.splitlines() if line[:1] == "{"}
    assert codes >= {"AUTH-REFUSED", "ACCESS-EMERGENCY", "NODE-REFUSED"}


def test_no_metric_tells_of_patient_user_or_secret(kept: Kept) -> None:
    assert told(kept.metrics, kept.secrets) == []


def test_no_other_file_tells_of_the_patient_or_has_an_assertion(kept: Kept) -> None:
    everything = {path for path in kept.folder.rglob("*") if path.is_file()}
    others = sorted(everything - where_they_belong(kept.folder))
    assert others
    assert leaks_in(others) == {}
    for path in others:
        assert told(path.read_bytes().decode("latin-1"), kept.secrets) == []
