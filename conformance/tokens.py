"""Assertions of who asks, as the kit makes them (ITI-40): good ones, and forged ones.

The kit signs with the key of an issuer that the system under test believes. Forged ones are good
ones that were spoilt in one way each; none is a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from metadata.datatypes import LocalizedString
from metadata.model import Code
from security.assertions.issuing import Issuer, Person, written
from security.assertions.structure import DS, SAML

ROLES = "2.16.840.1.113883.2.9.6.2.7"
"""ISCO-08, the code system of roles in the examples of XUA."""

DOCTOR = Code("221", ROLES, LocalizedString("Medical doctors"))
NURSE = Code("222", ROLES, LocalizedString("Nursing and midwifery professionals"))
TREATMENT = Code("TREATMENT", "2.16.840.1.113883.3.18.7.1", LocalizedString("Treatment"))

USER = Person(
    "kit.user@example.org",
    {"display_name": ["Kit User"], "role": [DOCTOR], "purpose_of_use": [TREATMENT]},
)
"""Whom the kit's calls are for."""

SIGNATURE = f"{{{DS}}}Signature"
NAME_ID = f"{{{SAML}}}Subject/{{{SAML}}}NameID"


_EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
_SHA1 = DigestAlgorithm.SHA1


def good_tokens(issuer: Issuer | None) -> Callable[[], str]:
    """What makes a good assertion for each call; empty ones without an issuer."""
    return str if issuer is None else lambda: issuer.issue(USER)


def signed(issuer: Issuer, /, person: Person = USER, **changes: object) -> str:
    """A signed assertion with changes to its draft."""
    draft = replace(issuer.draft(person), **changes)  # type: ignore[arg-type]
    return issuer.sign(written(draft, issuer.profile))


def held(issuer: Issuer, begin: timedelta) -> str:
    """A signed assertion that holds for an hour, from ``begin`` after now."""
    start = datetime.now(UTC) + begin
    return signed(issuer, not_before=start, not_on_or_after=start + timedelta(hours=1))


def unsigned(issuer: Issuer) -> str:
    """A good assertion without its Signature."""
    root, _ = _parted(issuer.issue(USER))
    return _text(root)


def of_another_key(issuer: Issuer) -> str:
    """An assertion under the issuer's name, signed by somebody else."""
    key, certificate = somebody_else()
    return replace(issuer, key=key, certificate=certificate).issue(USER)


def by_old_means(issuer: Issuer, *, method: bool) -> str:
    """An assertion whose digest is SHA-1; with ``method`` that of the signature, too."""
    is_rsa = isinstance(issuer.key, rsa.RSAPrivateKey)
    old, new = (
        (SignatureMethod.RSA_SHA1, SignatureMethod.RSA_SHA256)
        if is_rsa
        else (SignatureMethod.ECDSA_SHA1, SignatureMethod.ECDSA_SHA256)
    )
    signer = _OldSigner(signature_algorithm=old if method else new, digest_algorithm=_SHA1)
    return _signed_by(signer, issuer, issuer.key)


def by_the_public_key(issuer: Issuer) -> str:
    """An assertion signed with what everybody knows: the issuer's public key, as a secret."""
    public = issuer.certificate.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signer = XMLSigner(signature_algorithm=SignatureMethod.HMAC_SHA256, c14n_algorithm=_EXCLUSIVE)
    return _signed_by(signer, issuer, secret)


def twice_signed(issuer: Issuer) -> str:
    """A good assertion that holds its Signature twice."""
    root = etree.fromstring(issuer.issue(USER))
    signature = root.find(SIGNATURE)
    assert signature is not None
    signature.addnext(deepcopy(signature))
    return _text(root)


def nested(issuer: Issuer) -> str:
    """A good assertion inside another element of the WS-Security header."""
    return f'<k:Wrapper xmlns:k="urn:kit">{issuer.issue(USER)}</k:Wrapper>'


class _OldSigner(XMLSigner):
    """Signs by SHA-1 as well."""

    def __init__(self, **methods: Any) -> None:
        super().__init__(c14n_algorithm=_EXCLUSIVE, **methods)

    def check_deprecated_methods(self) -> None:
        """Whatever is asked for."""


def _signed_by(signer: XMLSigner, issuer: Issuer, key: Any) -> str:
    root = written(issuer.draft(USER), issuer.profile)
    return _text(signer.sign(root, key=key, reference_uri=root.get("ID"), id_attribute="ID"))


def changed(issuer: Issuer) -> str:
    """A good assertion that names somebody else since it was signed."""
    root = etree.fromstring(issuer.issue(USER))
    _rename(root)
    return _text(root)


def commented(issuer: Issuer) -> str:
    """A good assertion with a comment in its NameID, which no signature covers."""
    return issuer.issue(USER).replace("kit.user@", "kit<!--.-->.user@")


def beside(issuer: Issuer) -> str:
    """An evil assertion in front of a good one."""
    token = issuer.issue(USER)
    return _text(_evil(token)) + token


def in_object(issuer: Issuer) -> str:
    """An evil assertion with the Signature of a good one, which stands in its Object."""
    token = issuer.issue(USER)
    evil = _evil(token)
    original, signature = _parted(token)
    etree.SubElement(signature, f"{{{DS}}}Object").append(original)
    evil.insert(1, signature)  # behind Issuer, where a Signature belongs
    return _text(evil)


def _parted(token: str) -> tuple[etree._Element, etree._Element]:
    """An assertion, and the Signature that was taken out of it."""
    root = etree.fromstring(token)
    signature = root.find(SIGNATURE)
    assert signature is not None
    root.remove(signature)
    return root, signature


def _evil(token: str) -> etree._Element:
    """A copy of an assertion, unsigned, that names somebody else."""
    root, _ = _parted(token)
    _rename(root)
    root.set("ID", "_kit-evil")
    return root


def _rename(root: etree._Element) -> None:
    name = root.find(NAME_ID)
    assert name is not None
    name.text = "somebody.else@example.org"


def _text(element: etree._Element) -> str:
    return etree.tostring(element, encoding="unicode")


@cache
def somebody_else() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key that nobody believes, and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody else")])
    start = datetime.now(UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
    )
    return key, builder.sign(key, SHA256())
