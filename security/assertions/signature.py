"""Whose assertions are believed, and whether one is theirs.

The keys are those of the configuration; what a token says of its key (KeyInfo) plays no part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from security.assertions.structure import ASSERTION, SAML
from soap.faults import FAILED_AUTHENTICATION, FAILED_CHECK

# Weaker keys are broken by whoever has time (NIST SP 800-131A).
RSA_BITS, EC_BITS = 2048, 256

# At its level debug the library logs what it verifies: health data.
logging.getLogger("signxml").setLevel(logging.WARNING)


class IssuerError(Exception):
    """An issuer's certificates that cannot be used; the text names the file."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed copy of an assertion: as a tree to read, and as the bytes that were signed."""

    element: etree._Element
    data: bytes


@dataclass(frozen=True, slots=True)
class Issuers:
    """Those whose assertions are believed: certificates by the name they call themselves."""

    certificates: Mapping[str, Sequence[x509.Certificate]]

    @classmethod
    def read(cls, files: Mapping[str, Path]) -> Issuers:
        """Read the certificates (PEM, several while a key changes). Raises IssuerError."""
        return cls({name: _certificates(path) for name, path in files.items()})

    def verify(self, assertion: bytes, profile: AssertionProfile) -> Signed:
        """The signed copy of an assertion whose shape was checked (``structure``).

        Raises TokenRefused when no key of its issuer has signed it.
        """
        root = etree.fromstring(assertion)
        issuer = _text(root, "Issuer")
        known = self.certificates.get(issuer)
        if not known:
            raise TokenRefused(FAILED_AUTHENTICATION, "the issuer of the assertion is not known")
        expected = _expectation(profile)
        for certificate in known:
            signed = _verified(root, certificate, expected)
            if signed is not None:
                return _same(signed, root.get("ID", ""), issuer)
        raise TokenRefused(FAILED_CHECK, "no key of the issuer has signed this assertion")


def _expectation(profile: AssertionProfile) -> SignatureConfiguration:
    return SignatureConfiguration(
        location="./",
        signature_methods=frozenset(map(SignatureMethod, profile.signature_algorithms)),
        digest_algorithms=frozenset(map(DigestAlgorithm, profile.digest_algorithms)),
        expect_references=1,
    )


def _verified(
    root: etree._Element, certificate: x509.Certificate, expected: SignatureConfiguration
) -> Signed | None:
    try:
        result = XMLVerifier().verify(
            root,
            x509_cert=certificate,
            expect_config=expected,
            id_attribute="ID",
            validate_schema=False,  # its shape was checked, more strictly
        )
    except (SignXMLException, etree.LxmlError, ValueError, TypeError, AttributeError):
        return None  # not this key, or no signature at all
    if isinstance(result, list) or result.signed_xml is None:
        return None
    return Signed(result.signed_xml, result.signed_data)


def _same(signed: Signed, identifier: str, issuer: str) -> Signed:
    """``signed``, if that is the assertion that was looked at."""
    element = signed.element
    read = (element.tag, element.get("ID"), _text(element, "Issuer"))
    if read != (ASSERTION, identifier, issuer):
        raise TokenRefused(FAILED_CHECK, "the signature is not of this assertion")
    return signed


def _text(element: etree._Element, name: str) -> str:
    return (element.findtext(f"{{{SAML}}}{name}") or "").strip()


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IssuerError(f"{path}: {error}") from error
    for certificate in found:
        key = certificate.public_key()
        strong = isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS
        strong |= isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= EC_BITS
        if not strong:
            text = f"keys of issuers are RSA of {RSA_BITS} bits or EC of {EC_BITS}, or more"
            raise IssuerError(f"{path}: {text}")
    return found
