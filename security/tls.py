"""TLS contexts of a secure node: both ends show a certificate (ITI TF-2 3.19, ITI-19).

Covers TLS 1.2 and 1.3 with the four suites that the ATNA secure-transport options name
(DHE and ECDHE with RSA, AES-128 and AES-256 in GCM), trust in authorities and in single
certificates alike, revocation (CRL) of the whole chain, and files that change while connections
come and go. It does not require a host name in the certificate unless asked: IHE authenticates
the node, not its address.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from security.trust import Revocations, TlsError, der, read_certificates, read_revocations

__all__ = ["CIPHERS", "NodeContext", "TlsError", "client_context", "renew", "server_context"]

# ITI-19 names the first four; ChaCha20 is for peers without AES in hardware. TLS 1.3 brings
# its own suites, all of them sound, and ignores this list. Level 2: RSA and DH keys of 2,048 bits
# at least, no certificate signed with SHA-1.
CIPHERS = ":".join(
    (
        "@SECLEVEL=2",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "DHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
# The group ffdhe2048 of RFC 7919: without it Python's server offers no DHE suite at all.
DH_GROUP = Path(__file__).with_name("ffdhe2048.pem")

Version = Literal["1.2", "1.3"]
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class _Files:
    """What a context is made of."""

    certificate: Path
    key: Path
    trust: Path
    crl: Path | None
    password: str | None
    minimum: Version


def server_context(
    certificate: Path,
    key: Path,
    trust: Path,
    password: str | None = None,
    *,
    crl: Path | None = None,
    minimum: Version = "1.2",
) -> NodeContext:
    """The context of a listener: a client without a trusted certificate is refused.

    With TLS 1.3 the client learns of the refusal at its first read, not in its handshake.
    Raises TlsError.
    """
    return NodeContext(
        ssl.PROTOCOL_TLS_SERVER,
        _Files(certificate, key, trust, crl, password, minimum),
        _demand_certificates,
    )


def client_context(
    certificate: Path,
    key: Path,
    trust: Path,
    password: str | None = None,
    *,
    crl: Path | None = None,
    minimum: Version = "1.2",
    check_host: bool = False,
) -> NodeContext:
    """The context for calling another node; ``check_host`` also compares its name (RFC 6125).

    Raises TlsError.
    """

    def finish(context: ssl.SSLContext) -> None:
        context.check_hostname = check_host

    files = _Files(certificate, key, trust, crl, password, minimum)
    return NodeContext(ssl.PROTOCOL_TLS_CLIENT, files, finish)


def renew(contexts: Iterable[NodeContext]) -> None:
    """Have all of them read their files again, or none: raises TlsError and changes nothing."""
    made = [(one, one.made_anew()) for one in contexts]
    for one, successor in made:
        one.hand_over_to(successor)


class _Judged:
    """Ends a handshake: a peer that OpenSSL trusts may have been revoked.

    OpenSSL's own check would want a CRL of every certificate that is trusted by itself.
    """

    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        """Perform it; raises SSLCertVerificationError for a peer that is revoked."""
        super().do_handshake(*args, **kwargs)  # type: ignore[misc]
        context: NodeContext = self.context  # type: ignore[attr-defined]
        if context.revocations and (words := context.revocations.refusal(_chain(self))):
            raise ssl.SSLCertVerificationError(ssl.SSLErrorNumber.SSL_ERROR_SSL, words)


class _Object(_Judged, ssl.SSLObject):
    """What an event loop speaks TLS through."""


class _Socket(_Judged, ssl.SSLSocket):
    """What a thread speaks TLS through."""


class NodeContext(ssl.SSLContext):
    """A context that outlives its files: ``renew`` has what is wrapped from then on made of new
    ones, while connections that stand live on.
    """

    sslobject_class = _Object
    sslsocket_class = _Socket

    def __new__(cls, protocol: ssl._SSLMethod, *_: Any) -> NodeContext:
        """A context for one side."""
        return super().__new__(cls, protocol)

    def __init__(
        self,
        protocol: ssl._SSLMethod,
        files: _Files,
        finish: Callable[[ssl.SSLContext], None],
    ) -> None:
        self._recipe = (protocol, files, finish)
        self._successor: NodeContext | None = None
        self.minimum_version = VERSIONS[files.minimum]
        self.set_ciphers(CIPHERS)
        # A peer's own certificate in the trust file is trusted without its authority.
        self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _show(self, files)
        trusted = read_certificates(files.trust)
        self.revocations = Revocations(read_revocations(files.crl, trusted))
        _believe(self, files.trust, der(trusted))
        finish(self)

    def made_anew(self) -> NodeContext:
        """The same of the files as they are now. Raises TlsError."""
        return NodeContext(*self._recipe)

    def hand_over_to(self, successor: NodeContext) -> None:
        """From now on wrap with ``successor``."""
        self._successor = successor

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As that of ssl.SSLContext, with the newest files."""
        newest = self._successor or self
        return super(NodeContext, newest).wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As that of ssl.SSLContext, with the newest files."""
        newest = self._successor or self
        return super(NodeContext, newest).wrap_bio(*args, **kwargs)


def _demand_certificates(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_dh_params(str(DH_GROUP))


def _show(context: ssl.SSLContext, files: _Files) -> None:
    """Load the node's own certificate and key."""
    for file in (files.certificate, files.key):
        if not file.is_file():
            raise TlsError(f"{file}: no such file")
    try:
        # An empty password instead of None: OpenSSL would ask on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=files.password or "")
    except (ssl.SSLError, OSError) as error:
        words = getattr(error, "reason", None) or error
        raise TlsError(f"{files.certificate} and {files.key}: {words}") from error


def _believe(context: ssl.SSLContext, place: Path, certificates: bytes) -> None:
    """Load what is trusted."""
    try:
        context.load_verify_locations(cadata=certificates)
    except ssl.SSLError as error:
        raise TlsError(f"{place}: {error.reason or error}") from error


def _chain(connection: Any) -> Sequence[bytes]:
    """The certificates (DER) from the peer's own to the trusted one; a session that is resumed
    has the peer's own alone, and the others were judged when it began.
    """
    chain = connection._sslobj.get_verified_chain()  # public from Python 3.13 on
    if chain:
        return [one.public_bytes(_DER) for one in chain]
    own = connection.getpeercert(binary_form=True)
    return [own] if own else []


# The encoding that ``public_bytes`` is asked for (OpenSSL's own number of DER).
_DER = 2
