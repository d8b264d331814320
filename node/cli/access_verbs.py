"""``kosmos access``: what patients have chosen, who treats them, and emergencies to look at.

Choices lie in a database of their own, which these verbs write while the node serves and reads it.
What an operator changes or looks at is in the audit trail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError
from node.cli.options import DEFAULT_CONFIG, Config, Json, moment, patient_id
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from node.config import Settings
    from security.access.emergencies import Override
    from security.choices.store import ChoiceStore, Review

app = typer.Typer(help=tr("Who may see what: choices, care, emergencies."), no_args_is_help=True)

Patient = Annotated[str, typer.Argument(metavar="PATIENT", help=tr("Identifier of the patient."))]
Document = Annotated[
    str, typer.Argument(metavar="DOCUMENT", help=tr("uniqueId of the document, or UID of a study."))
]
Person = Annotated[
    str, typer.Argument(metavar="WHO", help=tr("Identifier of the person or organisation."))
]
Groups = Annotated[
    list[str], typer.Option("--from", metavar="GROUP", help=tr("Hidden from this group (again)."))
]
Until = Annotated[str, typer.Option(metavar="TIME", help=tr("Until then (ISO 8601)."))]
Reason = Annotated[str, typer.Option(help=tr("Why, for those who ask later."))]


@app.command("list", help=tr("Print the choices of a patient, or of all."))
def list_all(
    patient: Annotated[str, typer.Argument(metavar="[PATIENT]")] = "",
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print the choices of a patient, or of all."""
    with _opened(config) as (settings, store):
        found = store.of(_normalised(patient, settings) if patient else None)
    if json:
        output.show_json([asdict(one) for one in found])
        return
    headings = [tr("patient"), tr("choice"), tr("about"), tr("hidden from"), tr("until")]
    rows = [(one.patient, one.kind, one.subject, one.audience, one.until) for one in found]
    output.console().print(output.table(headings, rows))


@app.command(help=tr("Keep that a patient is opposed to sharing."))
def oppose(
    patient: Patient, reason: Reason = "", config: Config = DEFAULT_CONFIG, json: Json = False
) -> None:
    """Keep that a patient is opposed to sharing."""
    _say(config, json, patient, "opposed", reason=reason)


@app.command(help=tr("Take an opposition back."))
def agree(patient: Patient, config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Take an opposition back."""
    _take_back(config, json, patient, "opposed")


@app.command(help=tr("Hide a document, and what replaces it, from some."))
def mask(
    patient: Patient,
    document: Document,
    groups: Groups,
    reason: Reason = "",
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Hide a document, and what replaces it, from some."""
    for group in groups:
        _say(config, json, patient, "mask", document, group, reason=reason)


@app.command(help=tr("Show a document again."))
def unmask(
    patient: Patient,
    document: Document,
    groups: Groups,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Show a document again."""
    for group in groups:
        _take_back(config, json, patient, "mask", document, group)


@app.command(help=tr("Keep that somebody treats a patient."))
def treat(
    patient: Patient,
    who: Person,
    until: Until = "",
    reason: Reason = "",
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Keep that somebody treats a patient."""
    _say(config, json, patient, "treating", who, until=_time(until), reason=reason)


@app.command("end-treatment", help=tr("Keep that somebody treats a patient no more."))
def end_treatment(
    patient: Patient, who: Person, config: Config = DEFAULT_CONFIG, json: Json = False
) -> None:
    """Keep that somebody treats a patient no more."""
    _take_back(config, json, patient, "treating", who)


@app.command(help=tr("Print the emergencies, those not reviewed first."))
def emergencies(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print the emergencies, those not reviewed first."""
    with _opened(config) as (settings, store):
        reviews = store.reviews()
        found = [(one, reviews.get((one.issuer, one.id))) for one in _emergencies(settings)]
    found.sort(key=lambda pair: pair[1] is not None)
    if json:
        output.show_json([_told(override, review) for override, review in found])
        return
    headings = [tr("id"), tr("user"), tr("patients"), tr("reason"), tr("started"), tr("reviewed")]
    rows = [
        (one.id, one.user, one.patients, one.reason, one.started, review.operator if review else "")
        for one, review in found
    ]
    output.console().print(output.table(headings, rows))


@app.command(help=tr("Keep what you think of an emergency."))
def review(
    identifier: Annotated[str, typer.Argument(metavar="ID", help=tr("Of the emergency."))],
    remark: Annotated[str, typer.Option(help=tr("What you think of it."))],
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Keep what you think of an emergency."""
    from security.choices.store import Review

    with _opened(config, writing=True) as (settings, store):
        named = [one for one in _emergencies(settings) if one.id == identifier]
        if not named:
            raise CommandError(tr("no emergency {id}", id=identifier))
        made = Review(named[0].issuer, identifier, operator_name(), _now(), remark)
        if not store.review(made):
            raise CommandError(tr("{id} was reviewed before", id=identifier))
    _done({"reviewed": identifier}, json)


def _say(
    config: Path,
    json: bool,
    patient: str,
    kind: str,
    subject: str = "",
    audience: str = "",
    *,
    until: str = "",
    reason: str = "",
) -> None:
    from security.choices.store import Choice

    with _opened(config, writing=True) as (settings, store):
        named = _normalised(patient, settings)
        operator = operator_name()
        _record(settings, named, f"{kind} {subject} {audience}".strip())
        store.say(Choice(named, kind, subject, audience, until, operator, _now(), reason))
    _done({"patient": named, "choice": kind, "about": subject, "audience": audience}, json)


def _take_back(
    config: Path, json: bool, patient: str, kind: str, subject: str = "", audience: str = ""
) -> None:
    with _opened(config, writing=True) as (settings, store):
        named = _normalised(patient, settings)
        _record(settings, named, f"no longer {kind} {subject} {audience}".strip())
        if not store.take_back(named, kind, subject, audience):
            raise CommandError(tr("there is no such choice"))
    _done({"patient": named, "taken_back": kind, "about": subject, "audience": audience}, json)


@contextmanager
def _opened(config: Path, *, writing: bool = False) -> Iterator[tuple[Settings, ChoiceStore]]:
    from node.config_file import load
    from node.migrate import migrate_access, open_database
    from security.choices.store import ChoiceStore

    settings = load(config)
    if not settings.judges_assertions:
        raise CommandError(tr("this node asks nobody who he is: assertions.enabled is false"))
    migrate_access(settings)
    with open_database(settings.choices, "choices", read_only=not writing) as database:
        yield settings, ChoiceStore(database)


def _record(settings: Settings, patient: str, change: str) -> None:
    """What is about to be changed, in the trail of the operators, where there is one."""
    from node.wiring.audit import acting

    with acting(settings) as auditor:
        if auditor is not None:
            auditor.access_changed(operator_name(), patient, change)


def _emergencies(settings: Settings) -> list[Override]:
    from node.migrate import open_database
    from security.access.emergencies import overrides

    with open_database(settings.access, "access", read_only=True) as database:
        return overrides(database)


def _normalised(patient: str, settings: Settings) -> str:
    return str(patient_id(patient, settings).normalised())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _time(text: str) -> str:
    """A time in UTC, as choices are compared."""
    given = moment(text)
    return given.astimezone(UTC).isoformat() if given else ""


def _told(override: Override, review: Review | None) -> dict[str, object]:
    return {**asdict(override), "review": asdict(review) if review else None}


def _done(data: dict[str, object], json: bool) -> None:
    if json:
        output.show_json(data)
    else:
        output.console().print(tr("done"))
