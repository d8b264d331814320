"""Writing manifests: what stands in the file, and what DICOM's own checkers say of it."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.config import disable_value_validation

from manifest.kos import (
    Manifest,
    ManifestError,
    ManifestInstance,
    ManifestSeries,
    read_manifest,
    write_kos,
)
from manifest.model import Patient, Study

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_the_same_manifest_gives_the_same_bytes(manifest: Manifest) -> None:
    assert write_kos(manifest) == write_kos(replace(manifest))


def test_a_manifest_is_a_key_object_selection_with_title_and_template(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))

    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "2.25.11"
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59"
    assert dataset.Modality == "KO"
    title = dataset.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113030", "DCM")
    template = dataset.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "2010")


def test_every_series_says_where_its_instances_are(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))
    (evidence,) = dataset.CurrentRequestedProcedureEvidenceSequence

    assert evidence.StudyInstanceUID == dataset.StudyInstanceUID == manifest.study_instance_uid
    first, second = evidence.ReferencedSeriesSequence
    assert first.RetrieveLocationUID == second.RetrieveLocationUID == "1.2.826.0.1.9.9"
    assert first.RetrieveAETitle == "KOSMOS"
    assert first.RetrieveURL == "https://images.example.org/dicomweb"
    assert "RetrieveURL" not in second
    assert [one.ReferencedSOPInstanceUID for one in first.ReferencedSOPSequence] == [
        "1.2.826.0.1.9.2.0",
        "1.2.826.0.1.9.2.1",
        "1.2.826.0.1.9.2.2",
    ]


def test_the_content_tree_lists_every_instance_with_its_kind(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))

    kinds = [item.ValueType for item in dataset.ContentSequence]
    assert kinds == ["IMAGE", "IMAGE", "IMAGE", "WAVEFORM", "COMPOSITE"]
    assert {item.RelationshipType for item in dataset.ContentSequence} == {"CONTAINS"}


def test_the_referenced_request_is_there_even_for_a_study_without_order(
    manifest: Manifest,
) -> None:
    unordered = replace(manifest, study=Study(study_instance_uid="1.2.3"))
    (request,) = dcmread(BytesIO(write_kos(unordered))).ReferencedRequestSequence

    assert request.StudyInstanceUID == "1.2.3"
    assert request.AccessionNumber == ""
    (ordered,) = dcmread(BytesIO(write_kos(manifest))).ReferencedRequestSequence
    assert ordered.AccessionNumber == "ACC-1"
    assert ordered.IssuerOfAccessionNumberSequence[0].UniversalEntityID == "1.2.250.1.9.2"
    assert ordered.PlacerOrderNumberImagingServiceRequest == "ORD-1"


def test_times_of_the_object_are_in_the_zone_it_states(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))

    assert (dataset.ContentDate, dataset.ContentTime) == ("20240704", "091507")
    assert dataset.TimezoneOffsetFromUTC == "+0200"


def test_elements_stand_in_ascending_order_at_every_level(manifest: Manifest) -> None:
    levels = [dcmread(BytesIO(write_kos(manifest)))]
    while levels:
        dataset = levels.pop()
        tags = [element.tag for element in dataset.values()]
        assert tags == sorted(tags)
        levels += [item for element in dataset if element.VR == "SQ" for item in element.value]


@pytest.mark.parametrize(
    "broken",
    [
        {"created": None},
        {"series": ()},
        {"sop_instance_uid": "../../etc/passwd"},
        {"study": Study(study_instance_uid="1.2", patient=Patient(patient_id="x" * 65))},
        {"study": Study(study_instance_uid="1.2", accession_number="x" * 65)},
    ],
    ids=["no time", "no instances", "no UID", "patient ID too long", "accession too long"],
)
def test_what_dicom_cannot_carry_is_refused(manifest: Manifest, broken: dict[str, object]) -> None:
    with pytest.raises(ManifestError):
        write_kos(replace(manifest, **broken))  # type: ignore[arg-type]  # one wrong field each


@pytest.mark.parametrize("uid", ["", "1" * 65, "1.2\n3", "1.2 ", "1.2.\u0663", "1.2.\ud800"])
def test_an_instance_whose_uid_is_none_is_refused(manifest: Manifest, uid: str) -> None:
    first, *others = manifest.series
    lost = replace(first, instances=(*first.instances, ManifestInstance(CT_IMAGE, uid)))
    with pytest.raises(ManifestError, match="not a UID") as refused:
        write_kos(replace(manifest, series=(lost, *others)))
    assert repr(uid[:64]) in str(refused.value)


def test_a_series_without_instances_is_refused(manifest: Manifest) -> None:
    first, second = manifest.series
    with pytest.raises(ManifestError, match="at least one instance"):
        write_kos(replace(manifest, series=(first, replace(second, instances=()))))


def test_an_accession_number_longer_than_its_vr_is_written_whole(manifest: Manifest) -> None:
    number = "20240115-CT-000123456"
    study = replace(manifest.study, accession_number=number)

    data = write_kos(replace(manifest, study=study))

    with disable_value_validation():
        assert read_manifest(data).study.accession_number == number
        request = dcmread(BytesIO(data)).ReferencedRequestSequence[0]
        assert request.AccessionNumber == number


def test_long_or_strange_descriptions_are_made_to_fit(manifest: Manifest) -> None:
    study = replace(manifest.study, description="Thorax\\Abdome\n" + "é" * 100)
    dataset = dcmread(BytesIO(write_kos(replace(manifest, study=study))))

    assert dataset.StudyDescription == "Thorax Abdome " + "é" * 50


def test_dcmtk_reads_the_manifest_as_a_valid_document(manifest: Manifest, tmp_path: Path) -> None:
    command = tool("dsrdump")
    path = tmp_path / "manifest.dcm"
    path.write_bytes(write_kos(manifest))

    done = subprocess.run([command, path], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    # Two limits of the tool itself: no check of UTF-8 values, none of template constraints.
    remarks = [line for line in done.stderr.splitlines() if not line.startswith("W: ")]
    assert remarks == []
    assert done.stdout.startswith("Key Object Selection Document")
    assert done.stdout.count("<contains IMAGE:") == 3


@pytest.mark.parametrize("ordered", [True, False], ids=["full study", "bare study"])
def test_dciodvfy_finds_no_error(manifest: Manifest, tmp_path: Path, ordered: bool) -> None:
    command = tool("dciodvfy")
    path = tmp_path / "manifest.dcm"
    bare = Study(study_instance_uid="1.2.3", patient=Patient(patient_id="1"))
    path.write_bytes(write_kos(manifest if ordered else replace(manifest, study=bare)))

    done = subprocess.run([command, path], capture_output=True, text=True, check=False)

    assert "Error" not in done.stderr
    assert "KeyObjectSelectionDocument" in done.stdout + done.stderr


def test_three_thousand_instances_are_written_in_less_than_a_second(manifest: Manifest) -> None:
    one = manifest.series[0]
    series = tuple(
        replace(
            one,
            series_instance_uid=f"1.2.3.{number}",
            instances=tuple(
                ManifestInstance(CT_IMAGE, f"1.2.826.0.1.3680043.10.{number}.{n}")
                for n in range(300)
            ),
        )
        for number in range(10)
    )
    big = replace(manifest, series=series)

    started = time.process_time()
    data = write_kos(big)
    assert time.process_time() - started < 1.0
    assert read_manifest(data).instance_count == 3000


_uid = st.lists(st.integers(1, 99999), min_size=2, max_size=8).map(
    lambda arcs: "1." + ".".join(map(str, arcs))
)
_printable = st.characters(min_codepoint=0x21, exclude_characters="\\^=", exclude_categories=["C"])
_word = st.text(_printable, min_size=1, max_size=12)
_optional = st.just("") | _word


@st.composite
def _studies(draw: st.DrawFn) -> Study:
    return Study(
        study_instance_uid=draw(_uid),
        patient=Patient(
            patient_id=draw(_word),
            issuer=draw(_optional),
            issuer_oid=draw(st.just("") | _uid),
            name="^".join(draw(st.lists(_word, max_size=4))),
            sex=draw(st.sampled_from(["", "M", "F", "O"])),
        ),
        date=draw(st.dates().map(lambda day: f"{day.year:04}{day:%m%d}")),
        timezone_offset="+0200",
        description=draw(_optional),
        accession_number=draw(_optional),
        accession_issuer_oid=draw(st.just("") | _uid),
        placer_order_number=draw(_optional),
        institution=draw(_optional),
    )


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_what_is_written_is_what_is_read(data: st.DataObject) -> None:
    manifest = _any_manifest(data)

    assert read_manifest(write_kos(manifest)) == manifest


def _any_manifest(data: st.DataObject) -> Manifest:
    instances = st.lists(st.builds(ManifestInstance, _uid, _uid), min_size=1, max_size=4)
    series = st.builds(
        ManifestSeries,
        series_instance_uid=_uid,
        retrieve_location_uid=_uid,
        retrieve_ae_title=st.sampled_from(["", "PACS 1"]),
        retrieve_url=st.sampled_from(["", "https://x/y"]),
        instances=instances.map(tuple),
    )
    several = st.lists(series, min_size=1, max_size=3, unique_by=lambda s: s.series_instance_uid)
    return Manifest(
        sop_instance_uid=data.draw(_uid),
        series_instance_uid=data.draw(_uid),
        study=data.draw(_studies()),
        series=tuple(data.draw(several)),
        created=datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    )
