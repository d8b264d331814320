"""What a node trusts and no longer trusts: files of certificates and of revocations.

Certificates and CRLs are read as PEM or DER, from a file or from all files of a folder. A CRL
must be signed by an authority that is trusted, and is judged for every certificate that this
authority issued, of nodes and of authorities between alike; a single certificate that is trusted
by itself needs none. Delta CRLs and OCSP are not supported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

Parsed = TypeVar("Parsed")

# Certificates of standing connections whose state is kept.
_MOST_ASKED = 1024

_CRL_BEGIN, _CRL_END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


class TlsError(Exception):
    """A certificate, key or trust file that cannot be used; the text names the file."""


def read_certificates(place: Path) -> list[x509.Certificate]:
    """The certificates in a file or folder, at least one. Raises TlsError naming the file."""
    found = [one for file in _files(place) for one in _parse(file, _certificates)]
    if not found:
        raise TlsError(f"{place}: no certificate in it")
    return found


def read_revocations(
    place: Path | None, trusted: Sequence[x509.Certificate]
) -> list[x509.CertificateRevocationList]:
    """The CRLs in a file or folder, each signed by one of ``trusted``. Raises TlsError."""
    found = []
    for file in _files(place) if place else ():
        for one in _parse(file, _revocation_lists):
            _check_signature(file, one, trusted)
            found.append(one)
    if place and not found:
        raise TlsError(f"{place}: no CRL in it")
    return found


def is_authority(one: x509.Certificate) -> bool:
    """Whether the certificate is of an authority."""
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def der(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates one after the other, as a TLS context takes them."""
    return b"".join(one.public_bytes(Encoding.DER) for one in certificates)


class Revocations:
    """The CRLs in force, by who issued them: the newest of each."""

    def __init__(self, lists: Iterable[x509.CertificateRevocationList] = ()) -> None:
        self._lists: dict[bytes, x509.CertificateRevocationList] = {}
        for one in sorted(lists, key=lambda each: each.last_update_utc):
            self._lists[one.issuer.public_bytes()] = one

        self._asked: dict[str | bytes, str] = {}

    def __bool__(self) -> bool:
        return bool(self._lists)

    def revoked(self, certificate: str | bytes) -> str:
        """Why a node that was trusted by its certificate (PEM or DER) is so no more, for requests
        on a connection that stands; empty where nothing speaks against it."""
        if certificate not in self._asked:
            if len(self._asked) >= _MOST_ASKED:
                self._asked.clear()
            if isinstance(certificate, str):
                read = x509.load_pem_x509_certificate(certificate.encode())
            else:
                read = x509.load_der_x509_certificate(certificate)
            self._asked[certificate] = self._revoked(read)
        return self._asked[certificate]

    def _revoked(self, certificate: x509.Certificate) -> str:
        crl = self._lists.get(certificate.issuer.public_bytes())
        number = certificate.serial_number
        if crl is None or crl.get_revoked_certificate_by_serial_number(number) is None:
            return ""
        name = certificate.issuer.rfc4514_string()
        return f"revoked by {name}: {certificate.subject.rfc4514_string()}"

    def refusal(self, chain: Iterable[bytes]) -> str:
        """Why a peer with this chain (DER) is refused; empty where nothing speaks against it."""
        now = datetime.now(UTC)
        judged = (self._judge(x509.load_der_x509_certificate(one), now) for one in chain)
        return next(filter(None, judged), "")

    def _judge(self, certificate: x509.Certificate, now: datetime) -> str:
        crl = self._lists.get(certificate.issuer.public_bytes())
        if crl is None:
            return ""
        # Revoked stays revoked, however old the list that says so.
        if words := self._revoked(certificate):
            return words
        name = certificate.issuer.rfc4514_string()
        if crl.next_update_utc is not None and crl.next_update_utc < now:
            return f"the CRL of {name} has expired"
        return ""


def _files(place: Path) -> list[Path]:
    """The file, or the files of the folder; those whose names begin with a dot are passed over."""
    if place.is_dir():
        return sorted(one for one in place.iterdir() if one.is_file() and one.name[0] != ".")
    if not place.is_file():
        raise TlsError(f"{place}: no such file")
    return [place]


def _parse(file: Path, parse: Callable[[bytes], list[Parsed]]) -> list[Parsed]:
    try:
        return parse(file.read_bytes())
    except (ValueError, OSError) as error:
        raise TlsError(f"{file}: {error}") from error


def _certificates(data: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN" in data:
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


def _revocation_lists(data: bytes) -> list[x509.CertificateRevocationList]:
    if b"-----BEGIN" not in data:
        return [x509.load_der_x509_crl(data)]
    blocks = data.split(_CRL_BEGIN)[1:]
    return [
        x509.load_pem_x509_crl(_CRL_BEGIN + block.partition(_CRL_END)[0] + _CRL_END)
        for block in blocks
    ]


def _check_signature(
    file: Path, crl: x509.CertificateRevocationList, trusted: Sequence[x509.Certificate]
) -> None:
    name = crl.issuer.rfc4514_string()
    try:
        crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
        raise TlsError(f"{file}: a delta CRL, which is not supported")
    except x509.ExtensionNotFound:
        pass
    if not any(_signed(crl, one) for one in trusted if one.subject == crl.issuer):
        raise TlsError(f"{file}: not signed by {name} among the trusted authorities")


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):  # a key of another kind than signs
        return False
