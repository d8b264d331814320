"""The demonstration, as ``make demo STAY=0 STUDY=...`` runs it, and the pieces it stands on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.run import all_cases
from node.cli.demo_verb import kit_arguments
from node.demo.run import Verdict
from node.demo.stage import Stage, set_up
from node.demo.studies import choose, dataset_digest, patients_of, sample_folder
from node.operator import operator_name
from security.audit.search import Wanted, find

DEMO = (sys.executable, "-m", "node.cli", "demo", "--no-stay")
REAL_STUDIES = sample_folder() / "dicomdirtests"


def test_the_samples_are_real_studies_of_several_patients_and_modalities() -> None:
    files = choose(REAL_STUDIES)
    assert len(files) == 81
    assert {file.modality for file in files} == {"CT", "MR", "CR"}
    assert len(patients_of(files)) == 3
    more = choose(sample_folder())
    assert {"US", "NM", "SEG", "RTDOSE"} <= {file.modality for file in more}
    assert len({file.transfer_syntax_uid for file in more}) >= 5


def test_each_instance_is_chosen_once_and_only_what_names_its_patient() -> None:
    files = choose(sample_folder())
    assert len({file.sop_instance_uid for file in files}) == len(files)
    assert all(file.patient_id and file.modality and file.consistent for file in files)


def test_the_digest_of_a_data_set_ignores_what_a_receiver_writes_around_it(tmp_path: Path) -> None:
    sample = sample_folder() / "CT_small.dcm"
    other = tmp_path / "other.dcm"
    data = sample.read_bytes()
    other.write_bytes(b"another preamble".ljust(128, b"\0") + data[128:])
    assert dataset_digest(other) == dataset_digest(sample)
    other.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert dataset_digest(other) != dataset_digest(sample)


@pytest.mark.parametrize(
    ("sent", "fetched", "identical", "ok"),
    [(3, 3, 3, True), (3, 3, 2, False), (3, 2, 2, False), (0, 0, 0, False)],
)
def test_only_every_image_unchanged_is_success(
    sent: int, fetched: int, identical: int, ok: bool
) -> None:
    assert Verdict(sent, fetched, identical).ok is ok


def test_a_persons_own_study_travels_the_whole_way(tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(REAL_STUDIES / "77654033", study)
    shown = subprocess.run(
        [*DEMO, "--study", str(study), "--folder", str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LC_ALL": "C"},
    )
    assert shown.returncode == 0, shown.stderr
    steps = re.findall(r"^✓ +(\S+)", shown.stdout, re.MULTILINE)
    published = ["ITI-8", "C-STORE", "RAD-68", "ITI-18", "ITI-43", "RAD-69", "Compare"]
    corrected = ["C-STORE", "RAD-68", "ITI-18", "RAD-69", "RAD-107", "C-MOVE", "Compare"]
    reported = ["ORU^R01", "ITI-18", "ITI-43"]
    assert steps == [*published, *corrected, *reported, "ITI-20"]
    assert "application/dicom, application/pdf" in shown.stdout
    assert "Approved -- RPLC --> Deprecated" in shown.stdout
    assert "3 images, three ways, equal pixels" in shown.stdout
    assert "7 images fetched, 7 identical" in shown.stdout
    asked = find([tmp_path / "kept/node/data/audit/client-0.db"], Wanted(), 10_000)
    kinds = {"ITI-18", "ITI-43", "RAD-69", "RAD-107"}
    assert {one.record.type for one in asked} == kinds
    assert {operator_name() in one.record.users for one in asked} == {True}


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert choose(tmp_path) == []


# What is asked of a secure node alone.
SECURE = {"issuer", "secured", "audit_listener"}
# Of each room something that a policy, TLS or the ports of the demonstration might break.
HANDFUL = (
    *("I01", "I02-jpeg", "I03-study", "I04-study-uid", "I05-study", "I06-study", "I07-113001"),
    *("I08-113039", "D01-filter-ConfidentialityCode", "D03-restart", "W05", "M01", "R10", "R15"),
    *("S01-expired", "S05-RAD-69-treating-doctor"),
)


@pytest.mark.timeout(400)  # hundreds of cases: half a minute, more on a machine that is busy
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_pasted_line_passes_every_case_of_the_kit(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The small repository's registry is the kit's simulator; killing either node is a script."""
    database: str | None = None
    if engine == "postgresql":
        database = request.getfixturevalue("postgresql_database_url").replace("+psycopg", "")
    with set_up(tmp_path, database) as stage:
        idle = _not_run(stage, tmp_path)
    # Asked of a secure node below, and in test_serve.py and test_served_node.py.
    assert idle == {case.id for case in all_cases() if not case.needs.isdisjoint(SECURE)}


@pytest.mark.timeout(200)
def test_the_pasted_line_passes_against_a_secure_demonstration(tmp_path: Path) -> None:
    with set_up(tmp_path, plain=False) as stage:
        assert _not_run(stage, tmp_path, *HANDFUL) == set()


def _not_run(stage: Stage, folder: Path, *cases: str) -> set[str]:
    """The cases that the line printed does not run; all others must pass."""
    arguments = kit_arguments(stage)
    arguments[arguments.index("report")] = str(folder / "report")
    chosen = [part for case in cases for part in ("--case", case)]
    ran = subprocess.run(
        [sys.executable, "-m", "node.cli", *arguments, *chosen],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LC_ALL": "C"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (folder / "report" / "junit.xml").exists()
    return {line.split()[1] for line in ran.stdout.splitlines() if line.startswith("- ")}
