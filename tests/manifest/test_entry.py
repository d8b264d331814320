"""The XDS entry of a manifest: each attribute from where RAD TF-3 4.68 says it comes."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifest.entry import Identifiers, PublicationPolicy, build_submission, document_entry
from manifest.flavours import Flavour
from manifest.kos import Manifest, ManifestError
from manifest.model import Patient, Study
from manifest.moments import time_zone_of
from metadata.affinity_domain import AffinityDomain, default_codes
from metadata.identifiers import HAS_MEMBER, RPLC, STABLE
from metadata.model import Code, DocumentEntry, Submission
from metadata.validation import validate_submission

ENTRY = "urn:uuid:00000000-0000-4000-8000-000000000001"
MODALITY_SCHEME = "1.2.840.10008.2.16.4"


def entry_of(manifest: Manifest, policy: PublicationPolicy, ids: Identifiers) -> DocumentEntry:
    (entry,) = submission_of(manifest, policy, ids).documents
    return entry


def submission_of(
    manifest: Manifest, policy: PublicationPolicy, ids: Identifiers, *replaced: str
) -> Submission:
    entry = document_entry(manifest, policy, Flavour.XDS_I, ENTRY)
    return build_submission(manifest.study, [entry], policy, ids, {ENTRY: replaced})


def test_the_entry_names_the_manifest_and_its_format(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    entry = entry_of(manifest, policy, identifiers)

    assert entry.unique_id == manifest.sop_instance_uid
    assert entry.object_type == STABLE
    assert entry.mime_type == "application/dicom"
    assert entry.format_code == Code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1")
    assert entry.title == "TDM crâne"
    assert entry.language_code == "fr-FR"
    assert (entry.hash, entry.size, entry.repository_unique_id) == (None, None, None)


def test_event_codes_are_acquisition_modalities_then_regions(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    entry = entry_of(manifest, policy, identifiers)

    assert entry.event_code_list == [
        Code("CT", MODALITY_SCHEME),
        Code("774007", "2.16.840.1.113883.6.96"),
    ]  # and no SR, which is no acquisition


def test_times_are_utc_across_midnight(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    entry = entry_of(manifest, policy, identifiers)

    assert entry.service_start_time == "20240703223000"
    assert entry.creation_time == "20240704071507"


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20240115", "083000", "20240115073000"),
        ("20240715", "083000", "20240715063000"),
        ("20240115", "0830", "202401150730"),
        ("2024.01.15", "08:30:00", "20240115073000"),
        ("20240115", "", "20240115"),
        ("20240115", "99", "20240115"),
        ("", "083000", None),
        ("20241340", "", None),
    ],
)
def test_service_time_follows_the_configured_zone_and_keeps_its_precision(
    manifest: Manifest,
    policy: PublicationPolicy,
    identifiers: Identifiers,
    date: str,
    time: str,
    expected: str | None,
) -> None:
    study = replace(manifest.study, date=date, time=time, timezone_offset="")
    paris = replace(policy, time_zone=ZoneInfo("Europe/Paris"))

    entry = entry_of(replace(manifest, study=study), paris, identifiers)

    assert entry.service_start_time == expected


@pytest.mark.parametrize(
    ("date", "offset"), [("00010101", "+0100"), ("99991231", "-0500")], ids=["first", "last"]
)
def test_a_date_at_the_edge_of_the_calendar_is_kept_without_its_time(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers, date: str, offset: str
) -> None:
    time = "000000" if offset[0] == "+" else "235900"
    study = replace(manifest.study, date=date, time=time, timezone_offset=offset)

    entry = entry_of(replace(manifest, study=study), policy, identifiers)

    assert entry.service_start_time == date


def test_a_manifest_made_in_winter_keeps_the_summer_zone_of_its_study() -> None:
    summer = Study(study_instance_uid="1.2", date="20240715", time="083000")
    offset = time_zone_of(summer, ZoneInfo("Europe/Paris")).utcoffset(None)

    assert offset is not None
    assert offset.total_seconds() == 2 * 3600


def test_patient_and_source_patient_are_told_apart(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    plain = replace(manifest.study, patient=Patient(patient_id="IPP^1", name="Durand^Anne"))

    entry = entry_of(replace(manifest, study=plain), policy, identifiers)

    assert entry.patient_id == "IPP\\S\\1^^^&1.2.250.1.213.1.4.10&ISO"
    assert entry.source_patient_id == "IPP\\S\\1^^^&1.2.250.1.9.5&ISO"
    assert entry.source_patient_info == [
        "PID-3|IPP\\S\\1^^^&1.2.250.1.9.5&ISO",
        "PID-5|Durand^Anne",
    ]


def test_the_name_is_put_in_the_order_of_hl7(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    entry = entry_of(manifest, policy, identifiers)

    assert "PID-5|PATTE^Doña^^Jr^Dr" in entry.source_patient_info
    assert "PID-7|19790328" in entry.source_patient_info
    assert "PID-8|F" in entry.source_patient_info


def test_long_names_are_cut_before_they_are_escaped(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    patient = replace(manifest.patient, name="&" * 100, birth_date="unknown")
    study = replace(manifest.study, patient=patient, institution="|" * 100)

    entry = entry_of(replace(manifest, study=study), policy, identifiers)

    assert [str(one) for one in entry.author[0].institution] == ["\\F\\" * 64]
    assert "PID-5|" + "\\T\\" * 64 in entry.source_patient_info
    assert not any(info.startswith("PID-7") for info in entry.source_patient_info)


def test_a_patient_id_of_another_authority_is_not_published(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    foreign = replace(policy, assigning_authority="1.2.3.4")

    with pytest.raises(ManifestError, match=r"1\.2\.250\.1\.213\.1\.4\.10"):
        submission_of(manifest, foreign, identifiers)

    trusting = replace(foreign, same_authorities=frozenset({"1.2.250.1.213.1.4.10"}))
    entry = entry_of(manifest, trusting, identifiers)
    assert entry.patient_id == "279035121518989^^^&1.2.3.4&ISO"
    assert entry.source_patient_id == "279035121518989^^^&1.2.250.1.213.1.4.10&ISO"


def test_a_study_without_patient_id_is_not_published(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    anonymous = replace(manifest, study=replace(manifest.study, patient=Patient()))

    with pytest.raises(ManifestError, match="no Patient ID"):
        submission_of(anonymous, policy, identifiers)


def test_references_are_accession_order_and_study(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    assert entry_of(manifest, policy, identifiers).reference_id_list == [
        "ACC-1^^^&1.2.250.1.9.2&ISO^urn:ihe:iti:xds:2013:accession",
        "ORD-1^^^&1.2.250.1.9.3&ISO^urn:ihe:iti:xds:2013:order",
        "1.2.826.0.1.9.1^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
    ]


def test_a_number_without_issuer_belongs_to_the_source(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    study = replace(manifest.study, accession_issuer_oid="", placer_order_number="")

    entry = entry_of(replace(manifest, study=study), policy, identifiers)

    assert entry.reference_id_list[0] == "ACC-1^^^&1.2.250.1.9.5&ISO^urn:ihe:iti:xds:2013:accession"
    assert len(entry.reference_id_list) == 2


def test_the_submission_set_contains_the_entry(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    submission = submission_of(manifest, policy, identifiers)
    (submission_set,) = submission.submission_sets
    (member,) = submission.associations

    assert submission_set.unique_id == "2.25.13"
    assert submission_set.source_id == policy.source_id
    assert submission_set.submission_time == "20240704071507"
    assert submission_set.author[0].institution == ["CHU Bordeaux"]
    assert member.association_type == HAS_MEMBER
    assert (member.source, member.target) == (submission_set.entry_uuid, ENTRY)
    assert member.submission_set_status == "Original"


def test_a_later_manifest_replaces_the_earlier_entry(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    previous = "urn:uuid:00000000-0000-4000-8000-00000000000f"

    submission = submission_of(manifest, policy, identifiers, previous)

    replacement = submission.associations[-1]
    assert replacement.association_type == RPLC
    assert (replacement.source, replacement.target) == (ENTRY, previous)


def test_the_entry_is_valid_in_the_french_domain(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    domain = AffinityDomain.from_mapping(
        {"assigning_authority": policy.assigning_authority, **default_codes()}
    )
    submission = submission_of(manifest, policy, identifiers)

    faults = validate_submission(submission, domain, "ITI-41")

    assert [fault.message() for fault in faults] == []


def test_the_same_arguments_make_the_same_submission(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> None:
    first = submission_of(manifest, policy, identifiers)

    assert submission_of(manifest, policy, identifiers) == first


_text = st.text(max_size=80)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=_text, description=_text, date=_text, time=_text, offset=_text, accession=_text)
def test_no_text_of_a_modality_stops_a_publication(
    manifest: Manifest,
    policy: PublicationPolicy,
    identifiers: Identifiers,
    name: str,
    description: str,
    date: str,
    time: str,
    offset: str,
    accession: str,
) -> None:
    study = Study(
        study_instance_uid="1.2.3",
        patient=Patient(patient_id="1", name=name, sex="X"),
        date=date,
        time=time,
        timezone_offset=offset,
        description=description,
        accession_number=accession,
    )

    entry = entry_of(replace(manifest, study=study), policy, identifiers)

    assert len(entry.title or "") < 128
    assert all(len(info) <= 256 for info in entry.source_patient_info)
    assert entry.service_start_time is None or entry.service_start_time.problem() is None
