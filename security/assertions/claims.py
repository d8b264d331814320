"""What a verified assertion says of the user (ITI TF-2 3.40.4.1.2).

Attributes may be spread over several statements, attributes and values: they are united.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from lxml import etree

from metadata.datatypes import LocalizedString
from metadata.model import Code
from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from security.assertions.structure import SAML
from soap.faults import INVALID_TOKEN


@dataclass(frozen=True, slots=True, eq=False)  # what follows from it is kept by which one it is
class Claims:
    """Who asks, by whose word, until when; and what is said of them.

    ``subject`` is the NameID, ``provided_id`` the id the subject has here (SPProvidedID).
    ``patients`` are whom the token is about (CX), ``consents`` and ``policies`` what documents
    and policies of consent it calls upon, ``reasons`` why an emergency is one.
    """

    id: str
    issuer: str
    subject: str
    not_before: datetime
    not_on_or_after: datetime
    provided_id: str = ""
    authn_context: str = ""
    display_names: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    organization_ids: tuple[str, ...] = ()
    home_community_ids: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    roles: tuple[Code, ...] = ()
    purposes: tuple[Code, ...] = ()
    patients: tuple[str, ...] = ()
    consents: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def audit_name(self) -> str:
        """The user as audit records name him (ITI TF-2 3.40.4.2)."""
        return f"{self.provided_id}<{self.subject}@{self.issuer}>"


def read_claims(assertion: etree._Element, profile: AssertionProfile) -> Claims:
    """Read the signed copy of an assertion. Raises TokenRefused for one that lacks something."""
    if assertion.get("Version") not in profile.versions:
        raise TokenRefused(INVALID_TOKEN, "the version of the assertion is not accepted")
    conditions = _one(assertion, "Conditions")
    name = _one(assertion, "Subject/NameID")
    values = partial(_values, list(assertion.iter(f"{{{SAML}}}Attribute")), profile)
    texts = {key: tuple(dict.fromkeys(map(_text, values(key)))) for key in _TEXTS}
    claims = Claims(
        id=assertion.get("ID", ""),
        issuer=_text(_one(assertion, "Issuer")),
        subject=_text(name),
        not_before=_moment(conditions, "NotBefore"),
        not_on_or_after=_moment(conditions, "NotOnOrAfter"),
        provided_id=name.get("SPProvidedID", ""),
        authn_context=_authn_context(assertion, profile),
        roles=_codes(values("role"), profile.role_systems),
        purposes=_codes(values("purpose_of_use"), profile.purpose_systems),
        patients=tuple(dict.fromkeys(map(_identifier, values("patient")))),
        identifiers=tuple(dict.fromkeys(map(_identifier, values("identifier")))),
        **{field: texts[key] for key, field in _TEXTS.items()},
    )
    if not claims.subject:
        raise TokenRefused(INVALID_TOKEN, "the assertion names nobody (Subject/NameID)")
    missing = [key for key in profile.required if not any(map(_said, values(key)))]
    if missing:
        raise TokenRefused(INVALID_TOKEN, f"the assertion does not say: {', '.join(missing)}")
    return claims


_TEXTS = {
    "display_name": "display_names",
    "organization": "organizations",
    "organization_id": "organization_ids",
    "home_community_id": "home_community_ids",
    "consent": "consents",
    "policy": "policies",
    "reason": "reasons",
}


def _one(element: etree._Element, path: str) -> etree._Element:
    """The one element at ``path``; none, or several, would let everybody read another."""
    found = element.findall("/".join(f"{{{SAML}}}{name}" for name in path.split("/")))
    if len(found) != 1:
        raise TokenRefused(INVALID_TOKEN, f"expected one {path} in the assertion")
    return found[0]


def _text(element: etree._Element) -> str:
    """All its text, runs of white space as one blank."""
    return " ".join("".join(map(str, element.itertext())).split())


def _moment(element: etree._Element, name: str) -> datetime:
    moment = moment_of(element.get(name, ""))
    if moment is None:
        raise TokenRefused(INVALID_TOKEN, f"{name} of the assertion is no time in UTC")
    return moment


def moment_of(text: str) -> datetime | None:
    """A time of SAML, which is in UTC (SAML Core 1.3.3); None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None


def _authn_context(assertion: etree._Element, profile: AssertionProfile) -> str:
    """How the user was authenticated: without an AuthnStatement nobody says that he was."""
    statements = assertion.findall(f"{{{SAML}}}AuthnStatement")
    if not statements:
        raise TokenRefused(INVALID_TOKEN, "the assertion has no AuthnStatement")
    path = f"{{{SAML}}}AuthnContext/{{{SAML}}}AuthnContextClassRef"
    found = [_text(one) for statement in statements for one in statement.findall(path)]
    accepted = profile.authn_contexts
    if accepted and not any(one in accepted for one in found):
        raise TokenRefused(INVALID_TOKEN, "this way of authentication is not accepted")
    return found[0] if found else ""


def _values(
    attributes: Sequence[etree._Element], profile: AssertionProfile, key: str
) -> list[etree._Element]:
    names = profile.attributes[key]
    return [
        value
        for attribute in attributes
        if attribute.get("Name") in names
        for value in attribute.findall(f"{{{SAML}}}AttributeValue")
    ]


def _said(value: etree._Element) -> bool:
    return bool(_text(value)) or len(value) > 0


def _codes(values: list[etree._Element], systems: Sequence[str]) -> tuple[Code, ...]:
    """Coded values (HL7 v3 CE) of the code systems that count here."""
    found = [_code(one) for value in values for one in _coded(value)]
    return tuple(
        dict.fromkeys(one for one in found if one.code and (not systems or one.scheme in systems))
    )


def _coded(value: etree._Element) -> Iterator[etree._Element]:
    return (child for child in value if child.get("code"))


def _code(element: etree._Element) -> Code:
    code = element.get("code", "")
    shown = LocalizedString(element.get("displayName", code))
    return Code(code, element.get("codeSystem", ""), shown)


def _identifier(value: etree._Element) -> str:
    """A CX or a plain text; also the instance identifier (II) of HL7 v3."""
    for child in value:
        if root := child.get("root"):
            return f"{child.get('extension', '')}^^^&{root}&ISO"
    return _text(value)
