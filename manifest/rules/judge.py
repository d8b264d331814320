"""Judging a manifest: which family it is of, and what each rule finds in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from manifest.concepts import Known
from manifest.fhir_reading import looks_like_fhir, parse_bundle
from manifest.library import concept_of
from manifest.reading import open_key_object, readable
from manifest.rules import bundle, key_object, mado
from manifest.rules.content import libraries
from manifest.rules.rule import Family, Rule

RULES = (*key_object.RULES, *mado.RULES, *bundle.RULES)
"""Every rule, by id within its family."""

# What one rule tells of one manifest: who has made a thousand such mistakes needs no more.
_MOST_FAULTS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """A manifest that rules can look at; ``content`` is a data set or a bundle."""

    family: Family
    content: Any = field(repr=False)

    def faults(self, rule: Rule) -> list[str]:
        """What is wrong by ``rule``, the first of it. Raises ManifestError if it cannot be said."""
        with readable():
            return list(islice(rule.check(self.content), _MOST_FAULTS))

    def all_faults(self) -> Iterator[tuple[Rule, list[str]]]:
        """What is wrong by each rule of its family, where anything is."""
        for rule in RULES:
            if self.family in rule.families and (faults := self.faults(rule)):
                yield rule, faults


def judge(data: bytes) -> Judged:
    """The manifest that ``data`` is. Raises ManifestError for bytes that are none."""
    if looks_like_fhir(data):
        return Judged(Family.MADO_FHIR, parse_bundle(data))
    with readable():
        dataset = open_key_object(data)
        described = concept_of(dataset) is Known.TITLE or bool(libraries(dataset))
    return Judged(Family.MADO_KOS if described else Family.XDS_I, dataset)
