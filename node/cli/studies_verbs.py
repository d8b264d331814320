"""``kosmos studies``, ``kosmos check-images`` and ``kosmos admin publications``.

What an imaging source holds, what of it waits to be published and why, and how to mend it. The
first two only look, beside a node that serves; what mends needs an embedded node stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, Unreachable, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from imaging_source.overview import StudyOverview
    from storage.database import Database

studies_app = typer.Typer(
    help=tr("The studies of the imaging source, and what waits."), no_args_is_help=True
)
publications_app = typer.Typer(
    help=tr("The manifests on their way to the registry."), no_args_is_help=True
)

Study = Annotated[str, typer.Argument(metavar="UID", help=tr("Study Instance UID."))]


@studies_app.command(
    "list", help=tr("Print studies and where each is on its way, a page at a time.")
)
def list_studies(
    stage: Annotated[
        str,
        typer.Option(
            metavar="published|withdrawn|settling|sending|unidentified|failed",
            help=tr("Only studies at this stage."),
        ),
    ] = "",
    after: Annotated[str, typer.Option(metavar="UID", help=tr("Begin behind this study."))] = "",
    limit: Annotated[int, typer.Option(min=1, help=tr("Studies on a page."))] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print studies; the last one leads to the next page."""
    from imaging_source.overview import Stage, studies

    if stage and stage not in set(Stage):
        raise UsageError(tr("there is no stage {stage}", stage=stage))
    with index(config) as database, database.read() as connection:
        found = studies(connection, Stage(stage) if stage else None, after, limit)
    _show(found, json)


@studies_app.command(help=tr("Print one study: what waits, and why."))
def show(study: Study, config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print all that is known of a study's way."""
    from imaging_source import overview

    with index(config) as database, database.read() as connection:
        found = overview.study(connection, study)
    if found is None:
        raise CommandError(tr("no study has the UID {uid}", uid=study))
    if json:
        output.show_json(_told(found))
        return
    rows = [(name, "" if value is None else value) for name, value in _told(found).items()]
    output.console().print(output.table([tr("attribute"), ""], rows))


@studies_app.command(
    "quarantine", help=tr("Print what arrived and was put aside, for it contradicts what is here.")
)
def list_quarantine(
    limit: Annotated[int, typer.Option(min=1, help=tr("The newest so many."))] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print the instances in quarantine, the newest first."""
    from imaging_source.overview import put_aside

    with index(config) as database, database.read() as connection:
        found = put_aside(connection, limit)
    if json:
        output.show_json(
            [{**asdict(one), "received_at": time_text(one.received_at)} for one in found]
        )
        return
    rows = [
        (
            one.sop_instance_uid,
            one.study_instance_uid or "",
            one.reason,
            one.sender,
            time_text(one.received_at),
            one.sha256,
        )
        for one in found
    ]
    headings = [tr("instance"), tr("study"), tr("reason"), tr("sender"), tr("arrived"), tr("file")]
    output.console().print(output.table(headings, rows))


def check_images(
    config: Config = DEFAULT_CONFIG,
    hashes: Annotated[
        bool, typer.Option("--hashes", help=tr("Read every image and compare its hash."))
    ] = False,
    files_only: Annotated[
        bool, typer.Option("--files-only", help=tr("Do not ask the registry."))
    ] = False,
    json: Json = False,
) -> None:
    """Compare index, files and published manifests; name what is wrong."""
    from node.config_file import load
    from node.wiring.studies import check_images as run
    from transactions.registry_response import RegistryUnavailable

    try:
        found = run(load(config), output.progress, hashes=hashes, files_only=files_only)
    except RegistryUnavailable as error:
        raise Unreachable(tr("the registry cannot be asked: {reason}", reason=error)) from None
    data = asdict(found)
    if json:
        output.show_json({**data, "alarm": found.alarm})
    else:
        rows = [(name, len(v) if isinstance(v, list) else v) for name, v in data.items()]
        output.console().print(output.table([tr("outcome"), tr("count")], rows))
        for name, listed in data.items():
            for one in listed if isinstance(listed, list) else ():
                typer.echo(f"{name}: {one}")
    if found.alarm:
        raise CommandError(tr("what should be there is not: see missing, damaged, unregistered"))


@publications_app.command("list", help=tr("Print the publications that failed, with the reason."))
def list_publications(
    all_: Annotated[
        bool, typer.Option("--all", help=tr("Also those that wait or have arrived."))
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help=tr("The newest so many."))] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print publications, the newest first."""
    from imaging_source.outbox import State, publications

    with index(config) as database, database.read() as connection:
        found = publications(connection, None if all_ else State.FAILED, limit)
    if json:
        output.show_json(
            [
                {k: v for k, v in asdict(one).items() if not isinstance(v, bytes)}
                | {"created_at": time_text(one.created_at)}
                for one in found
            ]
        )
        return
    rows = [
        (one.study_instance_uid, one.kind, one.state, one.attempts, one.error or "")
        for one in found
    ]
    headings = [tr("study"), tr("kind"), tr("state"), tr("attempts"), tr("reason")]
    output.console().print(output.table(headings, rows))


@publications_app.command(help=tr("Try again what was refused, with today's configuration."))
def resend(study: Study, config: Config = DEFAULT_CONFIG) -> None:
    """Let a failed publication be made anew."""
    from imaging_source import outbox

    if not _write(config, lambda connection: outbox.retry(connection, study)):
        raise CommandError(tr("no publication of {uid} has failed", uid=study))
    output.console().print(tr("{uid} is published when the node runs", uid=study))


@publications_app.command(help=tr("Publish a study again as it is now, in place of its manifest."))
def republish(study: Study, config: Config = DEFAULT_CONFIG) -> None:
    """Make a new manifest of a study that has not changed."""
    from imaging_source import outbox

    if not _write(config, lambda connection: outbox.republish(connection, study)):
        raise CommandError(tr("no study has the UID {uid}", uid=study))
    output.console().print(tr("{uid} is published when the node runs", uid=study))


def _show(found: list[StudyOverview], json: bool) -> None:
    if json:
        output.show_json([_told(one) for one in found])
        return
    rows = [
        (
            one.study_instance_uid,
            one.date,
            one.instances,
            one.rejected,
            one.evicted,
            one.stage,
            one.reason or one.not_recalled or "",
        )
        for one in found
    ]
    counts = [tr("images"), tr("rejected"), tr("evicted")]
    headings = [tr("study"), tr("date"), *counts, tr("stage"), tr("reason")]
    output.console().print(output.table(headings, rows))


def _told(study: StudyOverview) -> dict[str, object]:
    times = {
        "changed_at": time_text(study.changed_at),
        "next_attempt_at": time_text(study.next_attempt_at),
    }
    return {**asdict(study), **times}


def time_text(seconds: float | None) -> str | None:
    """A time as people and scripts read it."""
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    )


@contextmanager
def index(config: Path, *, read_only: bool = True) -> Iterator[Database]:
    """The index of the node; to write to an embedded one needs the node stopped."""
    from node.config_file import load
    from node.wiring.studies import open_index

    settings = load(config)
    if not settings.imaging_source.enabled:
        raise CommandError(tr("this node has no imaging source"))
    with open_index(settings, read_only=read_only) as database:
        yield database


def _write(config: Path, work: Callable[[Connection], bool]) -> bool:
    with index(config, read_only=False) as database:
        return database.write(work)
