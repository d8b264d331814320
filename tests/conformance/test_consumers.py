"""Consumers before a source that lies: a careful one passes, one that believes does not."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from conformance.consumers import consumer_cases, judge_consumer
from conformance.liar import LIES
from conformance.results import Verdict
from conformance.run import run
from conformance.targets import Targets

SCRIPT = Path(__file__).with_name("careful_consumer.py")
ASKED = "{manifest} {url} {source} {folder}"

# What shows on the wire, so that whoever cannot read an answer says so.
ON_THE_WIRE = {"K01-broken-off", "K01-boundary", "K01-redirect", "K01-none"}


@pytest.fixture(autouse=True)
def _this_house(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def verdicts(command: str, timeout: float = 30.0) -> dict[str, Verdict]:
    results = judge_consumer(command, timeout=timeout).results
    return {one.case.id: one.verdict for one in results}


def test_a_careful_consumer_passes_every_case() -> None:
    told = verdicts(f"{shlex.quote(sys.executable)} {SCRIPT} {ASKED}")
    assert len(told) == len(LIES) + 1
    assert told == dict.fromkeys(told, Verdict.PASSED)


def test_a_credulous_consumer_fails_every_lie_that_it_can_read() -> None:
    command = f"{shlex.quote(sys.executable)} {SCRIPT} {ASKED} credulous"
    cases = [case for case in consumer_cases(command) if case.id not in ON_THE_WIRE]
    results = run(Targets(timeout=30.0), cases).results
    passed = [one.case.id for one in results if one.verdict is Verdict.PASSED]
    assert passed == ["K01-honest"]


def test_neither_yes_nor_no_to_everything_passes() -> None:
    yes, no = verdicts("true"), verdicts("false")
    assert set(yes.values()) == {Verdict.FAILED}
    assert [name for name, verdict in no.items() if verdict is Verdict.FAILED] == ["K01-honest"]


def test_a_command_that_does_not_end_has_failed() -> None:
    [case, *_] = consumer_cases("sleep 60")
    [result] = run(Targets(timeout=0.2), [case]).results
    assert result.verdict is Verdict.FAILED
    assert "nothing within" in result.seen


def test_without_a_command_no_case_is_run() -> None:
    results = run(Targets(), consumer_cases()).results
    assert {one.verdict for one in results} == {Verdict.NOT_RUN}
