"""The shape that a message with an assertion must have, before any signature is looked at.

Signature wrapping moves what was signed to a place where nobody reads it, and puts something else
where everybody does. So there is one Assertion in a message, at one place; one Signature in it,
for it as a whole; and no identifier twice. What is read afterwards is the signed copy alone.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NamedTuple, cast
from uuid import uuid4

from lxml import etree

from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from soap.envelope import SECURITY, Envelope, read_envelope
from soap.faults import INVALID_SECURITY, INVALID_TOKEN, MessageError, SoapFault
from soap.xml import parse

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
ASSERTION = f"{{{SAML}}}Assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = f"{DS}enveloped-signature"

# A token with a few certificates and twenty roles has 15 KB.
MOST_BYTES = 64 * 1024

_SIGNATURE = f"{{{DS}}}Signature"
_INFO = f"{{{DS}}}SignedInfo"
_OTHER_ASSERTIONS = (
    f"{{{SAML}}}EncryptedAssertion",
    "{urn:oasis:names:tc:SAML:1.0:assertion}Assertion",
    "{urn:oasis:names:tc:SAML:1.1:assertion}Assertion",
)
_IDENTIFIERS = etree.XPath(
    "//@ID | //@Id | //@xml:id | //@wsu:Id | //@AssertionID",
    namespaces={"wsu": WSU},
)


# What stands in a message for an assertion that was cut out of it. As nobody knows its name, what
# bears it was put there by ``Cutting``.
_KEPT_NAMESPACE = f"urn:uuid:{uuid4()}"
KEPT = f"{{{_KEPT_NAMESPACE}}}Assertion"
_PLACE = f'<Assertion xmlns="{_KEPT_NAMESPACE}"/>'.encode()
_START = re.compile(rb"<((?:[A-Za-z_][\w.-]*:)?Assertion)[\s>]")


class Cutting(NamedTuple):
    """A message, and a stretch of its bytes that looks like its assertion."""

    token: bytes
    digest: bytes
    """SHA-256 of the token."""
    message: bytes
    """What is left, with ``KEPT`` in the place of the token."""

    @classmethod
    def of(cls, message: bytes) -> Cutting | None:
        """Cut out what looks like an assertion; None where nothing does."""
        start = _START.search(message, 0, MOST_BYTES)
        if start is None:
            return None
        tag = b"</%b>" % start[1]
        end = message.find(tag, start.end(), start.end() + MOST_BYTES)
        if end < 0:
            return None
        first, last = start.start(), end + len(tag)
        token, left = message[first:last], (message[:first], _PLACE, message[last:])
        return cls(token, sha256(token).digest(), b"".join(left))

    def is_exact(self) -> bool:
        """Whether the token is the assertion of the message and nothing more; of a message that
        ``find_assertion`` has found one in.

        It is where the message is whole without it, with one element in its place, and where all
        markup within is that of elements: then its first end tag is that of its start tag.
        """
        if b"<!" in self.token or b"<?" in self.token:
            return False
        try:
            left = find_assertion(read_envelope(parse(self.message), understood=(SECURITY,)))
        except (MessageError, SoapFault, TokenRefused):
            return False
        return left is not None and left.tag == KEPT


def find_assertion(envelope: Envelope) -> etree._Element | None:
    """The one Assertion of a message, in its one WS-Security header; None where there is none.

    Where it was cut out, what stands for it. Raises TokenRefused where there are several, or one is
    anywhere else.
    """
    root = envelope.body.getroottree().getroot()
    found = list(root.iter(ASSERTION, KEPT, *_OTHER_ASSERTIONS))
    if not found:
        return None
    if len(found) > 1:
        raise TokenRefused(INVALID_SECURITY, "the message holds more than one assertion")
    assertion = found[0]
    parent = assertion.getparent()
    if parent is None or parent.tag != SECURITY or parent not in envelope.security:
        raise TokenRefused(INVALID_SECURITY, "the assertion is not in the WS-Security header")
    if len(envelope.security) > 1:
        raise TokenRefused(INVALID_SECURITY, "the message has more than one WS-Security header")
    if assertion.tag not in (ASSERTION, KEPT):
        raise TokenRefused(INVALID_TOKEN, "expected a plain SAML 2.0 assertion")
    return assertion


def check_shape(assertion: etree._Element, profile: AssertionProfile) -> None:
    """Insist on one Signature, of the assertion as a whole, by means that are known to be sound.

    Raises TokenRefused.
    """
    _no_identifier_twice(assertion)
    signatures = list(assertion.iter(_SIGNATURE))
    if not signatures:
        raise TokenRefused(INVALID_TOKEN, "the assertion is not signed")
    if len(signatures) > 1 or signatures[0].getparent() is not assertion:
        raise TokenRefused(INVALID_TOKEN, "expected one Signature, a child of the assertion")
    _check_signature(signatures[0], assertion.get("ID", ""))
    _check_algorithms(signatures[0], profile)


def _no_identifier_twice(assertion: etree._Element) -> None:
    found = cast("list[str]", _IDENTIFIERS(assertion.getroottree()))
    if len(set(found)) < len(found):
        raise TokenRefused(INVALID_SECURITY, "an identifier is given to two elements")


def _check_signature(signature: etree._Element, identifier: str) -> None:
    references = signature.findall(f"{_INFO}/{{{DS}}}Reference")
    if not identifier or [one.get("URI") for one in references] != [f"#{identifier}"]:
        raise TokenRefused(INVALID_TOKEN, "the Signature must have one Reference, to the assertion")
    if len(list(signature.iter(f"{{{DS}}}Reference", f"{{{DS}}}Object"))) > 1:
        raise TokenRefused(INVALID_TOKEN, "the Signature holds more than its SignedInfo and key")
    canonical = signature.find(f"{_INFO}/{{{DS}}}CanonicalizationMethod")
    if canonical is None or canonical.get("Algorithm") != EXCLUSIVE:
        raise TokenRefused(INVALID_TOKEN, "expected exclusive canonicalisation of SignedInfo")
    transforms = references[0].findall(f"{{{DS}}}Transforms/{{{DS}}}Transform")
    if [one.get("Algorithm") for one in transforms] != [ENVELOPED, EXCLUSIVE]:
        reason = "expected the transforms enveloped-signature and exclusive canonicalisation"
        raise TokenRefused(INVALID_TOKEN, reason)


def _check_algorithms(signature: etree._Element, profile: AssertionProfile) -> None:
    for path, accepted, kind in (
        ("SignatureMethod", profile.signature_algorithms, "signature"),
        (f"Reference/{{{DS}}}DigestMethod", profile.digest_algorithms, "digest"),
    ):
        method = signature.find(f"{_INFO}/{{{DS}}}{path}")
        if method is None or method.get("Algorithm") not in accepted:
            raise TokenRefused(INVALID_TOKEN, f"the {kind} algorithm is not accepted")
