"""The shape that a message with an assertion must have, before any signature is looked at.

Signature wrapping moves what was signed to a place where nobody reads it, and puts something else
where everybody does. So there is one Assertion in a message, at one place; one Signature in it,
for it as a whole; and no identifier twice. What is read afterwards is the signed copy alone.
"""

from __future__ import annotations

from typing import cast

from lxml import etree

from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from soap.envelope import SECURITY, Envelope
from soap.faults import INVALID_SECURITY, INVALID_TOKEN

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
ASSERTION = f"{{{SAML}}}Assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
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
_WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_IDENTIFIERS = etree.XPath(
    "//@ID | //@Id | //@xml:id | //@wsu:Id | //@AssertionID",
    namespaces={"wsu": _WSU},
)


def find_assertion(envelope: Envelope) -> etree._Element | None:
    """The one Assertion of a message, in its one WS-Security header; None where there is none.

    Raises TokenRefused where there are several, or one is anywhere else.
    """
    root = envelope.body.getroottree().getroot()
    found = list(root.iter(ASSERTION, *_OTHER_ASSERTIONS))
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
    if assertion.tag != ASSERTION:
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
