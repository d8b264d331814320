"""Verbs of the operator who mends what a node holds: ``kosmos admin``, a group for each matter.

They open the databases themselves: an embedded one needs the node stopped, PostgreSQL does not.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from socket import gethostname
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json, patient_id
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from pathlib import Path

    from node.config import Settings
    from node.wiring.patients import PatientAdministration

admin = typer.Typer(help=tr("Mend what a node holds."), no_args_is_help=True)

# --- Patients --------------------------------------------------------------------------------

patients = typer.Typer(help=tr("The patients of the registry."), no_args_is_help=True)
admin.add_typer(patients, name="patients")

Identifier = Annotated[str, typer.Argument(metavar="ID", help=tr("Patient identifier."))]


@patients.command("list", help=tr("Print the identifiers known, a page at a time."))
def list_patients(
    after: Annotated[
        str, typer.Option(metavar="ID", help=tr("Begin behind this identifier."))
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help=tr("Identifiers on a page."))] = 100,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print identifiers with who stands for each; the last one leads to the next page."""
    with _opened(config) as (settings, registry):
        start = str(patient_id(after, settings)) if after else ""
        found = registry.administration.page(start, limit)
    if json:
        output.show_json([asdict(one) for one in found])
        return
    rows = [(one.id, "" if one.survivor == one.id else one.survivor) for one in found]
    output.console().print(output.table([tr("patient"), tr("merged into")], rows))


@patients.command(help=tr("Print a patient's merges and how many objects it has."))
def show(identifier: Identifier, config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print the whole merge chain of a patient."""
    with _opened(config) as (settings, registry):
        record = registry.administration.show(patient_id(identifier, settings))
    if record is None:
        raise CommandError(tr("no patient has the identifier {id}", id=identifier))
    if json:
        output.show_json(asdict(record))
        return
    screen = output.console()
    headings = [tr("patient"), tr("documents"), "SubmissionSets", "Folders"]
    chain = [(o.id, o.documents, o.submission_sets, o.folders) for o in record.chain]
    screen.print(output.table(headings, chain, record.survivor))
    merges = [(o.merged_at, o.subsumed, o.surviving, o.sender) for o in record.merges]
    unmerged = [(o.unmerged_at, o.subsumed, o.surviving, o.operator) for o in record.unmerged]
    relinked = [(o.changed_at, o.previous, o.current, o.sender) for o in record.relinked]
    for title, rows in (
        (tr("merged"), merges),
        (tr("merge undone"), unmerged),
        (tr("local identifier moved"), relinked),
    ):
        if rows:
            screen.print(output.table([tr("time"), tr("from"), tr("to"), tr("by")], rows, title))


@patients.command(help=tr("Let one identifier stand for another from now on, as A40 does."))
def merge(
    subsumed: Annotated[str, typer.Argument(metavar="SUBSUMED", help=tr("Identifier that goes."))],
    surviving: Annotated[
        str, typer.Argument(metavar="SURVIVING", help=tr("Identifier that stays."))
    ],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Merge two patients, under the refusals of the identity feed."""
    from hl7.ack import ACCEPT
    from hl7.adt import MERGE, IdentityFeed
    from node.wiring.audit import acting
    from node.wiring.hl7_records import Hl7Records

    number = uuid.uuid4().hex
    with _opened(config) as (settings, registry), acting(settings) as auditor:
        stays, goes = patient_id(surviving, settings), patient_id(subsumed, settings)
        operator = f"{operator_name()}|kosmos admin"
        message = IdentityFeed(MERGE, (stays,), goes, operator, number, number)
        apply = registry.patients.apply
        if auditor is None:
            outcome = apply(message)
        else:
            outcome = Hl7Records(auditor).feeding(apply)(message, gethostname())
    if outcome.ack_code != ACCEPT:
        raise CommandError(outcome.text)
    if json:
        output.show_json({"subsumed": goes, "surviving": stays})
    else:
        text = tr("{subsumed} is {surviving} from now on", subsumed=goes, surviving=stays)
        output.console().print(text)


@patients.command("unmerge", help=tr("Undo the merge that subsumed an identifier."))
def undo_merge(
    subsumed: Annotated[
        str, typer.Argument(metavar="SUBSUMED", help=tr("Identifier to bring back."))
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help=tr("Why; it is kept."))],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Undo a merge: what was registered under the identifier is its own again."""
    from node.wiring.audit import acting
    from registry.merges import NotMerged

    if not reason.strip():
        raise UsageError(tr("--reason must say why"))
    with _opened(config) as (settings, registry), acting(settings) as auditor:
        identifier = patient_id(subsumed, settings)
        unmerge = registry.administration.unmerge
        undo = auditor.unmerging(unmerge) if auditor else unmerge
        try:
            undone = undo(identifier, operator_name(), reason)
        except NotMerged:
            raise CommandError(tr("{id} was not merged into another", id=subsumed)) from None
    if json:
        output.show_json({**asdict(undone.merge), "joining": undone.joining})
        return
    screen = output.console()
    screen.print(tr("{id} stands for itself again", id=undone.merge.subsumed))
    if undone.joining:
        screen.print(tr("These associations still join the two patients:"))
        screen.print("\n".join(undone.joining))


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Settings, PatientAdministration]]:
    from node.config_file import load
    from node.wiring.patients import open_patients

    settings = load(config)
    if not settings.registry.enabled:
        raise CommandError(tr("this node has no registry"))
    with open_patients(settings) as registry:
        yield settings, registry
