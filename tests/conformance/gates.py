"""Gates of a registry: one that verifies assertions, and those that err in one way each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from security.assertions.refusal import TokenRefused
from security.assertions.structure import DS, SAML
from security.assertions.verifier import Verifier
from soap.envelope import Envelope
from soap.faults import FAILED_CHECK, INVALID_SECURITY
from soap.operation import CallContext

Holds = Callable[[etree._Element], Any]
"""Raises SignXMLException unless the first signature of a message holds."""

_ANY = SignatureConfiguration(
    location=".//",
    signature_methods=frozenset(SignatureMethod),
    digest_algorithms=frozenset(DigestAlgorithm),
)
_SECRET = replace(
    _ANY, require_x509=False, signature_methods=frozenset([SignatureMethod.HMAC_SHA256])
)


@dataclass(frozen=True)
class StrictGate:
    """Admits those whose assertion is verified."""

    verifier: Verifier

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Any]:
        return message, None

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        return False

    def admit(self, exchange: Any, envelope: Envelope, context: CallContext) -> CallContext:
        try:
            claims = self.verifier.verify(envelope, context.certificate)
            if claims is None:
                raise TokenRefused(INVALID_SECURITY, "an assertion is missing")
        except TokenRefused as refused:
            raise refused.fault() from refused
        return context._replace(user=claims.subject)


class BelievingGate:
    """Takes whoever stands first in a message for the user."""

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Any]:
        return message, None

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        return True

    def admit(self, exchange: Any, envelope: Envelope, context: CallContext) -> CallContext:
        named = next(_root(envelope).iter(f"{{{SAML}}}NameID"), None)
        return context._replace(user=None if named is None else named.text)


@dataclass(frozen=True)
class SignatureGate(BelievingGate):
    """The same where some signature in the message holds; what it is of, it does not look at."""

    holds: Holds

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        return False

    def admit(self, exchange: Any, envelope: Envelope, context: CallContext) -> CallContext:
        try:
            self.holds(deepcopy(_root(envelope)))
        except SignXMLException as error:
            raise TokenRefused(FAILED_CHECK, "no signature holds").fault() from error
        return super().admit(exchange, envelope, context)


def by_the_key_of(certificate: x509.Certificate) -> Holds:
    """Signed by the key of the issuer, by whatever means."""

    def holds(message: etree._Element) -> None:
        _verify(message, x509_cert=certificate)

    return holds


def by_the_key_it_brings(message: etree._Element) -> None:
    """Signed by the key that the signature itself names."""
    brought = message.find(f".//{{{DS}}}KeyInfo//{{{DS}}}X509Certificate")
    _verify(message, x509_cert=None if brought is None else brought.text)


def by_whatever_it_says(certificate: x509.Certificate) -> Holds:
    """Signed by the key of the issuer: a secret, where the signature says that it is one."""
    public = certificate.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def holds(message: etree._Element) -> None:
        method = message.find(f".//{{{DS}}}SignatureMethod")
        if method is not None and method.get("Algorithm") == SignatureMethod.HMAC_SHA256.value:
            _verify(message, _SECRET, hmac_key=secret)
        else:
            _verify(message, x509_cert=certificate)

    return holds


def with_all_transforms(certificate: x509.Certificate) -> Holds:
    """Signed by the key of the issuer, once what its transforms leave out is not there."""

    def holds(message: etree._Element) -> None:
        for left_out in list(_left_out(message)):
            left_out.getparent().remove(left_out)  # type: ignore[union-attr]
        _verify(message, x509_cert=certificate)

    return holds


def _left_out(message: etree._Element) -> Iterator[etree._Element]:
    for filtering in message.iter(f"{{{DS}}}XPath"):
        names = {prefix: name for prefix, name in filtering.nsmap.items() if prefix}
        for element in message.iter("*"):
            if not element.xpath(filtering.text or "", namespaces=names):
                yield element


def _verify(message: etree._Element, expected: SignatureConfiguration = _ANY, **key: Any) -> None:
    XMLVerifier().verify(message, expect_config=expected, validate_schema=False, **key)


def _root(envelope: Envelope) -> etree._Element:
    return envelope.body.getroottree().getroot()
