"""The engine: what each family gets filled in, and when nothing new would be said."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from manifest.engine import content_hash, edition, editions, made_up_accession
from manifest.entry import PublicationPolicy
from manifest.flavours import Flavour, is_manifest
from manifest.kos import Manifest, ManifestError, read_manifest, write_kos
from manifest.model import Patient, Request, Study
from manifest.profile import default_profile
from metadata.affinity_domain import AffinityDomain, default_codes
from metadata.model import Submission
from metadata.validation import validate_submission

ENTRY = "urn:uuid:00000000-0000-4000-8000-000000000001"
ALL = tuple(Flavour)


@pytest.fixture
def everything(policy: PublicationPolicy) -> PublicationPolicy:
    """A policy of all families side by side."""
    return replace(policy, flavours=ALL, profile=default_profile())


@pytest.fixture
def bare(manifest: Manifest) -> Manifest:
    """A study of which the images say as little as they may."""
    study = Study(study_instance_uid="1.2.3", patient=Patient(patient_id="1"))
    return replace(manifest, study=study)


def test_the_usual_family_is_the_plain_kos(manifest: Manifest, policy: PublicationPolicy) -> None:
    (one,) = editions(manifest, policy, ENTRY)

    assert one.content == write_kos(manifest)
    assert one.entry.entry_uuid == ENTRY


def test_every_family_is_a_manifest_of_the_same_instances_under_its_own_name(
    manifest: Manifest, everything: PublicationPolicy
) -> None:
    made = editions(manifest, everything, ENTRY)

    assert [one.flavour for one in made] == list(ALL)
    assert all(is_manifest(one.entry) for one in made)
    assert len({one.entry.unique_id for one in made} | {one.entry.entry_uuid for one in made}) == 8
    for one in made:
        read = read_manifest(one.content)
        assert read.sop_instance_uid == one.entry.unique_id
        assert read.instance_count == manifest.instance_count


def test_entries_are_valid_in_the_shipped_domain(
    manifest: Manifest, everything: PublicationPolicy
) -> None:
    domain = AffinityDomain.from_mapping(
        {"assigning_authority": everything.assigning_authority, **default_codes()}
    )
    for one in editions(manifest, everything, ENTRY):
        faults = validate_submission(Submission(documents=[one.entry]), domain, "ITI-41")
        about_entry = [
            fault.message() for fault in faults if "SubmissionSet" not in fault.message()
        ]
        assert about_entry == []


def test_the_formats_are_told_apart_by_the_entry(
    manifest: Manifest, everything: PublicationPolicy
) -> None:
    kos, mado, fhir, national = (one.entry for one in editions(manifest, everything, ENTRY))

    assert kos.format_code == mado.format_code == national.format_code
    assert kos.mime_type == "application/dicom"
    assert fhir.mime_type == "application/fhir+json"
    assert fhir.format_code is not None
    assert fhir.format_code.code == "urn:ihe:rad:MADO:fhir-manifest:2026"


@pytest.mark.parametrize("flavour", [Flavour.MADO_KOS, Flavour.MADO_FHIR])
def test_what_mado_requires_is_filled_in(
    bare: Manifest, everything: PublicationPolicy, flavour: Flavour
) -> None:
    one = edition(bare, everything, flavour, ENTRY)
    read = read_manifest(one.content)

    assert read.patient.issuer_oid == everything.source_authority
    assert read.study.accession_number == made_up_accession("1.2.3")
    assert read.study.accession_issuer_oid == everything.source_authority
    assert read.study.institution == "Réseau d'imagerie"
    assert read.other_patient_ids == (("1", everything.assigning_authority),)
    assert read.series[0].region is not None
    assert read.series[0].region.code == "774007"
    references = [str(reference) for reference in one.entry.reference_id_list]
    assert any(made_up_accession("1.2.3") in reference for reference in references)


def test_a_made_up_accession_number_fits_and_is_always_the_same() -> None:
    assert len(made_up_accession("1.2.3")) == 16
    assert made_up_accession("1.2.3") == made_up_accession("1.2.3") != made_up_accession("1.2.4")


def test_every_accession_and_order_is_a_reference(
    manifest: Manifest, policy: PublicationPolicy
) -> None:
    second = Request("ACC-2", "", "ORD-1", "1.2.250.1.9.3")
    more = replace(manifest, study=replace(manifest.study, further_requests=(second,)))

    entry = edition(more, policy, Flavour.XDS_I, ENTRY).entry

    assert [reference.id for reference in entry.reference_id_list] == [
        "ACC-1",
        "ORD-1",  # one order, although both requests name it
        "ACC-2",
        manifest.study_instance_uid,
    ]


def test_names_and_time_do_not_change_what_is_said(
    manifest: Manifest, everything: PublicationPolicy
) -> None:
    assert manifest.created is not None
    later = replace(
        manifest,
        sop_instance_uid="2.25.99",
        series_instance_uid="2.25.98",
        created=manifest.created + timedelta(days=1),
    )

    assert content_hash(later, everything) == content_hash(manifest, everything)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest, policy: (replace(manifest, series=manifest.series[:1]), policy),
        lambda manifest, policy: (
            replace(manifest, study=replace(manifest.study, description="Other")),
            policy,
        ),
        lambda manifest, policy: (manifest, replace(policy, flavours=(Flavour.MADO_KOS,))),
        lambda manifest, policy: (manifest, replace(policy, language_code="en")),
    ],
    ids=["series", "description", "families", "codes of the entry"],
)
def test_whatever_is_said_differently_changes_the_hash(
    manifest: Manifest, policy: PublicationPolicy, change: object
) -> None:
    assert callable(change)
    assert content_hash(*change(manifest, policy)) != content_hash(manifest, policy)


def test_a_national_form_needs_its_profile(manifest: Manifest, policy: PublicationPolicy) -> None:
    with pytest.raises(ManifestError, match="profile"):
        edition(manifest, policy, Flavour.NATIONAL, ENTRY)
