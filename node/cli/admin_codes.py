"""``kosmos admin codes``: the code sets of the affinity domain."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr

if TYPE_CHECKING:
    from metadata.affinity_domain import AffinityDomain

codes_app = typer.Typer(
    help=tr("The code sets: check, show, convert, reload."), no_args_is_help=True
)
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", exists=True, dir_okay=False, help=tr("Code sets (TOML or codes.xml).")
    ),
]


@codes_app.command(help=tr("Say what is wrong with a file, or how many codes it has."))
def check(file: File, json: Json = False) -> None:
    """Read a file as a node would."""
    from node import codes

    counts = _counts(codes.domain(file))
    notes = codes.read(file).notes
    if json:
        output.show_json({"file": str(file), "codes": counts, "notes": notes})
        return
    output.console().print(output.table([tr("attribute"), tr("codes")], list(counts.items())))
    for note in notes:
        output.errors().print(f"{file}: {note}", markup=False)


@codes_app.command(help=tr("Print every code that a node allows."))
def show(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """The code sets as the node of a configuration file understands them."""
    from node.config_file import load
    from node.wiring.common import affinity_domain

    rows = list(_rows(affinity_domain(load(config))))
    names = ("attribute", "scheme", "code", "display")
    if json:
        output.show_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    headings = [tr("attribute"), tr("scheme"), tr("code"), tr("display name")]
    output.console().print(output.table(headings, rows))


@codes_app.command(help=tr("Write a file in the other form: codes.xml as TOML, TOML as codes.xml."))
def convert(
    file: File,
    target: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help=tr("Where to; without it, here."))
    ] = None,
) -> None:
    """Turn XML into TOML and TOML into XML."""
    from node import codes

    converted = codes.converted(file)
    for note in codes.read(file).notes:
        output.errors().print(f"{file}: {note}", markup=False)
    if target is None:
        sys.stdout.write(converted.decode())
    else:
        target.write_bytes(converted)


@codes_app.command(help=tr("Make a running node read its code sets again, now."))
def reload(config: Config = DEFAULT_CONFIG) -> None:
    """Check the file, then tell the supervisor, which tells every process."""
    from node.config_file import load
    from node.supervisor import running
    from node.wiring.common import affinity_domain

    settings = load(config)
    affinity_domain(settings)
    supervisor = running(settings)
    if supervisor is None:
        raise CommandError(tr("no node is running here: it reads the file when it starts"))
    os.kill(supervisor, signal.SIGHUP)
    typer.echo(tr("told process {pid}; its log says when they are in force", pid=supervisor))


def _counts(domain: AffinityDomain) -> dict[str, int | str]:
    """How many codes each attribute may have."""
    from metadata.affinity_domain import CODE_SETS, OPEN

    sets = {
        **{name: domain.code_sets.get(name) for name in CODE_SETS},
        "mimeType": domain.mime_types,
        "languageCode": domain.languages,
    }
    return {name: OPEN if values is None else len(values) for name, values in sets.items()}


def _rows(domain: AffinityDomain) -> Iterator[tuple[str, str, str, str]]:
    """Attribute, scheme, code and display name of every allowed value."""
    for name, codes in domain.code_sets.items():
        for (scheme, code), display in (codes.names if codes else {}).items():
            yield name, scheme, code, display
    for name, values in (("mimeType", domain.mime_types), ("languageCode", domain.languages)):
        yield from ((name, "", value, "") for value in sorted(values or ()))
