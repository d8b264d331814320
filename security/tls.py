"""TLS contexts of a secure node: both ends show a certificate (ITI TF-2 3.19, ITI-19).

Covers TLS 1.2 and 1.3 with the four suites that the ATNA secure-transport options name
(DHE and ECDHE with RSA, AES-128 and AES-256 in GCM), trust in authorities and in single
certificates alike. It does not check revocation and does not require a host name in the
certificate unless asked: IHE authenticates the node, not its address.
"""

from __future__ import annotations

import ssl
from pathlib import Path

# ITI-19 names the first four; ChaCha20 is for peers without AES in hardware. TLS 1.3 brings
# its own suites, all of them sound, and ignores this list.
CIPHERS = ":".join(
    (
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


class TlsError(Exception):
    """A certificate, key or trust file that cannot be used; the text names the file."""


def server_context(
    certificate: Path, key: Path, trust: Path, password: str | None = None
) -> ssl.SSLContext:
    """The context of a listener: a client without a trusted certificate is refused.

    With TLS 1.3 the client learns of the refusal at its first read, not in its handshake.
    Raises TlsError.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, trust, password)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_dh_params(str(DH_GROUP))
    return context


def client_context(
    certificate: Path,
    key: Path,
    trust: Path,
    password: str | None = None,
    *,
    check_host: bool = False,
) -> ssl.SSLContext:
    """The context for calling another node; ``check_host`` also compares its name (RFC 6125).

    Raises TlsError.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, trust, password)
    context.check_hostname = check_host
    return context


def _context(
    protocol: ssl._SSLMethod, certificate: Path, key: Path, trust: Path, password: str | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # A peer's own certificate in the trust file is trusted without its authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for file in (certificate, key, trust):
        if not file.is_file():
            raise TlsError(f"{file}: no such file")
    try:
        # An empty password instead of None: OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password=password or "")
    except ssl.SSLError as error:
        raise TlsError(f"{certificate} and {key}: {error.reason or error}") from error
    try:
        context.load_verify_locations(trust)
    except ssl.SSLError as error:
        raise TlsError(f"{trust}: {error.reason or error}") from error
    return context
