"""The readable part of the report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from conformance.case import Actor
from conformance.results import Result, Results, Verdict
from conformance.text import Language, Text

BEGINNING = 1500
"""Characters of a message of a passed case that stand in the page: addressing and the first
objects. Of a failed one everything does; all of it is in the evidence, which would make a page
of hundreds of cases slow to open."""

LABELS = {
    "title": Text("Conformance report", "Rapport de conformité"),
    "intro": Text(
        "What was sent to the system under test, what had to come back, what did. "
        "All patients and documents were made up for this run.",
        "Ce qui a été envoyé au système testé, ce qui devait revenir, ce qui est revenu. "
        "Tous les patients et documents ont été inventés pour cette exécution.",
    ),
    "run": Text("Run", "Exécution"),
    "started": Text("Started", "Début"),
    "duration": Text("Duration", "Durée"),
    "endpoints": Text("Endpoints", "Points d'accès"),
    "show": Text("Show", "Afficher"),
    "all": Text("all", "tout"),
    "spec": Text("Specification", "Spécification"),
    "expected": Text("Expected", "Attendu"),
    "seen": Text("Seen", "Vu"),
    "reason": Text("Why not", "Pourquoi"),
    "exchanges": Text("Exchanges", "Échanges"),
    "request": Text("Request", "Requête"),
    "response": Text("Response", "Réponse"),
    "bytes": Text("bytes", "octets"),
    "other": Text("Français", "English"),
    "actor": Text("Actor", "Acteur"),
    "cases": Text("cases", "cas"),
    "more": Text("the rest is in the evidence", "la suite est dans les preuves"),
    "evidence": Text("Evidence", "Preuves"),
    "nothing": Text("No answer", "Pas de réponse"),
    "steps": Text("In order", "Dans l'ordre"),
}

_environment = Environment(
    loader=PackageLoader("conformance.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_page(results: Results, language: Language, pages: Mapping[Language, str]) -> str:
    """The page in ``language``; ``pages`` names the files, for the link to the other one."""
    other: Language = "en" if language == "fr" else "fr"
    return _environment.get_template("report.html").render(
        language=language,
        label={name: text.to(language) for name, text in LABELS.items()},
        results=results,
        counts=[
            (verdict.name.lower(), verdict.text().to(language), results.count(verdict))
            for verdict in Verdict
        ],
        groups=list(_groups(results)),
        say=lambda text: text.to(language),
        other=(other, pages[other]),
        share=_shares(results.results),
        shown=_shown,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """The results of one actor, which ``name`` is the anchor of."""

    name: str
    title: Text
    results: list[Result]
    counts: dict[str, int]
    share: dict[str, float]


def _groups(results: Results) -> Iterator[Group]:
    """The results by actor, in the actors' order, without empty groups."""
    for actor in Actor:
        members = [result for result in results.results if result.case.actor is actor]
        if members:
            name = actor.name.lower().replace("_", "-")
            yield Group(name, actor.value, members, _counts(members), _shares(members))


def _counts(results: Sequence[Result]) -> dict[str, int]:
    return {
        verdict.name.lower(): sum(result.verdict is verdict for result in results)
        for verdict in Verdict
    }


def _shares(results: Sequence[Result]) -> dict[str, float]:
    """Each verdict's share in per cent."""
    total = len(results) or 1
    return {name: 100 * count / total for name, count in _counts(results).items()}


def _shown(text: str, result: Result) -> tuple[str, bool]:
    """What of a message the page shows, and whether that is all."""
    limit = BEGINNING if result.verdict is Verdict.PASSED else len(text)
    return text[:limit], len(text) <= limit
