"""Document Registry: which nodes may connect, and how (S01, ITI-19).

A right registry answers the kit, by every cipher suite that ITI-19 names, and nobody whom it does
not know. The kit is answered first: a registry that answers nobody is not secure but absent.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Expectation, NoAnswer, Success
from conformance.seen import Seen
from conformance.targets import NotRun
from conformance.text import Text
from conformance.tokens import somebody_else
from metadata.datatypes import new_uuid_urn
from security.tls import NodeContext
from transactions.stored_query import get_associations

CASES = Cases(Actor.USER_ASSERTIONS, "registry secured")

SPEC = "ITI TF-2 3.19.6"

SUITES = (
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
)
"""What the ATNA secure-transport options name of TLS 1.2 (ITI TF-2 3.19.6.2)."""

# Reasons of OpenSSL for not even having offered a version: nothing was asked then.
NOT_OFFERED = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE")

DAY = timedelta(days=1)


def nobody() -> ssl.SSLContext:
    """A client without a certificate, who talks to anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def stranger() -> ssl.SSLContext:
    """A client with a certificate of no authority that anybody knows."""
    key, certificate = somebody_else()
    return _showing(_pem(key) + certificate.public_bytes(Encoding.PEM))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _showing(pem: bytes) -> ssl.SSLContext:
    """A client with this key and certificate."""
    context = nobody()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "client.pem"
        file.write_bytes(pem)
        context.load_cert_chain(file)
    return context


def ourselves(bench: Bench) -> ssl.SSLContext:
    """The kit, in a context of its own that a case may narrow."""
    if not isinstance(bench.targets.ssl_context, NodeContext):
        raise NotRun(Text("needs files of a certificate", "il faut les fichiers d'un certificat"))
    return bench.targets.ssl_context.made_anew()


def by_suite(suite: str, bench: Bench) -> ssl.SSLContext:
    """The kit, who offers TLS 1.2 with one cipher suite alone."""
    context = ourselves(bench)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    return context


def by_tls_1_3(bench: Bench) -> ssl.SSLContext:
    """The kit, who offers TLS 1.3 alone."""
    context = ourselves(bench)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def by_old_tls(version: ssl.TLSVersion, bench: Bench) -> ssl.SSLContext:
    """The kit, who offers a version that is not to be spoken any more."""
    context = ourselves(bench)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL would not offer it otherwise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is meant to be an old one
        context.minimum_version = context.maximum_version = version
    return context


def directly(bench: Bench) -> ssl.SSLContext:
    """The kit, by a certificate that signs itself and that the registry knows by itself."""
    direct = bench.targets.direct
    assert direct is not None
    return _showing(direct.key.read_bytes() + direct.certificate.read_bytes())


def issued(begin: timedelta, bench: Bench) -> ssl.SSLContext:
    """A client of the authority that the registry believes; valid for a day from ``begin`` on."""
    authority = bench.targets.authority
    assert authority is not None
    key, other = somebody_else()
    parent = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    signer = load_pem_private_key(authority.key.read_bytes(), None)
    assert isinstance(signer, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    start = datetime.now(UTC) + begin
    certificate = (
        x509.CertificateBuilder(parent.subject, other.subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + DAY)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .sign(signer, SHA256())
    )
    return _showing(_pem(key) + certificate.public_bytes(Encoding.PEM))


Client = Callable[[Bench], ssl.SSLContext]


def _met(client: Client, bench: Bench) -> Iterator[Seen]:
    request = get_associations([new_uuid_urn()])
    yield bench.query(request)
    answer = bench.connecting_as(client(bench)).query(request)
    if any(reason in answer.problem for reason in NOT_OFFERED):
        raise NotRun(
            Text("OpenSSL here does not offer it", "l'OpenSSL de cette machine ne la propose pas")
        )
    yield answer


def _add(
    name: str, en: str, fr: str, client: Client, expected: Expectation, needs: str = ""
) -> None:
    CASES.add(
        f"S01-{name}",
        en,
        fr,
        spec=SPEC,
        expected=[Success(), expected],
        stimulus=partial(_met, client),
        needs=needs,
    )


for _suite in SUITES:
    _add(
        _suite.lower(),
        f"TLS 1.2 with {_suite}",
        f"TLS 1.2 avec {_suite}",
        partial(by_suite, _suite),
        Success(),
    )
_add("tls-1.3", "TLS 1.3", "TLS 1.3", by_tls_1_3, Success())
_add(
    "direct",
    "A certificate that signs itself, which the registry knows by itself",
    "Un certificat qui se signe lui-même, connu tel quel du registre",
    directly,
    Success(),
    "direct",
)
_add(
    "issued",
    "Any certificate of an authority that is believed",
    "Tout certificat d'une autorité reconnue",
    partial(issued, -DAY / 2),
    Success(),
    "authority",
)

_REFUSED: tuple[tuple[str, str, str, Client, str], ...] = (
    ("none", "A client without certificate", "Un client sans certificat", lambda _: nobody(), ""),
    (
        "stranger",
        "A client with a certificate of an unknown authority",
        "Un client avec un certificat d'une autorité inconnue",
        lambda _: stranger(),
        "",
    ),
    ("tls-1.1", "TLS 1.1", "TLS 1.1", partial(by_old_tls, ssl.TLSVersion.TLSv1_1), ""),
    ("tls-1.0", "TLS 1.0", "TLS 1.0", partial(by_old_tls, ssl.TLSVersion.TLSv1), ""),
    (
        "expired",
        "An expired certificate of an authority that is believed",
        "Un certificat expiré d'une autorité reconnue",
        partial(issued, -2 * DAY),
        "authority",
    ),
    (
        "early",
        "A certificate of an authority that is believed, not valid yet",
        "Un certificat d'une autorité reconnue, pas encore valide",
        partial(issued, DAY),
        "authority",
    ),
)
for _name, _en, _fr, _client, _needs in _REFUSED:
    _add(_name, _en, _fr, _client, NoAnswer(), _needs)
