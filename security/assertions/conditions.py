"""When, for whom and for what an assertion holds (SAML Core 2.5, ITI TF-2 3.40.4.1.3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from lxml import etree

from security.assertions.claims import Claims, moment_of
from security.assertions.refusal import TokenRefused
from security.assertions.structure import DS, SAML
from soap.faults import FAILED_AUTHENTICATION, INVALID_TOKEN, MESSAGE_EXPIRED

# Clocks of two nodes that know the time differ by less (ITI-1): more would only help a thief.
MOST_SKEW = timedelta(seconds=60)

BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
HOLDER_OF_KEY = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"

_CONFIRMATION = f"{{{SAML}}}Subject/{{{SAML}}}SubjectConfirmation"
_DATA = f"{{{SAML}}}SubjectConfirmationData"
# What is known of conditions. Another one may forbid what is about to be done (SAML Core 2.5.1.1);
# of these, OneTimeUse and ProxyRestriction are ignored (ITI TF-2 3.40.4.1.2).
_KNOWN = frozenset(
    f"{{{SAML}}}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction")
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What this node asks of an assertion: for it, not too long, by clocks that differ a bit."""

    audiences: Collection[str]
    longest: timedelta
    skew: timedelta = MOST_SKEW


def check_conditions(
    assertion: etree._Element, claims: Claims, terms: Terms, certificate: str | None, now: datetime
) -> Claims:
    """The claims of a verified assertion that holds here and now, for the node that shows
    ``certificate``; they end when that is confirmed no more (SubjectConfirmationData).

    Raises TokenRefused.
    """
    check_time(claims, terms, now)
    if claims.not_on_or_after - claims.not_before > terms.longest:
        raise TokenRefused(INVALID_TOKEN, f"an assertion may hold for {terms.longest} at most")
    if any(one.tag not in _KNOWN for one in assertion.iterfind(f"{{{SAML}}}Conditions/*")):
        raise TokenRefused(INVALID_TOKEN, "a condition of the assertion is not known here")
    _check_audience(assertion, terms.audiences)
    confirmed = [
        one
        for one in assertion.findall(_CONFIRMATION)
        if _confirms(one, terms.skew, certificate, now)
    ]
    if not confirmed:
        reason = "no SubjectConfirmation of the assertion holds: bearer or holder-of-key"
        raise TokenRefused(FAILED_AUTHENTICATION, reason)
    until = max(_end(one) or claims.not_on_or_after for one in confirmed)
    return replace(claims, not_on_or_after=min(until, claims.not_on_or_after))


def check_time(claims: Claims, terms: Terms, now: datetime) -> None:
    """Raise TokenRefused unless the assertion holds now."""
    if now + terms.skew < claims.not_before:
        raise TokenRefused(INVALID_TOKEN, "the assertion is not valid yet; compare the clocks")
    if now - terms.skew >= claims.not_on_or_after:
        raise TokenRefused(MESSAGE_EXPIRED, "the assertion has expired")


def _check_audience(assertion: etree._Element, audiences: Collection[str]) -> None:
    """Each restriction must name us: they are joined by AND, the audiences in one by OR."""
    restrictions = assertion.findall(f"{{{SAML}}}Conditions/{{{SAML}}}AudienceRestriction")
    named = [
        {(one.text or "").strip() for one in restriction.findall(f"{{{SAML}}}Audience")}
        for restriction in restrictions
    ]
    if not named or not all(names & set(audiences) for names in named):
        raise TokenRefused(FAILED_AUTHENTICATION, "the assertion is for another audience")


def _confirms(
    confirmation: etree._Element, skew: timedelta, certificate: str | None, now: datetime
) -> bool:
    method, data = confirmation.get("Method"), confirmation.find(_DATA)
    if data is not None and not _in_time(data, skew, now):
        return False
    if method == HOLDER_OF_KEY:
        return data is not None and certificate is not None and _holds(data, certificate)
    return method == BEARER


def _end(confirmation: etree._Element) -> datetime | None:
    """When a confirmation ends before the assertion does; None where it does not say so."""
    data = confirmation.find(_DATA)
    return None if data is None else moment_of(data.get("NotOnOrAfter", ""))


def _in_time(data: etree._Element, skew: timedelta, now: datetime) -> bool:
    begins, ends = (data.get(name) for name in ("NotBefore", "NotOnOrAfter"))
    begin, end = moment_of(begins or ""), moment_of(ends or "")
    if (begins and begin is None) or (ends and end is None):
        return False
    return (begin is None or now + skew >= begin) and (end is None or now - skew < end)


def _holds(data: etree._Element, certificate: str) -> bool:
    """Whether the key that the token names is that of the connection."""
    shown = fingerprint(certificate)
    for named in data.iter(f"{{{DS}}}X509Certificate"):
        body = "".join((named.text or "").split())
        pem = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
        try:
            if fingerprint(pem) == shown:
                return True
        except ValueError:
            continue
    return False


def fingerprint(certificate: str) -> str:
    """SHA-256 of a certificate (PEM), in hex. Raises ValueError where it is none."""
    return x509.load_pem_x509_certificate(certificate.encode()).fingerprint(SHA256()).hex()
