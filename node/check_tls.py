"""What ``kosmos check`` says of certificates, authorities and revocations, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.config import Settings
from node.config_values import LISTENERS
from node.texts import tr
from node.wiring.common import client_tls, server_tls, trusted_by
from security.trust import TlsError, is_authority, read_certificates, read_revocations

# A certificate is renewed by people who need a month; a CRL by a machine, but it refuses a region.
WARNING_DAYS = 30
CRL_WARNING_DAYS = 2

Attempt = Callable[[], str]


def attempts(settings: Settings) -> Iterator[tuple[str, Attempt]]:
    """What is to be tried, by key; each says what it found, or raises TlsError or ConfigError."""
    yield "tls", lambda: _contexts(settings)
    yield "tls.certificate", lambda: certificate(settings.tls.certificate, settings.tls.trust)
    seen: list[tuple[Path, Path | None]] = []
    for listener in ("", *LISTENERS):
        trust, crl = trusted_by(settings, listener)
        if (trust, crl) in seen:
            continue
        seen.append((trust, crl))
        key = f"tls.{listener}" if listener else "tls"
        yield f"{key}.trust", lambda trust=trust: authorities(trust)  # type: ignore[misc]
        if crl is not None:
            yield f"{key}.crl", lambda crl=crl, trust=trust: revocations(crl, trust)  # type: ignore[misc]


def _contexts(settings: Settings) -> str:
    for listener in LISTENERS:
        server_tls(settings, listener)
    client_tls(settings)
    return tr("certificate, key and trust fit together")


def certificate(file: Path, trust: Path) -> str:
    """How long the node's own certificate holds; whether it may do its work. Raises TlsError."""
    chain = read_certificates(file)
    own = chain[0]
    words = _lifetime(own, str(file))
    _check_usage(file, own)
    _check_chain(file, own, [*chain[1:], *read_certificates(trust)])
    return words


def authorities(place: Path) -> str:
    """How long what is trusted holds, the shortest first. Raises TlsError for what does not."""
    found = read_certificates(place)
    first = min(found, key=lambda one: one.not_valid_after_utc)
    words = _lifetime(first, _name(first))
    if len(found) == 1:
        return words
    return tr(
        "{count} certificates; {first}: {words}", count=len(found), first=_name(first), words=words
    )


def revocations(place: Path, trust: Path) -> str:
    """How long the CRLs hold, which authority has none. Raises TlsError for an expired one."""
    trusted = read_certificates(trust)
    found = read_revocations(place, trusted)
    newest = {one.issuer: one for one in sorted(found, key=lambda one: one.last_update_utc)}
    words = [_crl_lifetime(one) for one in newest.values()]
    bare = [_name(one) for one in trusted if is_authority(one) and one.subject not in newest]
    words += [tr("{name} has no CRL: nobody of it is ever refused", name=one) for one in bare]
    return "; ".join(words)


def _lifetime(one: x509.Certificate, name: str) -> str:
    now = datetime.now(UTC)
    if one.not_valid_after_utc < now:
        raise TlsError(tr("{file} has expired", file=name))
    if one.not_valid_before_utc > now:
        raise TlsError(tr("{file} is not valid yet: is the clock right?", file=name))
    return lasts((one.not_valid_after_utc - now).days)


def _crl_lifetime(crl: x509.CertificateRevocationList) -> str:
    if crl.next_update_utc is None:
        return tr("the CRL does not say when it ends")
    left = crl.next_update_utc - datetime.now(UTC)
    if left.total_seconds() < 0:
        name = crl.issuer.rfc4514_string()
        raise TlsError(tr("the CRL of {name} has expired: all its nodes are refused", name=name))
    return lasts(left.days, CRL_WARNING_DAYS)


def lasts(days: int, enough: int = WARNING_DAYS) -> str:
    """For how long something holds; to be renewed when that is not ``enough``, in days."""
    words = tr("valid for {days} days", days=days)
    return words if days > enough else tr("{words}: renew it", words=words)


def _check_usage(file: Path, own: x509.Certificate) -> None:
    """A node is server and client; a certificate without the extension may be both."""
    try:
        allowed = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in allowed:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in allowed:
        raise TlsError(tr("{file} may not be used by a server: no serverAuth in it", file=file))
    if ExtendedKeyUsageOID.CLIENT_AUTH not in allowed:
        raise TlsError(tr("{file} may not be used by a client: no clientAuth in it", file=file))


def _check_chain(file: Path, own: x509.Certificate, others: Sequence[x509.Certificate]) -> None:
    """Whoever gets the certificate must find the way to an authority; ours knows it too."""
    one = own
    for _ in range(len(others) + 1):  # bounded, whatever points to whatever
        if one.subject == one.issuer:
            return
        above = [each for each in others if each.subject == one.issuer]
        if not above:
            name = one.issuer.rfc4514_string()
            words = tr(
                "{file}: its authority {name} is missing, behind it or in tls.trust",
                file=file,
                name=name,
            )
            raise TlsError(words)
        one = above[0]


def _name(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string()
