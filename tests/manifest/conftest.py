"""A study, its manifest and a publication policy, as the tests of this room need them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from manifest.entry import Identifiers, PublicationPolicy
from manifest.model import Manifest, ManifestInstance, ManifestSeries, Patient, Study
from metadata.datatypes import XON
from metadata.model import Code

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
WAVEFORM = "1.2.840.10008.5.1.4.1.1.9.1.1"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
PARIS_SUMMER = timezone(timedelta(hours=2))


@pytest.fixture
def study() -> Study:
    return Study(
        study_instance_uid="1.2.826.0.1.9.1",
        patient=Patient(
            patient_id="279035121518989",
            issuer="HOSPITAL",
            issuer_oid="1.2.250.1.213.1.4.10",
            name="PATTE^Doña^^Dr^Jr=imen=imen",
            birth_date="19790328",
            sex="F",
        ),
        date="20240704",
        time="003000.123",
        timezone_offset="+0200",
        description="TDM crâne",
        study_id="S1",
        accession_number="ACC-1",
        accession_issuer_oid="1.2.250.1.9.2",
        placer_order_number="ORD-1",
        placer_issuer_oid="1.2.250.1.9.3",
        requested_procedure_id="RP1",
        referring_physician="House^Greg",
        institution="CHU Bordeaux",
        manufacturer="Philips",
    )


@pytest.fixture
def series() -> tuple[ManifestSeries, ...]:
    images = tuple(ManifestInstance(CT_IMAGE, f"1.2.826.0.1.9.2.{n}") for n in range(3))
    others = (
        ManifestInstance(WAVEFORM, "1.2.826.0.1.9.3.1"),
        ManifestInstance(ENHANCED_SR, "1.2.826.0.1.9.3.2"),
    )
    return (
        ManifestSeries(
            series_instance_uid="1.2.826.0.1.9.2",
            retrieve_location_uid="1.2.826.0.1.9.9",
            retrieve_ae_title="KOSMOS",
            retrieve_url="https://images.example.org/dicomweb",
            instances=images,
            modality="CT",
            body_part="HEAD",
        ),
        ManifestSeries(
            series_instance_uid="1.2.826.0.1.9.3",
            retrieve_location_uid="1.2.826.0.1.9.9",
            retrieve_ae_title="KOSMOS",
            instances=others,
            modality="SR",
        ),
    )


@pytest.fixture
def manifest(study: Study, series: tuple[ManifestSeries, ...]) -> Manifest:
    return Manifest(
        sop_instance_uid="2.25.11",
        series_instance_uid="2.25.12",
        study=study,
        series=series,
        created=datetime(2024, 7, 4, 9, 15, 7, tzinfo=PARIS_SUMMER),
    )


@pytest.fixture
def policy() -> PublicationPolicy:
    return PublicationPolicy(
        source_id="1.2.250.1.9.4",
        assigning_authority="1.2.250.1.213.1.4.10",
        source_authority="1.2.250.1.9.5",
        class_code=Code("31", "1.2.250.1.213.1.1.4.1"),
        type_code=Code("IMG-KOS", "1.2.250.1.213.1.1.4.12"),
        content_type_code=Code("07", "1.2.250.1.213.2.2"),
        healthcare_facility_type_code=Code("SA01", "1.2.250.1.71.4.2.4"),
        practice_setting_code=Code("ETABLISSEMENT", "1.2.250.1.213.1.1.4.9"),
        confidentiality_code=Code("N", "2.16.840.1.113883.5.25"),
        institution=XON("Réseau d'imagerie"),
        language_code="fr-FR",
        body_parts={"HEAD": Code("774007", "2.16.840.1.113883.6.96")},
    )


@pytest.fixture
def identifiers() -> Identifiers:
    return Identifiers(
        submission_set_uuid="urn:uuid:00000000-0000-4000-8000-000000000002",
        submission_set_unique_id="2.25.13",
    )
