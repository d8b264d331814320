"""Verbs for media: export studies to a folder or a ZIP, import what others brought."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json, patient_id
from node.texts import tr


def export(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help=tr("Study Instance UIDs."))
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="DIR|ZIP", help=tr("A new folder, or a name ending in .zip.")),
    ],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Write studies to a medium with a DICOMDIR."""
    from imaging_source.media import NothingToExport
    from node.config_file import load
    from node.media import export as run

    try:
        made = run(load(config), studies, target, output.progress)
    except NothingToExport as error:
        raise CommandError(tr("no such study here: {uid}", uid=error)) from error
    if json:
        output.show_json(asdict(made))
    else:
        size = output.bytes_text(made.bytes)
        told = tr("{count} files, {size}, in {target}", count=made.files, size=size, target=target)
        output.console().print(told)


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", exists=True, help=tr("A folder, a DICOMDIR, a ZIP or a DICOM file.")
        ),
    ],
    patient: Annotated[
        str | None, typer.Option(help=tr("Whose all of these images are, in this domain."))
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help=tr("Lines of two identifiers: of a patient there, and in this domain."),
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Take images of a medium in; again, it goes on where it broke off."""
    from zipfile import BadZipFile

    from imaging_source.importing import TooLarge
    from node.config_file import load
    from node.media import identities
    from node.media import import_ as run

    if patient is not None and table is not None:
        raise UsageError(tr("--patient or --table, not both"))
    settings = load(config)
    everyone = patient_id(patient, settings) if patient is not None else None
    try:
        whose = identities(settings, everyone, table)
    except ValueError as error:
        told = tr("{file}: line {number} is not two identifiers", file=table, number=error)
        raise UsageError(told) from error
    try:
        done = run(settings, path, whose, output.progress)
    except TooLarge as error:
        raise CommandError(tr("the archive unpacks to more than there is room for")) from error
    except BadZipFile as error:
        raise CommandError(tr("{file} is no whole archive", file=path)) from error
    if json:
        data = {"counts": done.counts, "reasons": done.reasons, "studies": sorted(done.studies)}
        output.show_json(data)
    else:
        rows = sorted(done.counts.items())
        output.console().print(output.table([tr("outcome"), tr("files")], rows))
        for name, reason in done.reasons.items():
            typer.echo(f"{name}: {reason}")
    if done.reasons:
        raise CommandError(tr("not everything was taken in: see above"))
