"""What a rule about manifests is, and how rules are collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

XDS_I_CONTENT = "RAD TF-3 4.68.4.1.2"
MADO_CONTENT = "IHE RAD MADO"

Check = Callable[[Any], Iterator[str]]
"""Yields what is wrong with a data set, or with a bundle that was read from JSON."""


class Family(StrEnum):
    """Which rules a manifest is judged by."""

    XDS_I = "xds-i"
    MADO_KOS = "mado-kos"
    MADO_FHIR = "mado-fhir"


@dataclass(frozen=True, slots=True)
class Rule:
    """One demand: what is right, in English and French, and the families it is made of."""

    id: str
    en: str
    fr: str
    spec: str
    families: tuple[Family, ...]
    check: Check


class Rules(list[Rule]):
    """The rules of one module; ``families`` are those that all of them are made of."""

    def __init__(self, *families: Family) -> None:
        super().__init__()
        self._families = families

    def rule(
        self, rule_id: str, en: str, fr: str, *, spec: str, only: Family | None = None
    ) -> Callable[[Check], Check]:
        """Add the decorated check."""

        def collect(check: Check) -> Check:
            families = self._families if only is None else (only,)
            self.append(Rule(rule_id, en, fr, spec, families, check))
            return check

        return collect
