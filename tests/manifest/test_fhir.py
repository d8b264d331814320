"""MADO manifests as FHIR bundles: written in both releases, read from any maker."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifest.fhir import Release, write_fhir
from manifest.kos import ManifestError, read_manifest
from manifest.model import Concept, Manifest, PatientIdentifier, Request

RELEASES: tuple[Release, ...] = ("R4", "R5")


@pytest.fixture
def whole(manifest: Manifest) -> Manifest:
    """A manifest whose every detail has a place in a bundle."""
    first, second = manifest.series
    first = replace(
        first,
        instances=tuple(replace(one, instance_number=n) for n, one in enumerate(first.instances)),
        series_number=2,
        description="Axial",
        date="20240704",
        time="003100",
        region=Concept("774007", "SCT", "Head and neck"),
    )
    second = replace(second, retrieve_ae_title="")
    return replace(
        manifest,
        series=(replace(first, retrieve_ae_title=""), second),
        study=replace(
            manifest.study,
            further_requests=(Request("ACC-2", "1.2.250.1.9.2", "ORD-2", "1.2.250.1.9.3"),),
        ),
        other_patient_ids=(PatientIdentifier("INS-1", "1.2.250.1.213.1.4.10"),),
        display_url="https://viewer.example.org/?study=1",
    )


def resources(data: bytes) -> dict[str, dict[str, Any]]:
    """The resources by type; of several the last."""
    return {one["resource"]["resourceType"]: one["resource"] for one in json.loads(data)["entry"]}


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_bundle_says_is_read_back(whole: Manifest, release: Release) -> None:
    read = read_manifest(write_fhir(whole, release))

    assert read.series == whole.series
    assert [
        (one.modality, one.region, one.series_number, one.description, one.date, one.time)
        for one in read.series
    ] == [
        (one.modality, one.region, one.series_number, one.description, one.date, one.time)
        for one in whole.series
    ]
    assert read.series[0].instances[2].instance_number == 2
    assert (read.sop_instance_uid, read.created) == (whole.sop_instance_uid, whole.created)
    assert read.other_patient_ids == whole.other_patient_ids
    assert read.display_url == whole.display_url
    # The issuer's local name, other writings, fractions and ids of the department have no place.
    patient = replace(whole.patient, issuer="", name="PATTE^Doña^^Dr^Jr")
    assert read.study == replace(
        whole.study,
        patient=patient,
        time="003000",
        study_id="",
        requested_procedure_id="",
        referring_physician="House Greg",
        manufacturer="",
    )


def test_the_same_manifest_is_the_same_bundle(whole: Manifest) -> None:
    assert write_fhir(whole) == write_fhir(replace(whole))


def test_every_reference_of_a_bundle_leads_to_a_resource(whole: Manifest) -> None:
    data = write_fhir(whole)
    names = {one["fullUrl"] for one in json.loads(data)["entry"]}
    referred: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("reference"), str):
                referred.append(value["reference"])
            for one in value.values():
                collect(one)
        elif isinstance(value, list):
            for one in value:
                collect(one)

    collect(json.loads(data))
    assert len(referred) > 6
    assert set(referred) <= names


def test_the_releases_differ_where_fhir_does(whole: Manifest) -> None:
    r4, r5 = (resources(write_fhir(whole, release)) for release in RELEASES)

    assert r4["ImagingStudy"]["series"][0]["modality"]["code"] == "CT"
    assert r5["ImagingStudy"]["series"][0]["modality"]["coding"][0]["code"] == "CT"
    assert r4["Endpoint"]["connectionType"]["code"] == "ihe-iid"
    assert r5["Endpoint"]["connectionType"][0]["coding"][0]["code"] == "ihe-iid"


@pytest.mark.parametrize(
    ("release", "module"), [("R4", "fhir.resources.R4B.bundle"), ("R5", "fhir.resources.bundle")]
)
def test_a_bundle_follows_the_definitions_of_its_release(
    whole: Manifest, release: Release, module: str
) -> None:
    models = pytest.importorskip(module, reason="fhir.resources is not installed")

    bundle = models.Bundle.model_validate_json(write_fhir(whole, release))

    assert len(bundle.entry) == len(json.loads(write_fhir(whole, release))["entry"])
    other: Release = "R5" if release == "R4" else "R4"
    with pytest.raises(ValueError, match="connectionType"):
        models.Bundle.model_validate_json(write_fhir(whole, other))


def test_a_bundle_without_instances_is_not_written(whole: Manifest) -> None:
    with pytest.raises(ManifestError):
        write_fhir(replace(whole, series=()))


def altered(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    bundle = json.loads(data)
    change(bundle)
    return json.dumps(bundle).encode()


def test_a_bundle_with_relative_references_and_contained_resources_is_read(
    whole: Manifest,
) -> None:
    def rename(bundle: dict[str, Any]) -> None:
        study = bundle["entry"][0]["resource"]
        patient = next(
            one for one in bundle["entry"] if one["resource"]["resourceType"] == "Patient"
        )
        patient["resource"]["id"] = "p1"
        study["subject"] = {"reference": "https://fhir.example.org/Patient/p1"}
        endpoint = {
            "resourceType": "Endpoint",
            "id": "e1",
            "identifier": [{"value": "urn:oid:1.2.3.99"}],
            "address": "https://x/dicomweb",
        }
        study["contained"] = [endpoint]
        study["series"][0]["endpoint"] = [{"reference": "#e1"}]

    read = read_manifest(altered(write_fhir(whole), rename))

    assert read.patient.patient_id == whole.patient.patient_id
    assert read.series[0].retrieve_location_uid == "1.2.3.99"
    assert read.series[0].retrieve_url == "https://x/dicomweb"


def test_a_bundle_about_two_studies_is_refused(whole: Manifest) -> None:
    data = altered(write_fhir(whole), lambda bundle: bundle["entry"].append(bundle["entry"][0]))

    with pytest.raises(ManifestError, match="2 studies"):
        read_manifest(data)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}",
        b'{"resourceType": "Patient"}',
        b'{"resourceType": "Bundle", "entry": 3}',
        b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "ImagingStudy"}}]}',
        b'{"a":' * 100_000,
        b'{"resourceType": "Bundle", "total": ' + b"9" * 100_000 + b"}",
        b'{"resourceType": "Bundle", "id": "\xff"}',
    ],
    ids=["cut", "empty", "other", "types", "no series", "nesting", "digits", "no UTF-8"],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "series",
                    "instance",
                    "identifier",
                    "endpoint",
                    "subject",
                    "value",
                    "uid",
                    "started",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(study=st.dictionaries(st.sampled_from(["series", "identifier", "subject"]), _json))
def test_any_values_in_a_study_are_read_or_refused(study: dict[str, Any]) -> None:
    entry = {"resource": {**study, "resourceType": "ImagingStudy"}}
    with suppress(ManifestError):
        read_manifest(json.dumps({"resourceType": "Bundle", "entry": [entry]}).encode())


def test_the_refusal_does_not_quote_the_file(whole: Manifest) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write_fhir(whole)[:-9])

    assert "PATTE" not in str(caught.value)
