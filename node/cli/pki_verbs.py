"""``kosmos pki``: certificates of nodes, by the authority that ``kosmos init`` made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr

if TYPE_CHECKING:
    from node.authority import Authority, Issued
    from security.pki import Identity

# Two years: what IHE recommends as the longest (node.authority says so too, and costs its imports).
_MOST_DAYS = 730

app = typer.Typer(
    help=tr("Certificates of nodes, by the authority of kosmos init."), no_args_is_help=True
)

Days = Annotated[
    int, typer.Option(min=1, max=_MOST_DAYS, help=tr("How many days it holds; two years at most."))
]


@app.command(help=tr("Make key and certificate of a node."))
def issue(
    name: Annotated[str, typer.Argument(help=tr("Name of the node."))],
    host: Annotated[
        list[str] | None, typer.Option(help=tr("DNS name or address of it; may be repeated."))
    ] = None,
    days: Days = _MOST_DAYS,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help=tr("Folder to write them to."))
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print where they lie; nothing is overwritten."""
    _tell_made(_authority(config).issue(name, host or [], days, out), json=json)


@app.command(help=tr("Put a new certificate in the place of one that ends, of the same names."))
def renew(
    certificate: Annotated[Path, typer.Argument(help=tr("File of the certificate."))],
    days: Days = _MOST_DAYS,
    new_key: Annotated[bool, typer.Option("--new-key", help=tr("Make a new key too."))] = False,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """The one before holds on until it ends or is revoked."""
    _tell_made(_authority(config).renew(certificate, days, new_key=new_key), json=json)


@app.command(help=tr("Revoke certificates: nodes that serve refuse them within seconds."))
def revoke(
    which: Annotated[str, typer.Argument(help=tr("Name, serial number or file."))],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Write a new CRL, and print what it has that the one before had not."""
    authority = _authority(config)
    done = authority.revoke(which)
    if json:
        output.show_json({"crl": str(authority.crl), "revoked": [asdict(one) for one in done]})
        return
    console = output.console()
    console.print(_table(done) if done else tr("it was revoked before"))
    console.print(tr("the CRL is {file}", file=authority.crl))
    if not authority.crl_counts:
        console.print(tr("tls.crl does not name it: the node itself does not ask it"))


@app.command(help=tr("Print what was issued, and how long it holds."))
def show(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """The authority and its CRL too."""
    seen = _authority(config).overview()
    if json:
        output.show_json(asdict(seen))
        return
    console = output.console()
    console.print(tr("{name}: valid for {days} days", name=seen.authority, days=seen.days))
    if seen.crl_days is not None:
        console.print(tr("its CRL: valid for {days} days", days=seen.crl_days))
    console.print(_table(seen.issued))


def _authority(config: Path) -> Authority:
    from node.authority import Authority
    from node.config_file import load

    return Authority(load(config))


def _tell_made(made: Identity, *, json: bool) -> None:
    if json:
        output.show_json({"certificate": str(made.certificate), "key": str(made.key)})
    else:
        words = tr("certificate {file}, key {key}", file=made.certificate, key=made.key)
        output.console().print(words)


def _table(issued: list[Issued]) -> object:
    headings = [tr("name"), tr("serial number"), tr("until"), tr("days left"), tr("reached as")]
    rows = [
        (one.name, one.serial, f"{one.until:%Y-%m-%d}", _left(one), ", ".join(one.hosts) or "-")
        for one in issued
    ]
    return output.table(headings, rows)


def _left(one: Issued) -> str:
    if one.revoked:
        return tr("revoked")
    return str(one.days) if one.days >= 0 else tr("ended")
