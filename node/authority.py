"""The authority that ``kosmos init`` made: issue, renew and revoke certificates of nodes by it.

It lies where ``tls.trust`` is, its key beside it; a region's own authority keeps its key elsewhere
and does all this by its own means. A node that serves takes a new CRL, or a new certificate of its
own, over by itself (``node.watch``).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from node.config import Settings
from node.texts import tr
from security import pki
from security.pki import Identity
from security.trust import read_certificates

# What names files and stands in a certificate (a common name has 64 characters at most).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAKEN = ("ca", "crl")
MOST_DAYS = pki.NODE_LIFETIME.days


class PkiError(Exception):
    """What cannot be issued, renewed or revoked; the text is for the person who asked."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as a person looks at it; ``serial`` in hex, ``days`` that are left."""

    name: str
    serial: str
    hosts: tuple[str, ...]
    until: datetime
    days: int
    revoked: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """An authority, its CRL and what it has issued."""

    authority: str
    days: int
    crl_days: int | None
    issued: list[Issued]


class Authority:
    """The authority of a node's configuration. Raises PkiError where its key is not here."""

    def __init__(self, settings: Settings) -> None:
        trust = settings.tls.trust
        certificate = trust / "ca.pem" if trust.is_dir() else trust
        self._settings = settings
        self._identity = Identity(certificate, certificate.with_suffix(".key"))
        if not certificate.is_file() or not self._identity.key.is_file():
            raise PkiError(
                tr("{file}: no such file; who has it issues certificates", file=self._identity.key)
            )

    @property
    def crl(self) -> Path:
        """Where the CRL lies."""
        return pki.crl_of(self._identity)

    def issue(self, name: str, hosts: Sequence[str], days: int, folder: Path | None) -> Identity:
        """A certificate and key for a node, in ``folder`` or beside the authority."""
        _check_name(name)
        place = folder or self.crl.parent
        place.mkdir(parents=True, exist_ok=True)
        for file in (place / f"{name}.pem", place / f"{name}.key"):
            if file.exists():
                raise PkiError(tr("{file} is there already: renew it", file=file))
        with self._alone():
            return pki.issue(place, self._identity, name, hosts, timedelta(days=days))

    def renew(self, certificate: Path, days: int, *, new_key: bool) -> Identity:
        """A new certificate in the place of one that this authority has issued."""
        identity = Identity(certificate, certificate.with_suffix(".key"))
        for file in (identity.certificate, identity.key):
            if not file.is_file():
                raise PkiError(tr("{file}: no such file", file=file))
        old = read_certificates(certificate)[0]
        with self._alone():
            self._check_ours(old)
            if not new_key and old.serial_number in self._revoked():
                raise PkiError(tr("{file} was revoked: it needs a new key", file=certificate))
            pki.renew(identity, self._identity, timedelta(days=days), new_key=new_key)
        return identity

    def revoke(self, which: str) -> list[Issued]:
        """Write a CRL that has what ``which`` names, a name, serial number or file; what is new.

        The certificate that the node itself shows is not revoked: nobody would talk to it.
        """
        with self._alone():
            found = self._named(which)
            own = read_certificates(self._settings.tls.certificate)[0]
            if any(one.serial_number == own.serial_number for one in found):
                raise PkiError(tr("the node itself shows this certificate: renew it first"))
            before = self._revoked()
            pki.write_crl(self._identity, found)
        return [_shown(one, True) for one in found if one.serial_number not in before]

    def overview(self) -> Overview:
        """What there is."""
        authority = read_certificates(self._identity.certificate)[0]
        revoked = self._revoked()
        return Overview(
            authority.subject.rfc4514_string(),
            _days(authority.not_valid_after_utc),
            self._crl_days(),
            [_shown(one, one.serial_number in revoked) for one in pki.issued(self._identity)],
        )

    @property
    def crl_counts(self) -> bool:
        """Whether the node asks the CRL."""
        return self._settings.tls.crl in (self.crl, self.crl.parent)

    def _named(self, which: str) -> list[x509.Certificate]:
        file = Path(which)
        if file.is_file():
            [one, *_] = read_certificates(file)
            self._check_ours(one)
            return [one]
        found = [
            one
            for one in pki.issued(self._identity)
            if which in (_common_name(one), f"{one.serial_number:x}")
        ]
        if not found:
            words = tr("{which}: no name, serial number or file of a certificate", which=which)
            raise PkiError(words)
        return found

    def _check_ours(self, one: x509.Certificate) -> None:
        if not pki.is_issued_by(one, read_certificates(self._identity.certificate)[0]):
            name = one.subject.rfc4514_string()
            raise PkiError(tr("{name} was issued by another authority", name=name))

    def _revoked(self) -> set[int]:
        if not self.crl.exists():
            return set()
        return {one.serial_number for one in x509.load_pem_x509_crl(self.crl.read_bytes())}

    def _crl_days(self) -> int | None:
        if not self.crl.exists():
            return None
        ends = x509.load_pem_x509_crl(self.crl.read_bytes()).next_update_utc
        return None if ends is None else _days(ends)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change at a time: of two CRLs written at once, one would not know of the other."""
        folder = os.open(self.crl.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise PkiError(tr("{name}: letters, digits, dot and hyphen name a node", name=name))


def _shown(one: x509.Certificate, revoked: bool) -> Issued:
    ends = one.not_valid_after_utc
    serial = f"{one.serial_number:x}"
    return Issued(_common_name(one), serial, _hosts(one), ends, _days(ends), revoked)


def _days(ends: datetime) -> int:
    return (ends - datetime.now(UTC)).days


def _common_name(one: x509.Certificate) -> str:
    names = one.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else one.subject.rfc4514_string()


def _hosts(one: x509.Certificate) -> tuple[str, ...]:
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)
