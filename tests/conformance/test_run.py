"""The frame: choosing cases, running them, judging, and the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lxml import etree, html

from conformance.bench import Bench, Session
from conformance.case import NEEDS, Actor, Case, Cases, select
from conformance.consumers import consumer_cases
from conformance.evidence import KEPT, Exchange, Head, Side
from conformance.expectation import (
    Acknowledged,
    Exactly,
    Expectation,
    Mismatch,
    Refusal,
    Same,
    Success,
    failure,
    fault,
    within,
)
from conformance.french import PHRASES
from conformance.manifests import manifest_cases
from conformance.report import write_report
from conformance.report.page import BEGINNING
from conformance.results import Results, Verdict
from conformance.run import all_cases, run, run_case
from conformance.seen import Compared, Seen
from conformance.targets import PATIENTS_NEEDED, NotRun, Study, Targets
from conformance.text import Text


def compared(*pairs: tuple[int, int], bench: Bench) -> Iterator[Seen]:
    for expected, seen in pairs:
        bench.record.add(exchange())
        yield Compared("number", expected, seen)


def exchange() -> Exchange:
    side = Side("POST /", {"Content-Type": "text/plain"}, "<Größe> & \x00", 12)
    return Exchange("KIT-1 Test", "http://sut/", datetime.now(UTC), 0.01, side, None, "no answer")


def make_case(
    stimulus: Any,
    case_id: str = "T1",
    expected: tuple[Expectation, ...] = (Same("number"),),
    needs: frozenset[str] = frozenset(),
) -> Case:
    title = Text("A <test>", "Un <essai>")
    return Case(case_id, title, "ITI TF-9", Actor.REPOSITORY, needs, expected, stimulus)


def case_of(*pairs: tuple[int, int], **more: Any) -> Case:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        return compared(*pairs, bench=bench)

    return make_case(stimulus, **more)


@pytest.fixture
def session() -> Session:
    return Session(Targets(), "RUN")


def test_ids_are_unique_and_every_case_speaks_both_languages() -> None:
    cases = [*all_cases(), *manifest_cases()]
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert case.title.en, case.id
        assert case.title.fr, case.id
        assert case.spec, case.id
        assert case.expected, case.id
        assert case.needs <= NEEDS.keys(), case.id
        assert re.fullmatch(r"[A-Za-z0-9.-]+", case.id), case.id  # also a file's name


def phrases(expectation: Expectation) -> Iterator[str]:
    for option in getattr(expectation, "options", ()):
        yield from phrases(option)
    if isinstance(expectation, Same | Exactly):
        yield expectation.what
    if isinstance(expectation, Refusal) and expectation.about:
        yield expectation.about


def test_every_phrase_of_an_expectation_is_told_in_french() -> None:
    cases = [*all_cases(), *manifest_cases(), *consumer_cases()]
    used = {phrase for case in cases for one in case.expected for phrase in phrases(one)}
    assert used <= PHRASES.keys()
    words = {
        "and",
        "exactly",
        "in MTOM",
        "naming",
        "or",
        "with",
        "with warning",
        "within",
        "SOAP fault",
        "no answer",
    }
    assert used == PHRASES.keys() - words


def test_expectations_are_told_in_both_languages() -> None:
    refused = fault("Sender", subcode="ActionNotSupported")
    either = within(1.0, Success(warning="W", mtom=True), failure("E", names="a b"), refused)
    assert either.describe() == (
        "Success with warning W in MTOM or Failure E, naming a or b"
        " or SOAP fault Sender (ActionNotSupported), within 1 s"
    )
    assert either.describe("fr") == (
        "Success avec l'avertissement W en MTOM ou Failure E, en nommant a ou b"
        " ou faute SOAP Sender (ActionNotSupported), en moins de 1 s"
    )
    assert Acknowledged("AR", error="200").describe("fr") == "ACK AR avec ERR 200"
    assert Exactly("nothing").describe("fr") == "Success, exactement rien"


WANTED = [
    *(f"G{n:02}" for n in range(1, 32)),
    *(f"Q{n:02}" for n in range(1, 21)),
    *(f"R{n:02}" for n in range(1, 26)),
    *(f"P{n:02}" for n in range(1, 9)),
    "P12",
    *(f"M{n:02}" for n in range(1, 10)),
    *(f"D{n:02}" for n in range(1, 5)),
    *(f"W{n:02}" for n in range(1, 6)),
    "I01",
]


@pytest.mark.parametrize("case_id", WANTED)
def test_every_case_of_the_plan_is_there(case_id: str) -> None:
    assert select(all_cases(), [case_id])


def test_an_id_selects_itself_and_its_variants() -> None:
    cases = [case_of(case_id=name) for name in ("G1", "G1-a", "G10", "Q1")]
    assert [case.id for case in select(cases, ["g1"])] == ["G1", "G1-a"]
    assert [case.id for case in select(cases, ["Q1", "G1-a"])] == ["G1-a", "Q1"]
    assert [case.id for case in select(cases, ["g"])] == ["G1", "G1-a", "G10"]
    assert select(cases, []) == cases
    with pytest.raises(KeyError):
        select(cases, ["Z9"])


def test_a_case_passes_when_all_is_seen_as_expected(session: Session) -> None:
    result = run_case(case_of((1, 1)), session)
    assert result.verdict is Verdict.PASSED
    assert result.seen == "number: 1"
    assert len(result.exchanges) == 1


def test_a_case_fails_at_the_first_difference(session: Session) -> None:
    case = case_of((1, 1), (1, 2), (1, 3), expected=(Same("number"),) * 3)
    result = run_case(case, session)
    assert result.verdict is Verdict.FAILED
    assert result.expected == "number 1"
    assert result.seen == "number: 2"
    assert len(result.exchanges) == 2


def test_a_case_that_ends_early_fails(session: Session) -> None:
    result = run_case(case_of((1, 1), expected=(Same("number"), Same("again"))), session)
    assert result.verdict is Verdict.FAILED
    assert result.expected == "again"


def test_a_case_that_sees_more_than_it_announced_fails(session: Session) -> None:
    assert run_case(case_of((1, 1), (1, 1)), session).verdict is Verdict.FAILED


def test_a_need_that_is_not_met_is_told_in_both_languages(session: Session) -> None:
    result = run_case(case_of((1, 1), needs=frozenset({"registry", "mllp"})), session)
    assert result.verdict is Verdict.NOT_RUN
    assert result.reason.en == "needs --mllp HOST:PORT; --registry URL"
    assert result.reason.fr == "il faut --mllp HÔTE:PORT ; --registry URL"


def test_a_case_may_find_out_that_it_cannot_run(session: Session) -> None:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        raise NotRun(Text("no", "non"))

    assert run_case(make_case(stimulus), session).reason.fr == "non"


def test_an_unforeseen_error_fails_the_case_and_not_the_run(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        raise AttributeError("nonsense")

    result = run_case(make_case(stimulus), session)
    assert result.verdict is Verdict.FAILED
    assert result.seen == "AttributeError: nonsense"
    assert "KIT-BROKEN" in caplog.text


def test_what_is_shared_is_made_once_and_fails_for_all(session: Session) -> None:
    made: list[int] = []
    for _ in range(2):
        assert session.shared("good", lambda: made.append(1) or "value") == "value"  # type: ignore[func-returns-value]

    def broken() -> str:
        made.append(2)
        raise Mismatch("this", "that")

    for _ in range(2):
        with pytest.raises(Mismatch):
            session.shared("bad", broken)
    assert made == [1, 2]


def test_identifiers_are_never_used_twice() -> None:
    sessions = [Session(Targets(), run) for run in ("A", "B")]
    ids = [one.identifier() for one in sessions for _ in range(10)]
    assert len(set(ids)) == 20


def test_known_patients_stand_in_for_a_feed() -> None:
    targets = Targets(patients=("1", "2", "3"))
    assert targets.gives("patients")
    patients = Bench(Session(targets, "RUN")).patients(2)
    assert [patient.id for patient in patients] == ["1", "2"]
    assert not Targets(patients=("1",)).gives("patients")


def test_a_known_study_is_written_as_three_uids() -> None:
    assert Study.parse("1.2/1.3/1.4") == Study("1.2", "1.3", "1.4")
    for text in ("1.2/1.3", "1.2/1.3/x", ""):
        with pytest.raises(ValueError, match="STUDY/SERIES/INSTANCE"):
            Study.parse(text)


def test_a_misspelt_feed_address_is_told() -> None:
    with pytest.raises(NotRun, match="HOST:PORT"):
        Targets(mllp="localhost").mllp_address()
    assert Targets(mllp="[::1]:2575").mllp_address() == ("::1", 2575)


def test_only_the_head_of_a_message_is_kept() -> None:
    head = Head()
    head.take(b"x" * KEPT)
    head.take(b"\x00y" * 50)
    assert head.size == KEPT + 100
    assert head.text().endswith("[… 100 bytes]")
    assert "\x00" not in head.text()


ASKED_OF_PATIENTS = ["Q01", "Q05", "Q10", "Q14", "Q15", "G15", "M06"]


def test_a_feed_in_hl7_v3_does_where_there_is_no_other(system: Any) -> None:
    session = Session(system.targets(mllp=None), "V3")
    for case in select(all_cases(), [*ASKED_OF_PATIENTS, "G24", "C-merged-patient"]):
        result = run_case(case, session)
        assert result.verdict is Verdict.PASSED, (case.id, result.seen)


def test_known_patients_may_have_documents_of_their_own(system: Any) -> None:
    fed = Bench(Session(system.targets(), "FED"))
    patients = fed.patients(PATIENTS_NEEDED)
    for patient in patients:
        fed.registered_entry(patient)
    known = tuple(patient.id for patient in patients)
    session = Session(system.targets(mllp=None, identity_v3=None, patients=known), "KNOWN")
    for case in select(all_cases(), ASKED_OF_PATIENTS):
        result = run_case(case, session)
        assert result.verdict is Verdict.PASSED, (case.id, result.seen)


def test_a_crash_command_that_fails_is_no_crash(system: Any) -> None:
    [case] = select(all_cases(), ["R15"])
    result = run_case(case, Session(system.targets(crash="exit 3"), "CRASH"))
    assert result.verdict is Verdict.FAILED
    assert "exit status 3" in result.seen


# --- The report ---------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Results:
    cases = [
        case_of((1, 1), case_id="T1"),
        case_of((1, 2), case_id="T2"),
        case_of((1, 1), case_id="T3-x.y", needs=frozenset({"registry"})),
    ]
    seen: list[str] = []
    outcome = run(
        Targets(imaging="http://sut/imaging"),
        cases,
        tmp_path,
        progress=lambda result: seen.append(result.case.id),
    )
    assert seen == ["T1", "T2", "T3-x.y"]
    return outcome


def test_a_run_counts_its_verdicts(results: Results) -> None:
    assert [results.count(verdict) for verdict in Verdict] == [1, 1, 1]
    assert not results.passed
    assert results.endpoints == {"imaging": "http://sut/imaging"}


def test_a_run_of_nothing_has_not_passed() -> None:
    assert not run(Targets(), []).passed
    assert run(Targets(), [case_of((1, 1))]).passed


def test_the_junit_file_tells_failures_and_skips(results: Results, tmp_path: Path) -> None:
    suite = etree.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    first, second, third = suite
    assert first.get("name") == "T1 A <test>"
    assert len(first) == 0
    assert second[0].get("message") == "expected number 1; seen number: 2"
    assert third[0].tag == "skipped"


def test_the_evidence_of_each_case_is_a_file(results: Results, tmp_path: Path) -> None:
    evidence = json.loads((tmp_path / "evidence" / "T2.json").read_text("utf-8"))
    assert evidence["verdict"] == "failed"
    assert evidence["expectations"] == ["number"]
    assert evidence["exchanges"][0]["request"]["text"] == "<Größe> & \x00"
    assert (tmp_path / "evidence" / "T3-x.y.json").exists()


@pytest.mark.parametrize(
    ("name", "language", "words"),
    [
        ("index.html", "en", ["Conformance report", "not run", "A <test>", "no answer"]),
        ("index.fr.html", "fr", ["Rapport de conformité", "non exécuté", "Un <essai>"]),
    ],
)
def test_the_page_is_whole_in_itself(
    name: str, language: str, words: list[str], results: Results, tmp_path: Path
) -> None:
    text = (tmp_path / name).read_text("utf-8")
    page = html.fromstring(text.encode())
    assert page.get("lang") == language
    for word in words:
        assert word in etree.tostring(page, method="text", encoding="unicode")
    assert len(page.findall(".//details[@class='case']")) == 3
    assert not page.findall(".//script")
    assert not page.xpath("//*[@src] | //link")
    assert not re.search(r"url\(|@import", text)


def test_markup_in_what_a_peer_sent_stays_text(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"

    def stimulus(bench: Bench) -> Iterator[Seen]:
        yield Compared("answer", "", attack)

    write_report(run(Targets(), [make_case(stimulus)]), tmp_path)
    page = html.fromstring((tmp_path / "index.html").read_bytes())
    assert not page.findall(".//script")
    assert attack in etree.tostring(page, method="text", encoding="unicode")


def test_the_page_counts_the_verdicts_of_each_actor(results: Results, tmp_path: Path) -> None:
    page = html.fromstring((tmp_path / "index.html").read_bytes())
    cells = [etree.tostring(cell, method="text", encoding="unicode") for cell in page.iter("td")]
    assert [one.strip() for one in cells if one.strip()] == ["Document Repository", "1", "1", "1"]
    [link] = page.findall(".//td/a")
    assert link.get("href") == f"#{page.findall('.//section')[0].get('id')}"


@pytest.mark.parametrize(("seen", "whole"), [(1, False), (2, True)])
def test_a_long_message_stands_whole_in_the_page_of_a_failed_case_alone(
    seen: int, whole: bool, tmp_path: Path
) -> None:
    side = Side("POST /", {}, "x" * (BEGINNING + 100), BEGINNING + 100)
    long = Exchange("KIT-1 Test", "http://sut/", datetime.now(UTC), 0.01, side, side)

    def stimulus(bench: Bench) -> Iterator[Seen]:
        bench.record.add(long)
        yield Compared("number", 1, seen)

    write_report(run(Targets(), [make_case(stimulus)]), tmp_path)
    text = (tmp_path / "index.html").read_text("utf-8")
    assert (side.text in text) == whole
    assert ("the rest is in the evidence" in text) != whole
    assert side.text in (tmp_path / "evidence" / "T1.json").read_text("utf-8")


def test_cases_of_a_table_are_collected_in_order() -> None:
    cases = Cases(Actor.IMAGING, "imaging")
    for number in (1, 2):
        cases.add(
            f"X{number}",
            "a",
            "b",
            spec="s",
            expected=[Same("number")],
            stimulus=partial(compared, (1, 1)),
            needs="study",
        )
    assert [case.id for case in cases] == ["X1", "X2"]
    assert all(case.needs == {"imaging", "study"} for case in cases)
