"""Verbs of the person who keeps a node alive: migrate, backup, restore, reconcile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli import output
from node.cli.exits import CommandError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr


def migrate(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Bring the databases up to date; `serve` does so too."""
    from node import migrate as migration
    from node.config_file import load

    migrated = migration.migrate(load(config), output.progress)
    if json:
        output.show_json([asdict(one) for one in migrated])
        return
    for one in migrated:
        told = tr("{actor}: up to date", actor=one.actor)
        change = "" if one.before == one.after else f" ({one.before or '-'} → {one.after})"
        output.console().print(told + change)


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help=tr("Folder of the backups."))],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Copy the node into a new folder of TARGET; it may serve meanwhile."""
    from node import backup as backups
    from node.config_file import load

    made = backups.create(load(config), config, target, output.progress)
    if json:
        output.show_json({**asdict(made), "alarm": made.alarm})
    else:
        output.console().print(tr("backup in {folder}", folder=made.folder))
        rows = [
            (name, store.count, store.linked, output.bytes_text(store.bytes))
            for name, store in made.stores.items()
        ]
        headings = [tr("files"), tr("count"), tr("from the backup before"), tr("size")]
        output.console().print(output.table(headings, rows))
        for store in made.stores.values():
            _name(store.missing, "missing")
            _name(store.damaged, "damaged")
    if made.alarm:
        raise CommandError(tr("the node lacks files that it has accepted; the rest is backed up"))


def restore(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", exists=True, file_okay=False, help=tr("A backup, or their folder.")
        ),
    ],
    into: Annotated[Path, typer.Option(metavar="DIR", help=tr("Folder of the new node."))],
    json: Json = False,
) -> None:
    """Make a node from a backup, and prove that everything is there."""
    from node.config_file import load
    from node.restore import restore as run

    made = run(source, into, output.progress)
    if json:
        output.show_json({**asdict(made), "alarm": made.alarm})
    else:
        told = tr("a node in {folder}, from {source}", folder=into, source=made.source)
        output.console().print(told)
        rows = list(made.counts.items())
        output.console().print(output.table([tr("files"), tr("count")], rows))
        _name(made.lost, "lost")
        _name(made.missing_images, "missing")
        _name_all(asdict(made.documents))
        tls = load(made.config).tls
        if tls.enabled and not tls.key.exists():
            typer.echo(tr("keys and certificates are in no backup: bring your own"))
    if made.alarm:
        raise CommandError(tr("something that the node had accepted is not there: see above"))


def reconcile(
    config: Config = DEFAULT_CONFIG,
    grace_hours: Annotated[
        float, typer.Option(min=0, help=tr("Leave alone what is younger than this."))
    ] = 24.0,
    sweep: Annotated[
        bool, typer.Option("--sweep", help=tr("Remove bytes that no document refers to."))
    ] = False,
    scrub: Annotated[
        bool, typer.Option("--scrub", help=tr("Read every document and compare its hash."))
    ] = False,
    json: Json = False,
) -> None:
    """Settle what a crash left between repository and registry; name what is wrong."""
    from node.config_file import load
    from node.wiring.rooms import reconcile as run

    seconds = grace_hours * 3600
    found = run(load(config), output.progress, grace_seconds=seconds, sweep=sweep, scrub=scrub)
    data = asdict(found)
    if json:
        output.show_json({**data, "alarm": found.alarm})
    else:
        rows = [(name, len(v) if isinstance(v, list) else v) for name, v in data.items()]
        output.console().print(output.table([tr("outcome"), tr("documents")], rows))
        _name_all(data)
    if found.alarm:
        raise CommandError(
            tr("documents that were accepted cannot be served: see missing, damaged, unheld")
        )


def _name_all(outcomes: dict[str, Any]) -> None:
    """Every identifier of every list, under the name of its list."""
    for name, listed in outcomes.items():
        if isinstance(listed, list):
            _name(listed, name)


def _name(listed: list[str], name: str) -> None:
    for one in listed:
        typer.echo(f"{name}: {one}")
