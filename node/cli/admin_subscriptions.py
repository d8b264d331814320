"""Verbs of the person who looks after subscriptions: list, show, remove, retry, dead, pull-points.

They open the registry's database themselves. On an embedded database, which has one writing
process, ``remove`` and ``retry`` need the node stopped; the others read beside it.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr

if TYPE_CHECKING:
    from storage.database import Database

app = typer.Typer(help=tr("Who is told of new documents (DSUB)."), no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help=tr("Identifier of the subscription."))]


@app.command("list", help=tr("Print every subscription and what waits for it."))
def list_all(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print every subscription and what waits for it."""
    from registry.subscriptions import records

    with _database(config, read_only=True) as database:
        found = records.subscriptions(database)
    if json:
        output.show_json([asdict(one) for one in found])
        return
    headings = ["id", tr("topic"), tr("consumer"), tr("ends"), tr("waiting"), tr("dead")]
    rows = [
        (one.id, one.topic, one.consumer, one.expires_at, one.waiting, one.dead) for one in found
    ]
    output.console().print(output.table(headings, rows))


@app.command(help=tr("Print one subscription with its patient and its filter."))
def show(identifier: Id, config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print one subscription with its patient and its filter."""
    from registry.subscriptions import records

    with _database(config, read_only=True) as database:
        found = records.subscription_of(database, identifier)
    if found is None:
        raise CommandError(tr("no subscription {id}", id=identifier))
    values = asdict(found) | {"filter": json_text.loads(found.filter)}
    if json:
        output.show_json(values)
    else:
        output.console().print(output.table([tr("key"), tr("value")], list(values.items())))


@app.command("pull-points", help=tr("Print every pull point and how much waits there."))
def pull_points(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print every pull point and how much waits there."""
    from registry.subscriptions import pull_points as points
    from registry.subscriptions.records import MOST

    with _database(config, read_only=True) as database:
        found = points.pull_points(database, MOST)
    if json:
        output.show_json([one._asdict() for one in found])
        return
    headings = ["id", tr("node"), tr("user"), tr("created"), tr("asked"), tr("waiting")]
    output.console().print(output.table(headings, found))


@app.command(help=tr("End a subscription or a pull point; what waits for it is dropped."))
def remove(identifier: Id, config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """End a subscription or a pull point; what waits for it is dropped."""
    from registry.subscriptions import records

    with _database(config) as database:
        known = records.remove(database, identifier)
    if not known:
        raise CommandError(tr("no subscription {id}", id=identifier))
    _done({"removed": identifier}, json)


@app.command(help=tr("Deliver a subscription's dead letters after all, and what waits at once."))
def retry(identifier: Id, config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Deliver a subscription's dead letters after all, and what waits at once."""
    from registry.subscriptions import records

    with _database(config) as database:
        if records.subscription_of(database, identifier) is None:
            raise CommandError(tr("no subscription {id}", id=identifier))
        revived = records.retry(database, identifier, datetime.now(UTC))
    _done({"retried": revived}, json)


@app.command(help=tr("Print the notifications that were given up, and why."))
def dead(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print the notifications that were given up, and why."""
    from registry.subscriptions import records

    with _database(config, read_only=True) as database:
        found = records.dead_letters(database)
    if json:
        output.show_json([asdict(one) for one in found])
        return
    headings = [tr("number"), tr("subscription"), tr("topic"), tr("created"), tr("error")]
    rows = [(one.number, one.subscription, one.topic, one.created_at, one.error) for one in found]
    output.console().print(output.table(headings, rows))


@contextmanager
def _database(config: Path, *, read_only: bool = False) -> Iterator[Database]:
    from node.config_file import load
    from node.migrate import open_database

    settings = load(config)
    if not settings.registry.enabled:
        raise CommandError(tr("this node has no registry"))
    with open_database(settings.registry, "registry", read_only=read_only) as database:
        yield database


def _done(data: dict[str, object], json: bool) -> None:
    if json:
        output.show_json(data)
        return
    for name, value in data.items():
        output.console().print(f"{name}: {value}")
