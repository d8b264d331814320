"""The content rules: what the engine writes keeps them all, and each is broken by one fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from manifest.concepts import Known
from manifest.engine import edition
from manifest.entry import PublicationPolicy
from manifest.flavours import Flavour
from manifest.kos import Manifest, ManifestError
from manifest.library import concept_of, descriptors
from manifest.model import PatientIdentifier, Request
from manifest.profile import default_profile
from manifest.rules.content import all_series, entries, evidence, groups, libraries
from manifest.rules.judge import RULES, judge
from manifest.rules.rule import Family

ENTRY = "urn:uuid:00000000-0000-4000-8000-000000000001"
Break = Callable[[Dataset], object]


@pytest.fixture
def complete(manifest: Manifest) -> Manifest:
    """A manifest of which everything is known that MADO asks for."""
    series = (
        replace(
            one,
            retrieve_ae_title="KOSMOS",
            series_number=number,
            instances=tuple(
                replace(instance, instance_number=n, number_of_frames=2)
                for n, instance in enumerate(one.instances, 1)
            ),
        )
        for number, one in enumerate(manifest.series, 1)
    )
    return replace(manifest, series=tuple(series))


@pytest.fixture
def content(complete: Manifest, policy: PublicationPolicy) -> Callable[[Flavour], bytes]:
    whole = replace(policy, profile=default_profile())
    return lambda flavour: edition(complete, whole, flavour, ENTRY).content


def broken_rules(data: bytes) -> set[str]:
    return {rule.id for rule, _ in judge(data).all_faults()}


@pytest.mark.parametrize(
    ("flavour", "family"),
    [
        (Flavour.XDS_I, Family.XDS_I),
        (Flavour.NATIONAL, Family.XDS_I),
        (Flavour.MADO_KOS, Family.MADO_KOS),
        (Flavour.MADO_FHIR, Family.MADO_FHIR),
    ],
)
def test_what_the_engine_writes_keeps_every_rule(
    content: Callable[[Flavour], bytes], flavour: Flavour, family: Family
) -> None:
    judged = judge(content(flavour))

    assert judged.family is family
    assert [(rule.id, faults) for rule, faults in judged.all_faults()] == []


def test_several_requests_keep_the_rules_too(complete: Manifest, policy: PublicationPolicy) -> None:
    second = Request("ACC-2", "1.2.250.1.9.2", "ORD-2", "1.2.250.1.9.3")
    several = replace(complete, study=replace(complete.study, further_requests=(second,)))

    assert broken_rules(edition(several, policy, Flavour.MADO_KOS, ENTRY).content) == set()


def set_to(keyword: str, value: object) -> Break:
    return lambda dataset: setattr(dataset, keyword, value)


def without(keyword: str) -> Break:
    return lambda dataset: delattr(dataset, keyword)


def in_series(change: Break) -> Break:
    return lambda dataset: change(all_series(dataset)[0])


def in_request(change: Break) -> Break:
    return lambda dataset: change(dataset.ReferencedRequestSequence[0])


def in_group(change: Break) -> Break:
    return lambda dataset: change(groups(dataset)[0])


def in_entry(change: Break) -> Break:
    return lambda dataset: change(entries(groups(dataset)[0])[0])


def in_library(change: Break) -> Break:
    return lambda dataset: change(libraries(dataset)[0])


def dropping(keyword: str) -> Break:
    """Take the last item out of a sequence."""
    return lambda dataset: getattr(dataset, keyword).pop()


def doubling(keyword: str) -> Break:
    """Have the last item of a sequence twice."""
    return lambda dataset: getattr(dataset, keyword).append(getattr(dataset, keyword)[-1])


def unsaid(known: Known) -> Break:
    """Take what is said of a concept out of a content item."""

    def change(item: Dataset) -> None:
        kept = [one for one in item.ContentSequence if concept_of(one) is not known]
        item.ContentSequence = Sequence(kept)

    return change


def missaid(known: Known) -> Break:
    """Say a wrong number."""

    def change(item: Dataset) -> None:
        (said,) = [one for one in item.ContentSequence if concept_of(one) is known]
        said.MeasuredValueSequence[0].NumericValue = "0"

    return change


def other_study(dataset: Dataset) -> None:
    second = Dataset()
    second.StudyInstanceUID = "1.2.3.4.5"
    second.ReferencedSeriesSequence = Sequence([])
    evidence(dataset)  # there is one
    dataset.CurrentRequestedProcedureEvidenceSequence.append(second)


def lists_itself(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = (
        all_series(dataset)[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    )
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def one_at_the_top_of_several(dataset: Dataset) -> None:
    doubling("ReferencedRequestSequence")(dataset)
    second = Dataset()
    second.update(dataset.ReferencedRequestSequence[0])
    second.AccessionNumber = "OTHER"
    dataset.ReferencedRequestSequence[1] = second


KOS_BREAKS: list[tuple[str, Break]] = [
    ("K01", set_to("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2")),
    ("K02", lambda dataset: set_to("MediaStorageSOPInstanceUID", "1.2")(dataset.file_meta)),
    ("K03", set_to("Modality", "CT")),
    ("K04", without("ContentTemplateSequence")),
    ("K05", other_study),
    ("K06", in_series(set_to("ReferencedSOPSequence", []))),
    ("K07", in_series(doubling("ReferencedSOPSequence"))),
    ("K08", lists_itself),
    ("K09", in_series(set_to("SeriesInstanceUID", "1.02"))),
    ("K10", in_series(without("RetrieveLocationUID"))),
    ("K11", in_request(set_to("StudyInstanceUID", "1.2"))),
    ("K11", in_request(without("AccessionNumber"))),
    ("K11", without("ReferencedRequestSequence")),
    ("K12", in_series(dropping("ReferencedSOPSequence"))),
]
XDS_I_BREAKS: list[tuple[str, Break]] = [
    ("X01", lambda dataset: set_to("CodeValue", "113000")(dataset.ConceptNameCodeSequence[0])),
    ("X02", in_series(without("RetrieveAETitle"))),
    ("X03", dropping("ContentSequence")),
]
MADO_BREAKS: list[tuple[str, Break]] = [
    ("M01", without("ConceptNameCodeSequence")),
    ("M02", set_to("StudyInstanceUID", "1.2")),
    ("M03", set_to("StudyDate", "")),
    ("M04", set_to("StudyTime", "")),
    ("M05", set_to("Manufacturer", "")),
    ("M06", without("InstitutionName")),
    ("M07", without("TimezoneOffsetFromUTC")),
    ("M08", without("IssuerOfPatientIDQualifiersSequence")),
    ("M09", without("OtherPatientIDsSequence")),
    ("M10", doubling("ReferencedRequestSequence")),
    ("M11", set_to("AccessionNumber", "")),
    ("M11", one_at_the_top_of_several),
    ("M12", in_request(without("IssuerOfAccessionNumberSequence"))),
    ("M12", in_request(without("OrderPlacerIdentifierSequence"))),
    ("M13", dropping("ContentSequence")),
    ("M14", in_library(unsaid(Known.MODALITY))),
    ("M15", in_library(unsaid(Known.TARGET_REGION))),
    ("M16", in_library(missaid(Known.SERIES_COUNT))),
    ("M17", in_library(dropping("ContentSequence"))),
    ("M17", in_library(doubling("ContentSequence"))),
    ("M18", in_group(unsaid(Known.SERIES_NUMBER))),
    ("M19", in_group(missaid(Known.INSTANCE_COUNT))),
    ("M20", in_group(dropping("ContentSequence"))),
    ("M21", in_entry(unsaid(Known.INSTANCE_NUMBER))),
    ("M22", in_entry(missaid(Known.FRAME_COUNT))),
    ("M23", in_series(set_to("RetrieveURL", "https://x/studies/1/series/2"))),
]


def altered(data: bytes, change: Break) -> bytes:
    dataset = dcmread(BytesIO(data))
    buffer = BytesIO()
    with disable_value_validation():
        change(dataset)
        dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


@pytest.mark.parametrize(("rule", "change"), [*KOS_BREAKS, *XDS_I_BREAKS])
def test_a_fault_of_a_kos_breaks_its_rule(
    content: Callable[[Flavour], bytes], rule: str, change: Break
) -> None:
    assert rule in broken_rules(altered(content(Flavour.XDS_I), change))


@pytest.mark.parametrize(("rule", "change"), [*KOS_BREAKS, *MADO_BREAKS])
def test_a_fault_of_a_mado_kos_breaks_its_rule(
    content: Callable[[Flavour], bytes], rule: str, change: Break
) -> None:
    assert rule in broken_rules(altered(content(Flavour.MADO_KOS), change))


def study_of(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["entry"][0]["resource"]
    return found


def patient_of(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["entry"][1]["resource"]
    return found


FHIR_BREAKS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("F01", lambda bundle: bundle.update(resourceType="Basic")),
    ("F02", lambda bundle: bundle.pop("identifier")),
    ("F03", lambda bundle: bundle["entry"].pop(0)),
    ("F04", lambda bundle: study_of(bundle)["identifier"].pop(0)),
    ("F05", lambda bundle: study_of(bundle).pop("started")),
    ("F06", lambda bundle: study_of(bundle)["identifier"].pop()),
    ("F06", lambda bundle: study_of(bundle)["identifier"][1].pop("system")),
    ("F07", lambda bundle: patient_of(bundle)["identifier"][0].pop("system")),
    ("F07", lambda bundle: bundle["entry"].pop(1)),
    ("F08", lambda bundle: bundle["entry"].pop()),
    ("F09", lambda bundle: study_of(bundle).update(numberOfSeries=7)),
    ("F09", lambda bundle: study_of(bundle).update(numberOfInstances=7)),
    ("F09", lambda bundle: study_of(bundle)["series"][0].update(numberOfInstances=7)),
    ("F10", lambda bundle: study_of(bundle)["series"][0].pop("modality")),
    ("F11", lambda bundle: study_of(bundle)["series"][0].pop("endpoint")),
    ("F12", lambda bundle: study_of(bundle)["series"][0]["instance"][0].pop("sopClass")),
]


@pytest.mark.parametrize(("rule", "change"), FHIR_BREAKS)
def test_a_fault_of_a_bundle_breaks_its_rule(
    content: Callable[[Flavour], bytes], rule: str, change: Callable[[dict[str, Any]], object]
) -> None:
    bundle = json.loads(content(Flavour.MADO_FHIR))
    change(bundle)

    assert rule in broken_rules(json.dumps(bundle).encode())


def test_every_rule_has_a_fault_here_that_breaks_it() -> None:
    breaks = [*KOS_BREAKS, *XDS_I_BREAKS, *MADO_BREAKS, *FHIR_BREAKS]
    assert [rule.id for rule in RULES] == sorted({rule for rule, _ in breaks}, key=order)


def order(rule_id: str) -> int:
    return [rule.id for rule in RULES].index(rule_id)


def test_a_library_alone_makes_a_manifest_one_of_mado(
    content: Callable[[Flavour], bytes],
) -> None:
    dataset = dcmread(BytesIO(content(Flavour.MADO_KOS)))
    assert descriptors(libraries(dataset)[0])

    untitled = altered(content(Flavour.MADO_KOS), without("ConceptNameCodeSequence"))
    assert judge(untitled).family is Family.MADO_KOS


def test_a_thousand_faults_are_told_ten_times(
    complete: Manifest, policy: PublicationPolicy
) -> None:
    first = complete.series[0]
    wild = tuple(replace(first.instances[0], sop_instance_uid=f"1.0{n}") for n in range(1000))
    many = replace(complete, series=(replace(first, instances=wild),))

    told = dict(judge(edition(many, policy, Flavour.XDS_I, ENTRY).content).all_faults())

    assert [len(faults) for rule, faults in told.items() if rule.id == "K09"] == [10]


def test_no_fault_names_the_patient(complete: Manifest, policy: PublicationPolicy) -> None:
    whole = replace(complete, other_patient_ids=(PatientIdentifier("SECRET", ""),))
    data = altered(edition(whole, policy, Flavour.MADO_KOS, ENTRY).content, without("StudyDate"))

    told = [fault for _, faults in judge(data).all_faults() for fault in faults]

    assert told
    assert not any(word in fault for fault in told for word in ("PATTE", "SECRET", "2790351"))


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"DICM" * 40, bytes(300)])
def test_what_is_no_manifest_is_refused_or_breaks_the_first_rules(data: bytes) -> None:
    with suppress(ManifestError):
        assert broken_rules(data) & {"K01", "F01"}
