"""Consumers before a source that lies: a careful one passes, one that believes does not."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.case import Case
from conformance.consumers import consumer_cases, judge_consumer
from conformance.dicom_liar import DICOM_LIES
from conformance.liar import LIES
from conformance.results import Verdict
from conformance.run import run
from conformance.targets import Targets
from conformance.web_liar import URI_LIES, WEB_LIES

DICOM_SCRIPT = Path(__file__).with_name("dicom_consumer.py")
WEB_SCRIPT = Path(__file__).with_name("web_consumer.py")
SCRIPT = Path(__file__).with_name("careful_consumer.py")
ASKED = "{manifest} {url} {source} {folder}"

# What shows on the wire, so that whoever cannot read an answer says so.
PASSED = Verdict.PASSED
# No answer of HTTP that is whole and good: whoever reads one at all says so.
SEEN_BY_ANYBODY = {"missing", "broken-off", "redirect", "endless", "slow"}
# Reads a study to its end, whenever that may come.
WAITING = f"{sys.executable} {WEB_SCRIPT} {{manifest}} {{dicomweb}} {{folder}} patient"
ON_THE_WIRE = {"K01-broken-off", "K01-boundary", "K01-redirect", "K01-none"}


@pytest.fixture(autouse=True)
def _this_house(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def verdicts(command: str, timeout: float = 30.0) -> dict[str, Verdict]:
    results = judge_consumer(command, timeout=timeout).results
    return {one.case.id: one.verdict for one in results}


def cases_of(group: str, command: str) -> list[Case]:
    return [case for case in consumer_cases(command) if case.id.startswith(group)]


def web_verdicts(*more: str) -> dict[str, Verdict]:
    words = [sys.executable, str(WEB_SCRIPT), "{manifest}", "{dicomweb}", "{folder}", *more]
    results = run(Targets(timeout=20.0), cases_of("K02", " ".join(words))).results
    return {one.case.id.removeprefix("K02-"): one.verdict for one in results}


def dicom_verdicts(way: str, names: Sequence[str], *more: str) -> dict[str, Verdict]:
    ends = ["{manifest}", "{dicom}", "{destination}", "{folder}"]
    words = [sys.executable, str(DICOM_SCRIPT), *ends, way, *more]
    cases = [
        one for one in cases_of("K04", " ".join(words)) if one.id.removeprefix("K04-") in names
    ]
    results = run(Targets(timeout=30.0), cases).results
    return {one.case.id.removeprefix("K04-"): one.verdict for one in results}


@pytest.mark.parametrize(
    ("way", "names"),
    [("get", ["honest", *DICOM_LIES]), ("move", ["honest", "twice", "broken-off", "silent"])],
)
def test_a_careful_consumer_over_associations_passes_every_case(way: str, names: list[str]) -> None:
    assert dicom_verdicts(way, names) == dict.fromkeys(names, Verdict.PASSED)


def test_a_credulous_consumer_over_associations_fails_whatever_ends_as_a_success() -> None:
    told = dicom_verdicts("get", ["honest", *DICOM_LIES], "credulous")
    passed = {name for name, verdict in told.items() if verdict is PASSED}
    assert passed == {"honest", "broken-off", "silent"}


# The source is that of WADO-RS, whose lies are all tried below.
URI_CASES = ["honest", "missing", "exchanged", "page", "broken-off"]


def uri_verdicts(*more: str) -> dict[str, Verdict]:
    words = [sys.executable, str(WEB_SCRIPT), "{manifest}", "{wado}", "{folder}", *more]
    known = {one.id.removeprefix("K03-"): one for one in cases_of("K03", " ".join(words))}
    assert known.keys() == {"honest", *URI_LIES}
    results = run(Targets(timeout=20.0), [known[name] for name in URI_CASES]).results
    return {one.case.id.removeprefix("K03-"): one.verdict for one in results}


def test_a_careful_consumer_over_wado_uri_passes_every_case() -> None:
    assert uri_verdicts() == dict.fromkeys(URI_CASES, Verdict.PASSED)


def test_a_credulous_consumer_over_wado_uri_fails_whatever_comes_as_a_success() -> None:
    passed = {name for name, verdict in uri_verdicts("credulous").items() if verdict is PASSED}
    assert passed == {"honest", "missing", "broken-off"}


def test_a_careful_consumer_over_wado_rs_passes_every_case() -> None:
    assert web_verdicts() == dict.fromkeys(["honest", *WEB_LIES], Verdict.PASSED)


def test_a_credulous_consumer_over_wado_rs_fails_whatever_comes_as_a_success() -> None:
    passed = {name for name, verdict in web_verdicts("credulous").items() if verdict is PASSED}
    assert passed == {"honest", *SEEN_BY_ANYBODY}


def test_a_consumer_over_wado_rs_that_waits_for_ever_has_failed() -> None:
    [slow] = [one for one in cases_of("K02", WAITING) if one.id == "K02-slow"]
    [result] = run(Targets(timeout=1.0), [slow]).results
    assert result.verdict is Verdict.FAILED
    assert "nothing within" in result.seen


def test_a_careful_consumer_passes_every_case() -> None:
    told = verdicts(f"{shlex.quote(sys.executable)} {SCRIPT} {ASKED}")
    by_soap = {name: one for name, one in told.items() if name.startswith("K01")}
    assert len(by_soap) == len(LIES) + 1
    assert by_soap == dict.fromkeys(by_soap, Verdict.PASSED)
    # It takes no {dicomweb}.
    assert {one for name, one in told.items() if name not in by_soap} == {Verdict.NOT_RUN}


def test_a_credulous_consumer_fails_every_lie_that_it_can_read() -> None:
    command = f"{shlex.quote(sys.executable)} {SCRIPT} {ASKED} credulous"
    cases = [case for case in cases_of("K01", command) if case.id not in ON_THE_WIRE]
    results = run(Targets(timeout=30.0), cases).results
    passed = [one.case.id for one in results if one.verdict is Verdict.PASSED]
    assert passed == ["K01-honest"]


def test_neither_yes_nor_no_to_everything_passes() -> None:
    yes, no = (
        {name: one for name, one in verdicts(word).items() if name.startswith("K01")}
        for word in ("true", "false")
    )
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
