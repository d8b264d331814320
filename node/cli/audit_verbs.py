"""``kosmos audit``: find records, prove that a trail is whole, let old records go.

The first two only look, beside a node that serves. Whatever is done here is itself a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError
from node.cli.options import DEFAULT_CONFIG, Config, Json, moment
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from node.config import Settings
    from node.wiring.audit import Auditor
    from security.audit.heads import Head
    from security.audit.search import Found
    from security.audit.verification import Verified

app = typer.Typer(help=tr("The audit trail: find records, prove it."), no_args_is_help=True)


@app.command(help=tr("Find audit records, the newest first."))
def find(
    patient: Annotated[str, typer.Option(metavar="CX", help=tr("About this patient."))] = "",
    user: Annotated[str, typer.Option(help=tr("With this person or node."))] = "",
    transaction: Annotated[
        str, typer.Option(metavar="ITI-n", help=tr("Of this transaction, or event code."))
    ] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help=tr("Since (ISO 8601)."))] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help=tr("Before (ISO 8601)."))] = "",
    limit: Annotated[int, typer.Option(min=1, help=tr("Records at most."))] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print records; with --json also their messages."""
    from node.wiring.audit import trail_folder
    from security.audit.search import UnreadableTrail, Wanted
    from security.audit.search import find as find_records
    from security.audit.verification import trails

    wanted = Wanted(
        patient or None, user or None, transaction or None, moment(since), moment(until)
    )
    with _looking(config) as settings:
        try:
            found = find_records(trails(trail_folder(settings)), wanted, limit)
        except UnreadableTrail as error:
            raise CommandError(f"{error}: {tr('the file is no trail any more')}") from error
    if json:
        output.show_json([_told(one) for one in found])
        return
    headings = [tr("time"), tr("transaction"), tr("action"), tr("outcome"), tr("patients")]
    rows = [
        (
            one.record.when.isoformat(timespec="milliseconds"),
            one.record.type,
            one.record.action,
            one.record.outcome,
            "\n".join(one.record.patients),
            "\n".join(one.record.users),
            f"{one.trail} {one.number}",
        )
        for one in found
    ]
    output.console().print(output.table([*headings, tr("users"), tr("record")], rows))


@app.command(help=tr("Prove that no record was altered, removed or moved."))
def verify(
    key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help=tr("Public key kept elsewhere.")),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help=tr("Log kept elsewhere, with the lines AUDIT-HEAD.")
        ),
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help=tr("Prove also that a search finds each record."))
    ] = False,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Prove every trail of the node; exit code 1 when one is not what was written."""
    from node.wiring.audit import trail_folder
    from security.audit.chain import Verifier
    from security.audit.verification import missing, trails
    from security.audit.verification import verify as verify_trail

    kept = _kept(heads)
    with _looking(config) as settings:
        name, folder = settings.node.name, trail_folder(settings)
        verifier = Verifier(key) if key else Verifier.of(folder)
        files = {f"{name}/{file.stem}": file for file in trails(folder)}
        proved = [
            verify_trail(file, name, verifier, kept=kept.get(source, ()), index=index)
            for source, file in files.items()
        ]
    # Of this node's trails; a log may have those of others, too.
    gone = (one for one in kept.keys() - files.keys() if one.rpartition("/")[0] == name)
    proved += [missing(one, verifier, kept[one]) for one in sorted(gone)]
    if json:
        output.show_json([_proof(one) for one in proved])
    else:
        rows = [(one.source, one.records, _verdict(one)) for one in proved]
        output.console().print(output.table([tr("trail"), tr("records"), tr("result")], rows))
    if any(one.fault for one in proved):
        raise CommandError(tr("the audit trail is not what was written"))


@app.command(help=tr("Let old records go, of a node that stands still; what stays is proved."))
def prune(
    before: Annotated[
        str, typer.Option(metavar="TIME", help=tr("Older than this; else than audit.keep_days."))
    ] = "",
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print how many records have left each trail; exit code 1 where one was in use."""
    from node.pruning import PruneRefused, limit
    from node.pruning import prune as prune_trails

    with _acting(config) as (settings, auditor):
        try:
            until = limit(settings, moment(before))
            done = list(prune_trails(settings, auditor, operator_name(), until))
        except PruneRefused as refused:
            raise CommandError(str(refused)) from refused
    if json:
        output.show_json([asdict(one) for one in done])
    else:
        in_use = tr("in use")
        rows = [(one.source, in_use if one.records is None else one.records) for one in done]
        output.console().print(output.table([tr("trail"), tr("records that left")], rows))
    if any(one.records is None for one in done):
        raise CommandError(tr("a process writes a trail: stop the node first"))


def _kept(log: Path | None) -> Mapping[str, Sequence[Head]]:
    """The heads in a log that was kept elsewhere, by trail."""
    from security.audit.heads import heads_in

    if log is None:
        return {}
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return heads_in(lines)
    except (OSError, ValueError) as error:
        raise CommandError(f"{log}: {error}") from error


@contextmanager
def _looking(config: Path) -> Iterator[Settings]:
    """The settings of a node whose trail is looked at, which is recorded first."""
    with _acting(config) as (settings, auditor):
        auditor.looked(operator_name())
    yield settings


@contextmanager
def _acting(config: Path) -> Iterator[tuple[Settings, Auditor]]:
    """The settings of a node, and what records what an operator does to its trails."""
    from node.config_file import load
    from node.wiring.audit import acting

    settings = load(config)
    if not settings.audit.enabled:
        raise CommandError(tr("audit.enabled is false: there is no trail"))
    with acting(settings) as auditor:
        assert auditor is not None  # enabled
        yield settings, auditor


def _told(found: Found) -> dict[str, object]:
    record = found.record
    return {
        "trail": found.trail,
        "number": found.number,
        "time": record.when.isoformat(timespec="milliseconds"),
        "transaction": record.type,
        "action": record.action,
        "outcome": record.outcome,
        "patients": record.patients,
        "users": record.users,
        "message": record.message.decode("utf-8", "replace"),
    }


def _proof(verified: Verified) -> dict[str, object]:
    fault = verified.fault.value if verified.fault else None
    return {
        "trail": verified.source,
        "records": verified.records,
        "left": verified.left,
        "fault": fault,
        "record": verified.number if fault else None,
    }


def _verdict(verified: Verified) -> str:
    from security.audit.verification import Fault

    number = verified.number
    match verified.fault:
        case None:
            return tr("whole")
        case Fault.ALTERED:
            return tr("record {number} was altered", number=number)
        case Fault.REMOVED:
            return tr("record {number} was removed", number=number)
        case Fault.REORDERED:
            return tr("record {number} was moved", number=number)
        case Fault.FORKED:
            return tr("another history up to record {number}", number=number)
        case Fault.CUT:
            return tr("the end is missing, up to record {number}", number=number)
        case Fault.UNSIGNED:
            return tr("the head at record {number} was not signed here", number=number)
        case Fault.UNFINDABLE:
            return tr("a search misses record {number}", number=number)
        case Fault.UNREADABLE:
            return tr("the file is no trail any more")
