"""What came of a run: one result a case, with what was expected, what was seen, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from conformance.case import Case
from conformance.evidence import Exchange
from conformance.text import NO_TEXT, Text


class Verdict(Enum):
    """The three ways a case can end."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"

    def text(self) -> Text:
        """The word for people."""
        return _WORDS[self]


_WORDS = {
    Verdict.PASSED: Text("passed", "réussi"),
    Verdict.FAILED: Text("failed", "échoué"),
    Verdict.NOT_RUN: Text("not run", "non exécuté"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One case's outcome; ``reason`` says why it was not run."""

    case: Case
    verdict: Verdict
    seconds: float = 0.0
    expected: str = ""
    seen: str = ""
    reason: Text = NO_TEXT
    exchanges: Sequence[Exchange] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """All outcomes of one run, in the order of the cases."""

    run_id: str
    started: datetime
    seconds: float
    endpoints: dict[str, str]
    results: list[Result] = field(default_factory=list)

    def count(self, verdict: Verdict) -> int:
        """How many cases ended so."""
        return sum(result.verdict is verdict for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether something was run and nothing failed."""
        return self.count(Verdict.FAILED) == 0 and self.count(Verdict.PASSED) > 0
