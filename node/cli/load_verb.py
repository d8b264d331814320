"""The verb of who migrates another registry: load, many submissions at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr

if TYPE_CHECKING:
    from registry.bulk import Loaded, Source, Told

MIB = 1024 * 1024


def load(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            exists=True,
            help=tr("SubmitObjectsRequests: *.xml holds one, any other file one a line."),
        ),
    ],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Load submissions into the registry; what is registered already is left alone."""
    from node.config_file import load as load_config
    from node.load import files_in, loading, sources
    from registry.bulk import Loaded

    settings = load_config(config)
    if not settings.registry.enabled:
        raise UsageError(tr("this node has no registry"))
    files, total = files_in(place), Loaded()
    size = sum(file.stat().st_size for file in files)
    with (
        output.progress("MiB", size // MIB) as advance,
        loading(settings, _counted(sources(files), advance)) as reports,
    ):
        for report in reports:
            total.add(report)
            if not json:
                _tell(report)
    _show(total, json)
    if total.refused:
        raise CommandError(tr("not every submission was accepted"))


def _counted(submissions: Iterable[Source], advance: output.Advance) -> Iterator[Source]:
    """``submissions``, the bar going on by the MiB that were taken."""
    taken = 0
    for one in submissions:
        before, taken = taken, taken + len(one.text)
        advance(taken // MIB - before // MIB)
        yield one


def _tell(report: Loaded) -> None:
    """Name what was refused, or not wholly kept, as soon as it is known."""
    for one in report.told:
        word = tr("refused") if one.refused else tr("warning")
        for error in one.errors:
            typer.echo(f"{one.name}: {word}: {error.code}: {error.context}", err=True)


def _show(total: Loaded, json: bool) -> None:
    counts = {
        "registered": total.registered,
        "entries": total.entries,
        "present": total.present,
        "refused": total.refused,
    }
    if json:
        output.show_json({**counts, "told": [_data(one) for one in total.told]})
    else:
        output.console().print(output.table([tr("outcome"), tr("count")], [*counts.items()]))


def _data(one: Told) -> dict[str, object]:
    errors = [
        {"code": error.code, "context": error.context, "severity": error.severity.split(":")[-1]}
        for error in one.errors
    ]
    return {"source": one.name, "refused": one.refused, "errors": errors}
