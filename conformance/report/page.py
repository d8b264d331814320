"""The readable part of the report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from conformance.case import Actor
from conformance.results import Result, Results, Verdict
from conformance.text import Language, Text

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
        groups=_groups(results, language),
        say=lambda text: text.to(language),
        other=(other, pages[other]),
        share=_share(results),
    )


def _groups(results: Results, language: Language) -> list[tuple[str, list[Result]]]:
    """The results by actor, in the actors' order, without empty groups."""
    groups = []
    for actor in Actor:
        members = [result for result in results.results if result.case.actor is actor]
        if members:
            groups.append((actor.value.to(language), members))
    return groups


def _share(results: Results) -> dict[str, float]:
    """Each verdict's share in per cent."""
    total = len(results.results) or 1
    return {verdict.name.lower(): 100 * results.count(verdict) / total for verdict in Verdict}
