"""SAML assertions, as the header Authorization brings them, signed and not."""

import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from lxml import etree

from metadata.datatypes import LocalizedString
from metadata.model import Code
from security.assertions.claims import read_claims
from security.assertions.conditions import Terms, check_conditions
from security.assertions.http import authorization, token_of
from security.assertions.issuing import Draft, Issuer, Person, written
from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from security.assertions.seen import Meeting, Reuse, Seen
from security.assertions.signature import Issuers
from security.assertions.verifier import Verifier
from security.pki import create_authority, issue
from soap.faults import MessageError
from soap.xml import parse
from tests.fuzz.target import Target

_NAME, _AUDIENCE, _HOUR = "https://idp.example", "urn:example", timedelta(hours=1)
_TERMS = Terms(audiences=[_AUDIENCE], longest=12 * _HOUR)
_PROFILE = AssertionProfile.read()
_SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}Assertion"


class _Forgetful(Seen):
    """Remembers nothing: a target keeps no database."""

    def __init__(self) -> None:
        self.reuse = Reuse.NEVER

    def meet(self, meeting: Meeting) -> None:
        """Let it pass."""


@cache
def _desk() -> tuple[Issuer, Verifier]:
    with tempfile.TemporaryDirectory() as folder:
        identity = issue(Path(folder), create_authority(Path(folder), "A"), "node", ["localhost"])
        certificates = identity.certificate, identity.key
        issuer = Issuer.read(
            _NAME, *certificates, profile=_PROFILE, audiences=[_AUDIENCE], lifetime=_HOUR
        )
        issuers = Issuers.read({_NAME: identity.certificate})
    return issuer, Verifier(_PROFILE, issuers, _TERMS, _Forgetful())


def read(data: bytes) -> None:
    """Verify the token; and read its claims as if the signature had been right."""
    try:
        _desk()[1].verify_token(_token(data), None)
    except TokenRefused:
        root = parse(_token(data))
        if root.tag == _SAML:
            check_conditions(root, read_claims(root, _PROFILE), _TERMS, None, datetime.now(UTC))


def _token(data: bytes) -> bytes:
    return data if data[:1] == b"<" else token_of(data.decode("latin-1"))


def seeds() -> list[bytes]:
    """A good assertion, signed and not, as XML and as a header."""
    issuer = _desk()[0]
    code = Code("221", "1.2.3", LocalizedString("Doctors"))
    draft = Draft(
        _NAME,
        Person("ada", {"display_name": ["Ada"], "role": [code], "purpose_of_use": [code]}),
        [_AUDIENCE],
        datetime.now(UTC),
        datetime.now(UTC) + _HOUR,
    )
    assertion = written(draft, _PROFILE)
    signed = issuer.sign(written(draft, _PROFILE))
    header = authorization(signed)["Authorization"].encode()
    return [etree.tostring(assertion), signed.encode(), header]


# ValueError is what ``token_of`` declares.
TARGET = Target("assertion", read, (TokenRefused, MessageError, ValueError), seeds, 15_000)
