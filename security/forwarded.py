"""Who a proxy says that its client is: certificates in a header (RFC 9440).

A proxy that ends TLS before a node names the certificate that it was shown in ``Client-Cert``, and
the authorities between in ``Client-Cert-Chain``. That is believed of those alone who are known as
proxies by their own certificate; of anybody else such a header is an error, and never an identity.
What is named is judged as if it had been shown here, for the proxy may be lax: trust, dates,
purpose, revocation. That the client has the key is the proxy's word.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from security.nodes import KnownNode, NodeRefused
from security.trust import Revocations, is_authority

HEADERS = CLIENT_CERT, CLIENT_CERT_CHAIN = b"client-cert", b"client-cert-chain"

# Authorities between a node and one that is trusted; the verifier follows no more of them.
_MOST_BETWEEN = 8
# The least key that TLS takes here (``security.tls.CIPHERS``).
_LEAST_BITS = 2048


class BadForward(Exception):
    """A header that is malformed, or that its sender may not send; the text tells why."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a proxy has been shown: a certificate, and those of the authorities between."""

    certificate: x509.Certificate
    between: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        """The certificate as TLS shows it."""
        return self.certificate.public_bytes(Encoding.DER)


def read(headers: Sequence[tuple[bytes, bytes]]) -> Forwarded | None:
    """What the headers of a request name; None where they have neither. Raises BadForward."""
    named = [value for name, value in headers if name == CLIENT_CERT]
    chains = [value for name, value in headers if name == CLIENT_CERT_CHAIN]
    if not named and not chains:
        return None
    if len(named) != 1:
        raise BadForward(f"Client-Cert must come once: it came {len(named)} times")
    between = b",".join(chains).split(b",") if chains else []
    if len(between) > _MOST_BETWEEN:
        raise BadForward(f"Client-Cert-Chain may have {_MOST_BETWEEN} certificates")
    return Forwarded(_certificate(named[0]), tuple(map(_certificate, between)))


def _certificate(item: bytes) -> x509.Certificate:
    """A byte sequence of RFC 8941 3.3.5, without parameters."""
    item = item.strip(b" \t")
    if len(item) < 2 or not (item.startswith(b":") and item.endswith(b":")):
        raise BadForward("Client-Cert: a certificate stands between two colons")
    try:
        data = binascii.a2b_base64(item[1:-1], strict_mode=True)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise BadForward("Client-Cert: not the base64 of a certificate") from error


class Judge:
    """Judges certificates as the TLS of a listener does, by the same files."""

    def __init__(self, trusted: Sequence[x509.Certificate], revocations: Revocations) -> None:
        self._trusted = frozenset(trusted)
        self._revocations = revocations
        authorities = [one for one in trusted if is_authority(one)]
        self._store = verification.Store(authorities) if authorities else None

    def check(self, forwarded: Forwarded) -> None:
        """Raise NodeRefused for one that TLS would have refused."""
        chain = self._chain(forwarded)
        shown = [one.public_bytes(Encoding.DER) for one in chain]
        if words := self._revocations.refusal(shown):
            raise NodeRefused(words)

    def _chain(self, forwarded: Forwarded) -> Sequence[x509.Certificate]:
        """From the client's own to the trusted one."""
        own = forwarded.certificate
        if own in self._trusted:
            _check_alone(own)
            return [own]
        if self._store is None:
            raise NodeRefused("the certificate is not trusted here")
        verifier = _policy(self._store).build_client_verifier()
        try:
            return verifier.verify(own, list(forwarded.between)).chain
        except (verification.VerificationError, ValueError) as error:
            raise NodeRefused(f"the certificate is not trusted here: {error}") from error


def _check_alone(own: x509.Certificate) -> None:
    """What is left to judge of a certificate that is trusted by itself."""
    if not own.not_valid_before_utc <= datetime.now(UTC) <= own.not_valid_after_utc:
        raise NodeRefused("the certificate is not valid now")
    key = own.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_BITS:
        raise NodeRefused("the certificate has too short a key")


def _policy(store: verification.Store) -> verification.PolicyBuilder:
    """IHE asks for nothing particular in a certificate: what is there must not be contradicted."""
    either = verification.Criticality.AGNOSTIC
    client = verification.ExtensionPolicy.permit_all().may_be_present(
        x509.ExtendedKeyUsage, either, _may_be_client
    )
    authority = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, either, _may_vouch)
        .may_be_present(x509.KeyUsage, either, _may_sign)
    )
    return (
        verification.PolicyBuilder()
        .store(store)
        .time(datetime.now(UTC))
        .extension_policies(ca_policy=authority, ee_policy=client)
    )


def _may_be_client(
    _policy: verification.Policy, _one: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if usage is not None and not allowed.intersection(usage):
        raise ValueError("it may not be used by a client")


def _may_vouch(
    _policy: verification.Policy, _one: x509.Certificate, basic: x509.BasicConstraints
) -> None:
    if not basic.ca:
        raise ValueError("it is not of an authority")


def _may_sign(
    _policy: verification.Policy, _one: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("it may not sign certificates")


class Proxies:
    """The proxies before a listener, and what they are believed."""

    def __init__(self, known: Sequence[KnownNode] = ()) -> None:
        self._known = known
        self._judge: Judge | None = None

    def __bool__(self) -> bool:
        return bool(self._known)

    def judge_by(self, judge: Judge) -> None:
        """From now on judge by other files."""
        self._judge = judge

    def client(self, shown: bytes | None, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """The certificate (DER) of who asks: ``shown`` in TLS, or named by a proxy that showed it.

        Raises BadForward for a header of somebody else, one that cannot be read, and a proxy that
        names nobody; NodeRefused for who cannot be trusted.
        """
        if shown is None or not any(one.is_shown_by(shown) for one in self._known):
            if any(name in HEADERS for name, _ in headers):
                raise BadForward("Client-Cert is for the proxies of this node to send")
            return shown
        forwarded = read(headers)
        if forwarded is None:
            raise BadForward("a proxy must name its client in Client-Cert")
        if self._judge is None:
            raise NodeRefused("nobody is trusted here")
        self._judge.check(forwarded)
        return forwarded.der
