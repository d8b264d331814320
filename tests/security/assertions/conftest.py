"""An issuer, a node that believes it, and messages that bring its assertions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree

from metadata.datatypes import LocalizedString
from metadata.model import Code
from node.migrate import script_location
from security.assertions.claims import Claims
from security.assertions.conditions import Terms
from security.assertions.issuing import Draft, Issuer, Person, written
from security.assertions.profile import AssertionProfile
from security.assertions.seen import Reuse, Seen
from security.assertions.signature import Issuers
from security.assertions.verifier import Verifier
from security.pki import Identity
from soap.envelope import Envelope, read_envelope
from soap.faults import SOAP12, WSSE
from soap.xml import parse
from storage.database import Database

NAME = "https://idp.example/region"
AUDIENCE = "urn:example:region"
HOUR = timedelta(hours=1)
DOCTOR = Code("221", "2.16.840.1.113883.2.9.6.2.7", LocalizedString("Medical doctors"))
NURSE = Code("222", "2.16.840.1.113883.2.9.6.2.7", LocalizedString("Nurses"))
TREATMENT = Code("TREATMENT", "2.16.840.1.113883.3.18.7.1", LocalizedString("Treatment"))
ADA = Person(
    "ada@example",
    {"display_name": ["Ada Lovelace"], "role": [DOCTOR], "purpose_of_use": [TREATMENT]},
)
Forge = Callable[[etree._Element], None]


def message(token: str, body: str = "<q/>") -> Envelope:
    """A message that brings ``token`` in its WS-Security header."""
    return envelope(f'<w:Security xmlns:w="{WSSE}">{token}</w:Security>', body)


def envelope(headers: str, body: str = "<q/>") -> Envelope:
    """A message with these headers."""
    return read_envelope(
        parse(
            f'<s:Envelope xmlns:s="{SOAP12}"><s:Header>{headers}</s:Header>'
            f"<s:Body>{body}</s:Body></s:Envelope>".encode()
        )
    )


@dataclass
class Desk:
    """Issues assertions, and verifies them as a provider does."""

    issuer: Issuer
    verifier: Verifier
    now: datetime

    def draft(self, **changes: object) -> Draft:
        """What a good assertion says, with changes."""
        return replace(self.issuer.draft(ADA, self.now), **changes)  # type: ignore[arg-type]

    def token(self, **changes: object) -> str:
        """A signed assertion with changes."""
        return self.issuer.sign(written(self.draft(**changes), self.issuer.profile))

    def forged(self, forge: Forge) -> str:
        """A good assertion that was changed after it had been signed."""
        root = etree.fromstring(self.token())
        forge(root)
        return etree.tostring(root, encoding="unicode")

    def verify(self, token: str, certificate: str | None = None) -> Claims:
        """The claims of a message that brings ``token``."""
        claims = self.verifier.verify(message(token), certificate)
        assert claims is not None
        return claims


@pytest.fixture(scope="session")
def profile() -> AssertionProfile:
    return AssertionProfile.read()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/access.db") as database:
        with script_location("security.access") as scripts:
            database.migrate(scripts)
        yield database


@pytest.fixture
def issuer(pki: dict[str, Identity], profile: AssertionProfile) -> Issuer:
    return read_issuer(pki["node"], profile)


@pytest.fixture
def attacker(pki: dict[str, Identity], profile: AssertionProfile) -> Issuer:
    """Calls itself what the issuer is called, and has another key."""
    return read_issuer(pki["stranger"], profile)


def read_issuer(identity: Identity, profile: AssertionProfile) -> Issuer:
    """An issuer with the key of ``identity``."""
    return Issuer.read(
        NAME,
        identity.certificate,
        identity.key,
        profile=profile,
        audiences=[AUDIENCE],
        lifetime=HOUR,
    )


@pytest.fixture
def desk(
    pki: dict[str, Identity], issuer: Issuer, profile: AssertionProfile, database: Database
) -> Desk:
    return make_desk(pki, issuer, profile, Seen(database, Reuse.SAME_NODE))


def make_desk(
    pki: dict[str, Identity], issuer: Issuer, profile: AssertionProfile, seen: Seen
) -> Desk:
    """A desk with a memory of its own."""
    made: list[Desk] = []
    verifier = Verifier(
        profile,
        Issuers.read({NAME: pki["node"].certificate}),
        Terms(audiences=[AUDIENCE], longest=12 * HOUR),
        seen,
        clock=lambda: made[0].now,
    )
    made.append(Desk(issuer, verifier, datetime.now(UTC)))
    return made[0]
