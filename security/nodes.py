"""Which nodes may connect, and what each may do: the list of a configuration (ITI TF-2 3.19).

A node is known by its certificate: by its fingerprint, its subject or one of its alternative
names. Pure: whoever asks brings a certificate that TLS has verified, and acts on the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

# The certificates of the peers of a region, kept read.
_PEERS = 256


class NodeRefused(Exception):
    """A node may not connect, or not do what it asks; the text tells its operator why."""


def _trusted() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a node may do; empty ``transactions`` or ``ae_titles`` mean all of them.

    ``refusal`` tells why it may do nothing any more while its connection lasts; empty while it may.
    """

    name: str = ""
    transactions: frozenset[str] = frozenset()
    ae_titles: frozenset[str] = frozenset()
    refusal: Callable[[], str] = _trusted

    def check(self, transaction: str) -> None:
        """Raise NodeRefused for a transaction ("ITI-18", "C-STORE") that it may not do."""
        if words := self.refusal():
            raise NodeRefused(words)
        if self.transactions and transaction not in self.transactions:
            raise NodeRefused(f"{self.name} may not do {transaction} here")

    def check_title(self, title: str) -> None:
        """Raise NodeRefused for an AE title that is not the node's."""
        if self.ae_titles and title not in self.ae_titles:
            raise NodeRefused(f"{self.name} is not known by this AE title")


EVERYTHING = Permit()


@dataclass(frozen=True, slots=True)
class KnownNode:
    """How a node is known, and its permit: SHA-256 in hex, subject (RFC 4514), or a SAN."""

    permit: Permit
    certificate: str = ""
    subject: str = ""
    san: str = ""

    def is_shown_by(self, certificate: bytes) -> bool:
        """Whether the node is the one that shows ``certificate`` (DER)."""
        fingerprint, subject = names_of(certificate)
        if self.certificate:
            return self.certificate == fingerprint
        if self.subject:
            return self.subject == subject
        return bool(self.san) and self.san.lower() in _alternative_names(certificate)


class Nodes:
    """The nodes of a configuration; without any, everybody who is trusted may do everything."""

    def __init__(self, known: Sequence[KnownNode] = ()) -> None:
        self._known = known
        self._own: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._known)

    def own(self, certificates: Iterable[x509.Certificate]) -> None:
        """Let in the node itself, whose processes call each other; earlier ones stay in."""
        self._own |= {one.fingerprint(SHA256()).hex() for one in certificates}

    def permit(self, certificate: bytes | None, title: str = "") -> Permit:
        """The permit of who shows ``certificate`` (DER).

        Who has shown none, where a listener demands none, is known by its AE title alone.
        Raises NodeRefused for a node that is not listed.
        """
        if not self._known:
            return EVERYTHING
        if certificate is None:
            found = (one for one in self._known if title in one.permit.ae_titles)
        else:
            if names_of(certificate)[0] in self._own:
                return EVERYTHING
            found = (one for one in self._known if one.is_shown_by(certificate))
        node = next(found, None)
        if node is None:
            raise NodeRefused("this node is not listed here")
        return node.permit

    def check(self, certificate: bytes | None, transaction: str) -> None:
        """Raise NodeRefused unless who shows ``certificate`` may do ``transaction``."""
        self.permit(certificate).check(transaction)


@lru_cache(maxsize=_PEERS)
def names_of(certificate: str | bytes) -> tuple[str, str]:
    """What a certificate (PEM or DER) is called by: its SHA-256 in hex, its subject (RFC 4514)."""
    read = _read(certificate)
    return read.fingerprint(SHA256()).hex(), read.subject.rfc4514_string()


@lru_cache(maxsize=_PEERS)
def _alternative_names(certificate: bytes) -> frozenset[str]:
    kinds = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier)
    try:
        extension = _read(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(str(one.value).lower() for one in extension.value if isinstance(one, kinds))


def _read(certificate: str | bytes) -> x509.Certificate:
    if isinstance(certificate, str):
        return x509.load_pem_x509_certificate(certificate.encode())
    return x509.load_der_x509_certificate(certificate)
