"""MADO manifests: what the DICOM form says beyond XDS-I.b, and that it is read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from manifest.concepts import Known, recognised
from manifest.kos import read_manifest, write_kos
from manifest.library import concept_of, descriptors
from manifest.mado import write_mado
from manifest.model import (
    Concept,
    Manifest,
    ManifestInstance,
    ManifestSeries,
    PatientIdentifier,
    Request,
    Study,
)

SECOND = Request("ACC-2", "1.2.250.1.9.2", "ORD-2", "1.2.250.1.9.3", "RP2")
HEAD = Concept("774007", "SCT", "Head and neck")


def described(manifest: Manifest) -> Manifest:
    """The manifest with everything that a MADO manifest may say."""
    first, second = manifest.series
    instances = tuple(
        replace(one, instance_number=number, number_of_frames=number)
        for number, one in enumerate(first.instances, 1)
    )
    first = replace(
        first,
        instances=instances,
        series_number=2,
        description="Axial \\ 1 mm",
        date="20240704",
        time="003100",
        region=HEAD,
    )
    return replace(
        manifest,
        series=(first, second),
        study=replace(manifest.study, further_requests=(SECOND,)),
        other_patient_ids=(PatientIdentifier("INS-1", "1.2.250.1.213.1.4.10"),),
        display_url="https://viewer.example.org/?study=1",
    )


def library_of(dataset: Dataset) -> Dataset:
    libraries: list[Dataset] = [
        one for one in dataset.ContentSequence if concept_of(one) is Known.IMAGE_LIBRARY
    ]
    assert len(libraries) == 1
    return libraries[0]


def groups_of(library: Dataset) -> list[Dataset]:
    return [one for one in library.ContentSequence if concept_of(one) is Known.IMAGE_LIBRARY_GROUP]


def details(manifest: Manifest) -> list[object]:
    """What takes no part in a comparison of manifests."""
    return [
        (one.modality, one.region, one.series_number, one.description, one.date, one.time)
        for one in manifest.series
    ] + [
        (one.instance_number, one.number_of_frames)
        for series in manifest.series
        for one in series.instances
    ]


def test_what_is_described_is_read_back(manifest: Manifest) -> None:
    whole = described(manifest)

    read = read_manifest(write_mado(whole))

    assert read == whole
    assert details(read) == details(whole)
    assert read.remarks == ()


def test_the_title_and_the_key_objects_stand_beside_the_library(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_mado(described(manifest))))

    assert dataset.ConceptNameCodeSequence[0].CodeValue == "MADOTEMP001"
    assert [one.ValueType for one in dataset.ContentSequence] == [
        *("IMAGE", "IMAGE", "IMAGE", "WAVEFORM", "COMPOSITE", "CONTAINER")
    ]


def test_the_library_describes_the_study(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_mado(described(manifest))))

    told = descriptors(library_of(dataset))

    assert told == {
        Known.MODALITY: [Concept("CT", "DCM", "CT"), Concept("SR", "DCM", "SR")],
        Known.TARGET_REGION: [HEAD],
        Known.SERIES_COUNT: ["2"],
    }


def test_a_study_whose_region_is_not_told_may_be_of_the_entire_body(manifest: Manifest) -> None:
    series = tuple(replace(one, region=None) for one in manifest.series)
    dataset = dcmread(BytesIO(write_mado(replace(manifest, series=series))))

    library = library_of(dataset)

    assert descriptors(library)[Known.TARGET_REGION] == [Concept("38266002", "SCT", "Entire body")]
    assert not any(Known.TARGET_REGION in descriptors(one) for one in groups_of(library))


def test_each_series_is_a_group_with_an_entry_for_each_instance(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_mado(described(manifest))))

    first, second = groups_of(library_of(dataset))

    assert descriptors(first) == {
        Known.MODALITY: [Concept("CT", "DCM", "CT")],
        Known.SERIES_UID: ["1.2.826.0.1.9.2"],
        Known.SERIES_DESCRIPTION: ["Axial \\ 1 mm"],
        Known.SERIES_DATE: ["20240704"],
        Known.SERIES_TIME: ["003100"],
        Known.SERIES_NUMBER: ["2"],
        Known.TARGET_REGION: [HEAD],
        Known.INSTANCE_COUNT: ["3"],
    }
    entries = [one for one in first.ContentSequence if "ReferencedSOPSequence" in one]
    assert [descriptors(one) for one in entries] == [
        {Known.INSTANCE_NUMBER: ["1"]},  # one frame is no multi-frame image
        {Known.INSTANCE_NUMBER: ["2"], Known.FRAME_COUNT: ["2"]},
        {Known.INSTANCE_NUMBER: ["3"], Known.FRAME_COUNT: ["3"]},
    ]
    assert descriptors(second).keys() == {Known.MODALITY, Known.SERIES_UID, Known.INSTANCE_COUNT}


def test_of_several_requests_none_stands_at_the_top(manifest: Manifest) -> None:
    one = dcmread(BytesIO(write_mado(manifest)))
    several = dcmread(BytesIO(write_mado(described(manifest))))

    assert one.AccessionNumber == "ACC-1"
    assert several.AccessionNumber == ""
    assert "IssuerOfAccessionNumberSequence" not in several
    assert [item.AccessionNumber for item in several.ReferencedRequestSequence] == [
        "ACC-1",
        "ACC-2",
    ]


def test_the_address_of_a_viewer_is_in_the_private_block(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_mado(described(manifest))))

    assert dataset[0x000D, 0x0010].value == "IHE_MADO_PRIVATE"
    assert dataset[0x000D, 0x1001].value == "https://viewer.example.org/?study=1"
    assert (0x000D, 0x0010) not in dcmread(BytesIO(write_mado(manifest)))


def everything(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from everything(item)


def written_by_pydicom(data: bytes) -> bytes:
    """The same data set, every value decoded and encoded again by pydicom."""
    dataset = dcmread(BytesIO(data))
    for level in everything(dataset):
        for element in level:
            level[element.tag] = element  # no raw bytes are left to be copied
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def test_elements_stand_in_ascending_order_at_every_level(manifest: Manifest) -> None:
    for level in everything(dcmread(BytesIO(write_mado(described(manifest))))):
        tags = [element.tag for element in level.values()]
        assert tags == sorted(tags)


_uid = st.lists(st.integers(1, 99999), min_size=2, max_size=8).map(
    lambda arcs: "1." + ".".join(map(str, arcs))
)
_word = st.text(
    st.characters(min_codepoint=0x21, exclude_characters="\\^=", exclude_categories=["C"]),
    max_size=12,
)
_instances = st.builds(
    ManifestInstance, _uid, _uid, st.none() | st.integers(-9, 9999), st.integers(1, 500)
)


@st.composite
def _series(draw: st.DrawFn) -> ManifestSeries:
    return ManifestSeries(
        series_instance_uid=draw(_uid),
        retrieve_location_uid=draw(_uid),
        instances=tuple(draw(st.lists(_instances, min_size=1, max_size=3))),
        modality=draw(st.sampled_from(["CT", "MR", ""])),
        series_number=draw(st.none() | st.integers(0, 999)),
        description=draw(_word),
        date=draw(st.sampled_from(["", "20240102"])),
        time=draw(st.sampled_from(["", "0930", "093000.5"])),
        region=draw(st.none() | st.just(HEAD)),
    )


@st.composite
def _manifests(draw: st.DrawFn) -> Manifest:
    series = st.lists(_series(), min_size=1, max_size=3, unique_by=lambda s: s.series_instance_uid)
    return Manifest(
        sop_instance_uid=draw(_uid),
        series_instance_uid=draw(_uid),
        study=Study(
            study_instance_uid=draw(_uid), description=draw(_word), timezone_offset="+0200"
        ),
        series=tuple(
            replace(
                one,
                instances=tuple({two.sop_instance_uid: two for two in one.instances}.values()),
            )
            for one in draw(series)
        ),
        created=datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    )


@settings(max_examples=60, deadline=None)
@given(manifest=_manifests())
def test_the_bytes_are_those_that_pydicom_writes(manifest: Manifest) -> None:
    for data in (write_mado(manifest), write_kos(manifest)):
        assert written_by_pydicom(data) == data


@settings(max_examples=60, deadline=None)
@given(manifest=_manifests())
def test_any_manifest_is_read_back(manifest: Manifest) -> None:
    read = read_manifest(write_mado(manifest))

    assert read == manifest
    uids = [i.sop_instance_uid for series in manifest.series for i in series.instances]
    if len(uids) == len(set(uids)):
        assert details(read) == details(manifest)


@pytest.mark.parametrize("known", Known)
def test_a_concept_is_known_by_its_code_and_in_private_schemes_by_its_meaning(
    known: Known,
) -> None:
    code, scheme, meaning = known.written

    assert recognised(Concept(code, scheme, "anything")) is known
    assert recognised(Concept("MADOTEMP099", "99IHE", meaning.upper())) is known
    assert recognised(Concept("12345", "DCM", meaning)) is None


def test_instances_that_the_tree_alone_names_are_a_remark(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_mado(manifest)))
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0]
    listed = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence = Sequence(listed[1:])

    read = read_manifest(saved(dataset))

    assert read.instance_count == manifest.instance_count - 1
    assert read.remarks == ("the content tree names 1 instances that the evidence does not list",)


def test_a_tree_that_describes_a_part_is_no_remark(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_mado(manifest)))
    dataset.ContentSequence = Sequence(dataset.ContentSequence[:1])

    read = read_manifest(saved(dataset))

    assert (read.instance_count, read.remarks) == (manifest.instance_count, ())


def saved(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()
