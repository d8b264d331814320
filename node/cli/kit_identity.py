"""Whom the kit calls as: its certificate for https, and the issuer it signs assertions as."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.exits import UsageError
from node.texts import tr

if TYPE_CHECKING:
    from conformance.access import AccessTable
    from security.assertions.issuing import Issuer
    from security.pki import Identity
    from security.tls import NodeContext

# Each call brings an assertion of its own: this is the time for one call, however large.
LIFETIME = timedelta(hours=1)


def _file(words: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        metavar="FILE", exists=True, dir_okay=False, help=words
    )
    return info


Certificate = Annotated[Path | None, _file(tr("Certificate of the kit, for https (PEM)."))]
Key = Annotated[Path | None, _file(tr("Private key of that certificate."))]
Trust = Annotated[Path | None, _file(tr("Certificates of the authorities that are believed."))]
Authority = Annotated[
    Path | None, _file(tr("Certificate of a test authority that the registry believes (PEM)."))
]
AuthorityKey = Annotated[Path | None, _file(tr("Private key of that authority."))]
Direct = Annotated[
    Path | None, _file(tr("A certificate that signs itself, which the registry knows (PEM)."))
]
DirectKey = Annotated[Path | None, _file(tr("Private key of that certificate."))]
Policy = Annotated[Path | None, _file(tr("Who may see what there (TOML)."))]
Treat = Annotated[
    str | None, typer.Option(metavar="COMMAND", help=tr("Has {who} treat {patient}."))
]
AuditListener = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help=tr("Where the node sends its audit records.")),
]
IssuerName = Annotated[
    str | None, typer.Option("--issuer", metavar="NAME", help=tr("Issuer of the kit's assertions."))
]
IssuerCertificate = Annotated[Path | None, _file(tr("Certificate of that issuer (PEM)."))]
IssuerKey = Annotated[Path | None, _file(tr("Private key of that issuer."))]
Audience = Annotated[
    str | None, typer.Option(metavar="URI", help=tr("Whom the assertions are for."))
]


def tls_of(certificate: Path | None, key: Path | None, trust: Path | None) -> NodeContext | None:
    """The TLS of the kit as a client; None where nothing was named. Raises UsageError."""
    from security.tls import TlsError, client_context

    if certificate is None and key is None and trust is None:
        return None
    if certificate is None or key is None or trust is None:
        text = tr("--tls-certificate, --tls-key and --tls-trust go together")
        raise UsageError(text)
    try:
        return client_context(certificate, key, trust)
    except TlsError as error:
        raise UsageError(str(error)) from None


def door_of(certificate: Path | None, key: Path | None, trust: Path | None) -> NodeContext | None:
    """The TLS of the kit as a server, of files that ``tls_of`` has taken."""
    from security.tls import server_context

    if certificate is None or key is None or trust is None:
        return None
    return server_context(certificate, key, trust)


def pair(certificate: tuple[str, Path | None], key: tuple[str, Path | None]) -> Identity | None:
    """A certificate and its key, each with its option; None without both. Raises UsageError."""
    from security.pki import Identity

    (one, file), (other, key_file) = certificate, key
    if file is None and key_file is None:
        return None
    if file is None or key_file is None:
        raise UsageError(tr("{one} and {other} go together", one=one, other=other))
    return Identity(file, key_file)


def table_of(file: Path | None) -> AccessTable | None:
    """What the node's policy lets callers see; None where nothing was named. Raises UsageError."""
    from conformance.access import AccessTable, AccessTableError

    if file is None:
        return None
    try:
        return AccessTable.read(file)
    except AccessTableError as error:
        raise UsageError(str(error)) from None


def issuer_of(
    name: str | None, certificate: Path | None, key: Path | None, audience: str | None
) -> Issuer | None:
    """The issuer that the kit signs as; None where nothing was named. Raises UsageError."""
    from security.assertions.issuing import Issuer
    from security.assertions.profile import AssertionProfile
    from security.assertions.signature import IssuerError

    if not (name or certificate or key or audience):
        return None
    if not (name and certificate and key and audience):
        text = tr("--issuer, --issuer-certificate, --issuer-key and --audience go together")
        raise UsageError(text)
    profile = AssertionProfile.read()
    try:
        return Issuer.read(
            name, certificate, key, profile=profile, audiences=[audience], lifetime=LIFETIME
        )
    except IssuerError as error:
        raise UsageError(str(error)) from None
