"""Assertions of who asks, as the kit makes them (ITI-40): good ones, and forged ones.

The kit signs with the key of an issuer that the system under test believes. Forged ones are good
ones that were spoilt in one way each; none is a secret.
"""

from __future__ import annotations

import base64
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
from security.assertions.conditions import HOLDER_OF_KEY
from security.assertions.issuing import Issuer, Person, written
from security.assertions.structure import DS, SAML, WSU

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

_HOUR = timedelta(hours=1)
_EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
_SHA1 = DigestAlgorithm.SHA1
_XPATH = "http://www.w3.org/TR/1999/REC-xpath-19991116"
_XML = "http://www.w3.org/XML/1998/namespace"
_ATTRIBUTES = f"{{{SAML}}}AttributeStatement"
_SOMEBODY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody else")])
_PLACE = 1  # of a Signature in an assertion: behind Issuer


def good_tokens(issuer: Issuer | None) -> Callable[[], str]:
    """What makes a good assertion for each call; empty ones without an issuer."""
    return str if issuer is None else lambda: issuer.issue(USER)


def signed(issuer: Issuer, /, person: Person = USER, **changes: object) -> str:
    """A signed assertion with changes to its draft."""
    draft = replace(issuer.draft(person), **changes)  # type: ignore[arg-type]
    return issuer.sign(written(draft, issuer.profile))


def held(issuer: Issuer, begin: timedelta, lifetime: timedelta = _HOUR) -> str:
    """A signed assertion that holds from ``begin`` after now, for an hour or for ``lifetime``."""
    start = datetime.now(UTC) + begin
    return signed(issuer, not_before=start, not_on_or_after=start + lifetime)


def of_another_holder(issuer: Issuer) -> str:
    """A signed assertion that is bound to the key of somebody else (holder-of-key)."""
    _, certificate = somebody_else()
    holder = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    return signed(issuer, confirmation=HOLDER_OF_KEY, holder=holder)


def unsigned(issuer: Issuer) -> str:
    """A good assertion without its Signature."""
    root, _ = _parted(issuer.issue(USER))
    return _text(root)


def of_another_key(issuer: Issuer) -> str:
    """An assertion under the issuer's name, signed by somebody else; it brings his certificate."""
    key, certificate = somebody_else()
    return replace(issuer, key=key, certificate=certificate).issue(USER)


def of_a_weak_key(issuer: Issuer) -> str:
    """An assertion signed by RSA of 1024 bits, with a certificate that the issuer's key signed."""
    key, name = _weak_key(), issuer.certificate.subject
    certificate = _certificate(name, key.public_key()).sign(issuer.key, SHA256())
    return replace(issuer, key=key, certificate=certificate).issue(USER)


def by_old_means(issuer: Issuer, *, method: bool) -> str:
    """An assertion whose digest is SHA-1; with ``method`` that of the signature, too."""
    old, new = _methods(issuer)
    signer = _OldSigner(signature_algorithm=old if method else new, digest_algorithm=_SHA1)
    return _text(_signed_by(signer, issuer, _drafted(issuer)))


def by_the_public_key(issuer: Issuer) -> str:
    """An assertion signed with what everybody knows: the issuer's public key, as a secret."""
    public = issuer.certificate.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signer = XMLSigner(signature_algorithm=SignatureMethod.HMAC_SHA256, c14n_algorithm=_EXCLUSIVE)
    return _text(_signed_by(signer, issuer, _drafted(issuer), key=secret))


def twice_signed(issuer: Issuer) -> str:
    """A good assertion that holds its Signature twice."""
    root = etree.fromstring(issuer.issue(USER))
    signature = root.find(SIGNATURE)
    assert signature is not None
    signature.addnext(deepcopy(signature))
    return _text(root)


def nested(issuer: Issuer) -> str:
    """A good assertion inside another element of the WS-Security header."""
    return _wrapped(issuer.issue(USER))


def with_a_namesake(issuer: Issuer) -> str:
    """A good assertion behind another element with the same identifier."""
    token = issuer.issue(USER)
    namesake = etree.Element("{urn:kit}Namesake")
    namesake.set(f"{{{_XML}}}id", etree.fromstring(token).get("ID", ""))
    return _text(namesake) + token


def of_something_else(issuer: Issuer) -> str:
    """An assertion whose Signature holds, but is that of a Timestamp in front of it."""
    header, identifier = etree.Element("{urn:kit}Header"), "_kit-timestamp"
    timestamp = etree.SubElement(header, f"{{{WSU}}}Timestamp", nsmap={"wsu": WSU})
    timestamp.set(f"{{{WSU}}}Id", identifier)
    etree.SubElement(timestamp, f"{{{WSU}}}Created").text = datetime.now(UTC).isoformat()
    header.append(_drafted(issuer))
    return "".join(map(_text, _signed_by(_signer(issuer), issuer, header, identifier)))


def of_a_part(issuer: Issuer) -> str:
    """An assertion with attributes that its Signature, which holds, leaves out (by a Transform)."""
    signer = _signer(issuer)
    signer.signature_annotators.append(_leave_out_attributes)
    part = _signed_by(signer, issuer, _drafted(issuer, Person(USER.subject)))
    said = _drafted(issuer).find(_ATTRIBUTES)
    assert said is not None
    part.append(said)
    return _text(part)


def _leave_out_attributes(signature: etree._Element, signing_settings: object) -> None:
    """Between the usual transforms; called when SignedInfo is there and not signed yet."""
    transforms = next(signature.iter(f"{{{DS}}}Transforms"))
    transform = etree.Element(f"{{{DS}}}Transform", Algorithm=_XPATH)
    filtering = etree.SubElement(transform, f"{{{DS}}}XPath", nsmap={"saml2": SAML})
    filtering.text = "not(ancestor-or-self::saml2:AttributeStatement)"
    transforms.insert(1, transform)


def _methods(issuer: Issuer) -> tuple[SignatureMethod, SignatureMethod]:
    """How the issuer's key signs, by SHA-1 and by SHA-256."""
    if isinstance(issuer.key, rsa.RSAPrivateKey):
        return SignatureMethod.RSA_SHA1, SignatureMethod.RSA_SHA256
    return SignatureMethod.ECDSA_SHA1, SignatureMethod.ECDSA_SHA256


def _signer(issuer: Issuer) -> XMLSigner:
    _, method = _methods(issuer)
    return XMLSigner(signature_algorithm=method, c14n_algorithm=_EXCLUSIVE)


class _OldSigner(XMLSigner):
    """Signs by SHA-1 as well."""

    def __init__(self, **methods: Any) -> None:
        super().__init__(c14n_algorithm=_EXCLUSIVE, **methods)

    def check_deprecated_methods(self) -> None:
        """Whatever is asked for."""


def _drafted(issuer: Issuer, person: Person = USER) -> etree._Element:
    """An assertion that is not signed yet."""
    return written(issuer.draft(person), issuer.profile)


def _signed_by(
    signer: XMLSigner, issuer: Issuer, root: etree._Element, identifier: str = "", key: Any = None
) -> etree._Element:
    """``root`` with a Signature of itself, or of the element in it that has ``identifier``."""
    return signer.sign(
        root,
        key=key or issuer.key,
        cert=[issuer.certificate],
        reference_uri=identifier or root.get("ID"),
    )


def changed(issuer: Issuer) -> str:
    """A good assertion that names somebody else since it was signed."""
    root = etree.fromstring(issuer.issue(USER))
    _rename(root)
    return _text(root)


def interrupted(by: str, issuer: Issuer) -> str:
    """A good assertion with ``by`` in the midst of its NameID, in the place of the dot."""
    return issuer.issue(USER).replace("kit.user@", f"kit{by}user@")


def beside(issuer: Issuer) -> str:
    """An evil assertion in front of a good one."""
    token = issuer.issue(USER)
    return _text(_evil(token)) + token


def behind(issuer: Issuer) -> str:
    """An evil assertion behind a good one."""
    token = issuer.issue(USER)
    return token + _text(_evil(token))


def in_extension(issuer: Issuer) -> str:
    """An evil assertion inside another element, in front of a good one."""
    token = issuer.issue(USER)
    return _wrapped(_text(_evil(token))) + token


def in_advice(issuer: Issuer) -> str:
    """An evil assertion that holds a good one in its Advice."""
    token = issuer.issue(USER)
    evil, advice = _evil(token), etree.Element(f"{{{SAML}}}Advice")
    advice.append(etree.fromstring(token))
    conditions = evil.find(f"{{{SAML}}}Conditions")
    assert conditions is not None
    conditions.addnext(advice)
    return _text(evil)


def in_object(issuer: Issuer) -> str:
    """An evil assertion with the Signature of a good one, which stands in its Object."""
    token = issuer.issue(USER)
    evil = _evil(token)
    original, signature = _parted(token)
    etree.SubElement(signature, f"{{{DS}}}Object").append(original)
    evil.insert(_PLACE, signature)
    return _text(evil)


def bereft(issuer: Issuer) -> str:
    """An evil assertion with the Signature of a good one, which stands behind it without."""
    token = issuer.issue(USER)
    evil = _evil(token)
    original, signature = _parted(token)
    evil.insert(_PLACE, signature)
    return _text(evil) + _text(original)


def _wrapped(inner: str) -> str:
    return f'<k:Wrapper xmlns:k="urn:kit">{inner}</k:Wrapper>'


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
    return key, _certificate(_SOMEBODY, key.public_key()).sign(key, SHA256())


@cache
def _weak_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def _certificate(
    issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
) -> x509.CertificateBuilder:
    """A certificate of somebody else, not signed yet."""
    start = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder(issuer, _SOMEBODY, key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
    )
