"""Makes assertions: for a node's own commands and calls, and for those who test providers.

Not an identity provider: whoever has the key says who somebody is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from metadata.model import Code
from security.assertions.conditions import BEARER
from security.assertions.profile import AssertionProfile
from security.assertions.signature import IssuerError
from security.assertions.structure import ASSERTION, DS, SAML

PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"

_HL7 = "urn:hl7-org:v3"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_XSD = "http://www.w3.org/2001/XMLSchema"
_NAMESPACES = {"saml2": SAML, "xsd": _XSD, "xsi": _XSI}
_CODED = {"role": "Role", "purpose_of_use": "PurposeOfUse"}


@dataclass(frozen=True, slots=True)
class Person:
    """Whom an assertion is about; ``attributes`` by the names of the profile, texts or codes."""

    subject: str
    attributes: Mapping[str, Sequence[str | Code]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything an assertion says, before it is signed; a tester may change any of it."""

    issuer: str
    person: Person
    audiences: Sequence[str]
    not_before: datetime
    not_on_or_after: datetime
    id: str = field(default_factory=lambda: f"_{uuid.uuid4()}")
    version: str = "2.0"
    confirmation: str = BEARER
    holder: str = ""
    """The certificate (base64 of its DER) that a holder-of-key assertion is bound to."""
    authn_context: str | None = PASSWORD
    """None: the assertion does not say how, or whether, the user was authenticated."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One who signs: under ``name``, with the key of ``certificate``."""

    name: str
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    profile: AssertionProfile
    audiences: tuple[str, ...]
    lifetime: timedelta

    @classmethod
    def read(
        cls,
        name: str,
        certificate: Path,
        key: Path,
        *,
        profile: AssertionProfile,
        audiences: Iterable[str],
        lifetime: timedelta,
        password: str | None = None,
    ) -> Issuer:
        """The issuer whose certificate and key (PEM) are in these files. Raises IssuerError."""
        try:
            secret = password.encode() if password else None
            private = serialization.load_pem_private_key(key.read_bytes(), secret)
            public = x509.load_pem_x509_certificate(certificate.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise IssuerError(f"{certificate} and {key}: {error}") from error
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise IssuerError(f"{key}: neither RSA nor EC")
        return cls(name, public, private, profile, tuple(audiences), lifetime)

    def draft(self, person: Person, now: datetime | None = None) -> Draft:
        """An assertion about ``person`` that holds from now on, unsigned."""
        now = now or datetime.now(UTC)
        return Draft(self.name, person, self.audiences, now, now + self.lifetime)

    def issue(self, person: Person) -> str:
        """An assertion about ``person``, signed, as XML."""
        return self.sign(written(self.draft(person), self.profile))

    def sign(self, assertion: etree._Element, method: SignatureMethod | None = None) -> str:
        """Sign an assertion; as XML."""
        usual = isinstance(self.key, rsa.RSAPrivateKey)
        signer = XMLSigner(
            signature_algorithm=method
            or (SignatureMethod.RSA_SHA256 if usual else SignatureMethod.ECDSA_SHA256),
            digest_algorithm=DigestAlgorithm.SHA256,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        )
        signed = signer.sign(
            assertion,
            key=self.key,
            cert=[self.certificate],
            reference_uri=assertion.get("ID"),
            id_attribute="ID",
        )
        return etree.tostring(signed, encoding="unicode")


def written(draft: Draft, profile: AssertionProfile) -> etree._Element:
    """The assertion as XML, unsigned; a place is kept for the Signature behind its Issuer."""
    root = etree.Element(ASSERTION, nsmap=_NAMESPACES)
    root.set("ID", draft.id)
    root.set("IssueInstant", _moment(draft.not_before))
    root.set("Version", draft.version)
    _add(root, "Issuer").text = draft.issuer
    # Under the prefix that its content will have: whoever moves it must not have to write it anew.
    signature = etree.SubElement(root, f"{{{DS}}}Signature", nsmap={"ds": DS})
    signature.set("Id", "placeholder")
    _subject(root, draft)
    conditions = _add(root, "Conditions")
    conditions.set("NotBefore", _moment(draft.not_before))
    conditions.set("NotOnOrAfter", _moment(draft.not_on_or_after))
    restriction = _add(conditions, "AudienceRestriction")
    for audience in draft.audiences:
        _add(restriction, "Audience").text = audience
    if draft.authn_context is not None:
        statement = _add(root, "AuthnStatement")
        statement.set("AuthnInstant", _moment(draft.not_before))
        context = _add(statement, "AuthnContext")
        _add(context, "AuthnContextClassRef").text = draft.authn_context
    _attributes(root, draft.person, profile)
    return root


def _subject(root: etree._Element, draft: Draft) -> None:
    subject = _add(root, "Subject")
    _add(subject, "NameID").text = draft.person.subject
    confirmation = _add(subject, "SubjectConfirmation")
    confirmation.set("Method", draft.confirmation)
    if draft.holder:
        data = _add(confirmation, "SubjectConfirmationData")
        info = etree.SubElement(data, f"{{{DS}}}KeyInfo", nsmap={"ds": DS})
        x509_data = etree.SubElement(info, f"{{{DS}}}X509Data")
        etree.SubElement(x509_data, f"{{{DS}}}X509Certificate").text = draft.holder


def _attributes(root: etree._Element, person: Person, profile: AssertionProfile) -> None:
    if not person.attributes:
        return
    statement = _add(root, "AttributeStatement")
    for key, values in person.attributes.items():
        if not values:
            continue
        attribute = _add(statement, "Attribute")
        attribute.set("Name", profile.attributes[key][0])
        for value in values:
            _value(_add(attribute, "AttributeValue"), key, value)


def _value(element: etree._Element, key: str, value: str | Code) -> None:
    if isinstance(value, str):
        element.set(f"{{{_XSI}}}type", "xsd:string")
        element.text = value
        return
    coded = etree.SubElement(element, f"{{{_HL7}}}{_CODED[key]}", nsmap={"hl7": _HL7})
    coded.set("code", value.code)
    coded.set("codeSystem", value.scheme)
    coded.set("displayName", str(value.display_name))
    coded.set(f"{{{_XSI}}}type", "hl7:CE")


def _add(parent: etree._Element, name: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{SAML}}}{name}")


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
