"""``kosmos reports``: the reports of the imaging source, and what waits or stands aside."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.cli.studies_verbs import index, time_text
from node.texts import tr

reports_app = typer.Typer(
    help=tr("The reports of the imaging source, and what waits."), no_args_is_help=True
)


@reports_app.command("list", help=tr("Print reports and where each is on its way, newest first."))
def list_reports(
    stage: Annotated[
        str,
        typer.Option(
            metavar="preliminary|waiting|quarantine|sending|failed|published|withdrawn",
            help=tr("Only reports at this stage."),
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help=tr("The newest so many."))] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print reports, the newest first."""
    from imaging_source.report_overview import Stage, reports

    if stage and stage not in set(Stage):
        raise UsageError(tr("there is no stage {stage}", stage=stage))
    with index(config) as database, database.read() as connection:
        found = reports(connection, Stage(stage) if stage else None, limit)
    if json:
        told = [asdict(one) | {"received_at": time_text(one.received_at)} for one in found]
        output.show_json(told)
        return
    rows = [
        (one.report_uid, one.stage, one.study_instance_uid, one.title, one.reason) for one in found
    ]
    headings = [tr("report"), tr("stage"), tr("study"), tr("title"), tr("reason")]
    output.console().print(output.table(headings, rows))


@reports_app.command(help=tr("Look again at a report that was put aside or refused."))
def resend(
    report: Annotated[str, typer.Argument(metavar="UID", help=tr("UID of the report."))],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let a report in quarantine be looked at again, with today's index and configuration."""
    from imaging_source.reports import retry

    with index(config, read_only=False) as database:
        if not database.write(lambda connection: retry(connection, report)):
            raise CommandError(tr("no report {uid} was put aside or refused", uid=report))
    output.console().print(tr("{uid} is looked at again when the node runs", uid=report))
