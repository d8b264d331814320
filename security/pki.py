"""A public-key infrastructure for tests and first steps: one authority, one certificate a node.

Covers what a secure node of ITI-19 needs to authenticate another (ITI TF-2 3.19.6): keys the
mandatory RSA cipher suites can use, certificates valid as TLS client and as TLS server, a
lifetime that IHE finds reasonable, renewal, a list of those that were revoked. Whatever it issues
is kept beside the authority, in ``issued``, so that it can be told and revoked. It does not protect
the authority's key: a region brings certificates of its own authority and names them in its
configuration.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# The four suites that ITI-19 makes mandatory all sign with RSA, so the keys are RSA; 2,048 bits
# is the least we accept from others, and doubles the handshakes per second of 3,072.
KEY_BITS = 2048
# IHE recommends that a node's certificate lives at most two years (ITI TF-2 3.19.6.1).
NODE_LIFETIME = timedelta(days=730)
AUTHORITY_LIFETIME = timedelta(days=3650)
# Clocks of two nodes may differ: a certificate is valid from an hour before it was made.
CLOCK_TOLERANCE = timedelta(hours=1)
PRIVATE, PUBLIC = 0o600, 0o644
# The folder of what was issued, beside the authority.
_ISSUED = "issued"


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a certificate (PEM, the chain's first) and its private key lie on disk."""

    certificate: Path
    key: Path


def create_authority(folder: Path, name: str) -> Identity:
    """Make a certification authority called ``name``: ``ca.pem`` and ``ca.key`` in ``folder``.

    Raises FileExistsError if the folder already has one: an authority is never overwritten.
    """
    identity = Identity(folder / "ca.pem", folder / "ca.key")
    if identity.certificate.exists():
        raise FileExistsError(identity.certificate)
    folder.mkdir(parents=True, exist_ok=True)
    key = _new_key()
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key.public_key(), AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(identity, certificate, key)
    return identity


def issue(
    folder: Path,
    authority: Identity,
    name: str,
    hosts: Sequence[str],
    lifetime: timedelta = NODE_LIFETIME,
) -> Identity:
    """Make ``name.pem`` and ``name.key`` in ``folder``, signed by ``authority``.

    ``hosts`` are the DNS names and IP addresses under which the node is reached. Raises
    FileNotFoundError or ValueError when the authority cannot be read, FileExistsError where there
    is such a key.
    """
    key = _new_key()
    names = x509.SubjectAlternativeName([_host(host) for host in hosts]) if hosts else None
    certificate = _signed(authority, _name(name), names, key.public_key(), lifetime)
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    _write(identity, certificate, key)
    _keep(authority, certificate)
    return identity


def renew(
    identity: Identity,
    authority: Identity,
    lifetime: timedelta = NODE_LIFETIME,
    *,
    new_key: bool = False,
) -> None:
    """Put a certificate of the same names in the place of ``identity``'s, of its key or a new one.

    The one before holds on until it ends or is revoked. Raises FileNotFoundError or ValueError
    when identity or authority cannot be read.
    """
    old = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    try:
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    key = _new_key() if new_key else _private_key(identity.key)
    certificate = _signed(authority, old.subject, names, key.public_key(), lifetime)
    _keep(authority, old)
    _keep(authority, certificate)
    if new_key:
        _replace(identity.key, _pem(key))
    _replace(identity.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def issued(authority: Identity) -> list[x509.Certificate]:
    """What ``authority`` has issued, as far as it lies beside it; by name, the newest last.

    Raises FileNotFoundError or ValueError when the authority cannot be read.
    """
    parent = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    folder = authority.certificate.parent
    found = {}
    for file in (*folder.glob("*.pem"), *(folder / _ISSUED).glob("*.pem")):
        try:
            one = x509.load_pem_x509_certificate(file.read_bytes())
        except ValueError:  # a CRL
            continue
        if one != parent and is_issued_by(one, parent):
            found[one.serial_number] = one
    return sorted(
        found.values(), key=lambda one: (one.subject.rfc4514_string(), one.not_valid_after_utc)
    )


def is_issued_by(one: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` has signed ``one``."""
    try:
        one.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def write_crl(authority: Identity, revoked: Iterable[x509.Certificate] = ()) -> Path:
    """Write ``crl.pem`` beside the authority: what it revoked before, and ``revoked``.

    It lasts as long as a node's certificate, so that nobody has to write it anew without need.
    Raises FileNotFoundError or ValueError when the authority or the list cannot be read.
    """
    signer, parent = _signer(authority)
    file = crl_of(authority)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(parent.subject)
        .last_update(now - CLOCK_TOLERANCE if not file.exists() else now)
        .next_update(now + NODE_LIFETIME)
    )
    before = list(x509.load_pem_x509_crl(file.read_bytes())) if file.exists() else []
    for one in before:
        builder = builder.add_revoked_certificate(one)
    known = {one.serial_number for one in before}
    for certificate in {one for one in revoked if one.serial_number not in known}:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
    crl = builder.sign(signer, hashes.SHA256())
    _replace(file, crl.public_bytes(serialization.Encoding.PEM))
    return file


def crl_of(authority: Identity) -> Path:
    """Where the authority's CRL lies, or will."""
    return authority.certificate.with_name("crl.pem")


def _signer(authority: Identity) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """The authority's key and certificate."""
    signer = _private_key(authority.key)
    return signer, x509.load_pem_x509_certificate(authority.certificate.read_bytes())


def _private_key(file: Path) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except TypeError as error:
        raise ValueError(f"{file} is sealed by a password") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{file} is not an RSA key")
    return key


def _signed(
    authority: Identity,
    subject: x509.Name,
    names: x509.SubjectAlternativeName | None,
    key: rsa.RSAPublicKey,
    lifetime: timedelta,
) -> x509.Certificate:
    """A certificate of a node."""
    signer, parent = _signer(authority)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(subject, parent.subject, key, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _keep(authority: Identity, certificate: x509.Certificate) -> None:
    """Keep what was issued: it may have to be revoked when its files are elsewhere."""
    folder = authority.certificate.parent / _ISSUED
    folder.mkdir(exist_ok=True)
    file = folder / f"{certificate.serial_number:x}.pem"
    _replace(file, certificate.public_bytes(serialization.Encoding.PEM))


def _replace(file: Path, data: bytes) -> None:
    """Write a file whole or not at all, for a node may be reading it; a key stays private."""
    fresh = file.with_name(f".{file.name}")
    mode = PRIVATE if file.suffix == ".key" else PUBLIC
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)
        os.fsync(opened.fileno())
    fresh.replace(file)


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Kosmos test PKI"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(identity: Identity, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
    # Created private, never made private afterwards: no moment at which others can read it.
    descriptor = os.open(identity.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_pem(key))
    identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
