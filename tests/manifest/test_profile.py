"""National forms of the manifest, told as data."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from manifest.engine import edition
from manifest.entry import PublicationPolicy
from manifest.flavours import Flavour
from manifest.kos import Manifest, ManifestError, read_manifest
from manifest.profile import default_profile, profile_of, write_national


def test_the_french_manifest_says_what_drim_m_asks_for(
    manifest: Manifest, policy: PublicationPolicy
) -> None:
    french = replace(policy, profile=default_profile())
    data = edition(manifest, french, Flavour.NATIONAL, "urn:uuid:" + "0" * 32).content
    dataset = dcmread(BytesIO(data))

    assert dataset.AccessionNumber == ""
    assert dataset.ReferencedRequestSequence[0].AccessionNumber == "ACC-1"
    assert dataset.IssuerOfPatientID == "ASIP-SANTE-INS-NIR"
    assert dataset.ConceptNameCodeSequence[0].CodeValue == "113030"
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert evidence[0].RetrieveURL == (
        "https://images.example.org/dicomweb/studies/1.2.826.0.1.9.1/series/1.2.826.0.1.9.2"
    )
    words, first, *_ = dataset.ContentSequence
    assert words.ConceptNameCodeSequence[0].CodeValue == "113012"
    assert [line.rstrip() for line in words.TextValue.splitlines()] == [
        "Examen : TDM crâne",
        "Série-1.2.826.0.1.9.2 : CT @ :",
        "Série-1.2.826.0.1.9.3 : SR @ :",
    ]
    assert first.ValueType == "IMAGE"
    assert read_manifest(data).instance_count == manifest.instance_count


@pytest.mark.parametrize("name", ["dciodvfy", "dsrdump"])
def test_foreign_tools_find_no_error_in_the_french_manifest(
    manifest: Manifest, tmp_path: Path, name: str
) -> None:
    command = shutil.which(name)
    if command is None:
        pytest.skip(f"{name} is not installed")
    path = tmp_path / "manifest.dcm"
    path.write_bytes(write_national(manifest, default_profile()))

    done = subprocess.run([command, path], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert not [line for line in done.stderr.splitlines() if line.startswith(("E: ", "Error"))]


def test_what_a_profile_requires_must_be_known(manifest: Manifest) -> None:
    unordered = replace(manifest, study=replace(manifest.study, accession_number="", date=""))

    with pytest.raises(ManifestError, match="requires accession_number, date"):
        write_national(unordered, default_profile())


def test_a_profile_may_change_title_and_attributes(manifest: Manifest) -> None:
    profile = profile_of(
        {
            "title": ["113000", "DCM", "Of Interest"],
            "attributes": {"PatientComments": "{sex} {birth_date}"},
        }
    )

    dataset = dcmread(BytesIO(write_national(manifest, profile)))

    assert dataset.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    assert dataset.PatientComments == "F 19790328"
    assert dataset.AccessionNumber == "ACC-1"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"titel": []}, "titel"),
        ({"title": ["1", "2"]}, "title"),
        ({"title": 3}, "title"),
        ({"required": ["colour"]}, "colour"),
        ({"required": 3}, "required"),
        ({"attributes": {"PatientComments": 3}}, "attributes"),
        ({"description": "x"}, "description"),
        ({"attributes": {"NoSuchThing": "x"}}, "NoSuchThing"),
        ({"attributes": {"StudyInstanceUID": "1.2"}}, "StudyInstanceUID"),
        ({"attributes": {"PatientComments": "{colour}"}}, "colour"),
        ({"attributes": {"PatientComments": "{sex"}}, "attributes"),
        ({"attributes": {"PatientComments": "{sex.__class__}"}}, "sex.__class__"),
        ({"retrieve_url": "{nowhere}"}, "nowhere"),
        ({"description": {"study": "x"}}, "description.concept"),
        ({"description": {"concept": ["1", "2", "3"], "study": "{series}"}}, "series"),
    ],
)
def test_a_profile_that_is_wrong_says_where(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        profile_of(table)
