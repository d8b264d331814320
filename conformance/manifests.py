"""Judging a manifest file of any maker: each content rule is a case of the kit.

Nothing goes over the wire: the file is all that is needed. Whether what it lists can be
retrieved is what the cases of the imaging source ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conformance.bench import Bench
from conformance.case import Actor, Case
from conformance.expectation import Same
from conformance.results import Results
from conformance.run import run
from conformance.seen import Compared, Seen
from conformance.targets import NotRun, Targets
from conformance.text import Text
from manifest.model import ManifestError
from manifest.rules.judge import RULES, Judged, judge
from manifest.rules.rule import Rule

NOTHING_WRONG = Same("nothing at fault")


def manifest_cases(judged: Judged | None = None) -> list[Case]:
    """One case for each content rule, about the manifest given."""
    return [_case(rule, judged) for rule in RULES]


def judge_file(file: Path, report_dir: Path | None = None) -> Results:
    """Judge a manifest; write the report into ``report_dir`` if given.

    Raises ManifestError for a file that is no manifest, and OSError.
    """
    return run(Targets(), manifest_cases(judge(file.read_bytes())), report_dir)


def _case(rule: Rule, judged: Judged | None) -> Case:
    def stimulus(_bench: Bench) -> Iterator[Seen]:
        if judged is None:
            raise NotRun(Text("needs a manifest", "il faut un manifeste"))
        if judged.family not in rule.families:
            family = judged.family.value
            raise NotRun(Text(f"no rule of {family}", f"pas une règle de {family}"))
        try:
            faults = judged.faults(rule)
        except ManifestError as error:
            faults = [str(error)]
        yield Compared("faults", [], faults)

    title = Text(rule.en, rule.fr)
    expected = (NOTHING_WRONG,)
    return Case(rule.id, title, rule.spec, Actor.MANIFEST, frozenset(), expected, stimulus)
