"""The kit judges manifest files: a case for each content rule, whatever the family."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from conformance.bench import Bench, Session
from conformance.manifests import judge_file, manifest_cases
from conformance.results import Verdict
from conformance.targets import NotRun, Targets
from manifest.kos import write_kos
from manifest.model import Manifest, ManifestError, ManifestInstance, ManifestSeries, Study
from manifest.rules.judge import RULES, Judged
from manifest.rules.rule import Family


@pytest.fixture
def file(tmp_path: Path) -> Path:
    series = ManifestSeries(
        series_instance_uid="1.2.3",
        retrieve_location_uid="1.9",
        retrieve_ae_title="PACS",
        instances=(ManifestInstance("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1"),),
    )
    manifest = Manifest(
        sop_instance_uid="1.7",
        series_instance_uid="1.8",
        study=Study(study_instance_uid="1.2"),
        series=(series,),
        created=datetime(2024, 1, 1, tzinfo=UTC),
    )
    path = tmp_path / "manifest.dcm"
    path.write_bytes(write_kos(manifest))
    return path


def test_a_right_manifest_passes_the_rules_of_its_family(file: Path, tmp_path: Path) -> None:
    results = judge_file(file, tmp_path / "report")

    ran = {one.case.id for one in results.results if one.verdict is Verdict.PASSED}
    assert results.passed
    assert ran == {rule.id for rule in RULES if Family.XDS_I in rule.families}
    assert (tmp_path / "report" / "index.fr.html").is_file()


def test_a_fault_fails_its_case_and_says_what(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"PACS", b"    "))

    results = judge_file(file)

    (failed,) = [one for one in results.results if one.verdict is Verdict.FAILED]
    assert failed.case.id == "X02"
    assert "1.2.3 has no RetrieveAETitle" in failed.seen


def test_what_is_no_manifest_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ManifestError):
        judge_file(tmp_path / "x.json")


@pytest.mark.parametrize("judged", [None, Judged(Family.MADO_FHIR, {})])
def test_a_rule_of_another_family_is_not_run(judged: Judged | None) -> None:
    first = manifest_cases(judged)[0]
    with pytest.raises(NotRun):
        next(first.stimulus(Bench(Session(Targets(), "TEST"))))
