"""Rules for MADO manifests in their FHIR form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from manifest.fhir import ACCESSION, DICOM_UID_SYSTEM
from manifest.fhir_reading import element, elements, is_of_type, text
from manifest.rules.rule import MADO_CONTENT, Family, Rules

RULES = Rules(Family.MADO_FHIR)

Bundle = dict[str, Any]
_R4_AND_R5 = "FHIR ImagingStudy"


@RULES.rule("F01", "The resource is a Bundle", "La ressource est un Bundle", spec=MADO_CONTENT)
def _bundle(bundle: Bundle) -> Iterator[str]:
    if text(bundle, "resourceType") != "Bundle":
        yield "resourceType is not Bundle"


@RULES.rule("F02", "The bundle has an identifier", "Le Bundle a un identifiant", spec=MADO_CONTENT)
def _identifier(bundle: Bundle) -> Iterator[str]:
    if not text(element(bundle, "identifier"), "value"):
        yield "Bundle.identifier is missing"


@RULES.rule("F03", "It is about one study", "Il porte sur un seul examen", spec=MADO_CONTENT)
def _one_study(bundle: Bundle) -> Iterator[str]:
    count = len(_resources(bundle, "ImagingStudy"))
    if count != 1:
        yield f"the bundle has {count} ImagingStudy resources"


@RULES.rule(
    "F04",
    "The study has its Study Instance UID",
    "L'examen a son Study Instance UID",
    spec=_R4_AND_R5,
)
def _study_uid(bundle: Bundle) -> Iterator[str]:
    for study in _resources(bundle, "ImagingStudy"):
        named = [
            text(one, "value")
            for one in elements(study, "identifier")
            if text(one, "system") == DICOM_UID_SYSTEM
        ]
        if len(named) != 1 or not named[0].startswith("urn:oid:"):
            yield "no identifier of system urn:dicom:uid that is urn:oid:..."


@RULES.rule(
    "F05", "The study says when it began", "L'examen dit quand il a commencé", spec=MADO_CONTENT
)
def _started(bundle: Bundle) -> Iterator[str]:
    for study in _resources(bundle, "ImagingStudy"):
        if not text(study, "started"):
            yield "ImagingStudy.started is missing"


@RULES.rule(
    "F06",
    "The study has an accession number, with its issuer",
    "L'examen a un numéro d'accès, avec son émetteur",
    spec=MADO_CONTENT,
)
def _accession(bundle: Bundle) -> Iterator[str]:
    for study in _resources(bundle, "ImagingStudy"):
        named = [one for one in elements(study, "identifier") if is_of_type(one, ACCESSION)]
        if not named:
            yield "no identifier of type ACSN"
        if any(not text(one, "system") for one in named):
            yield "an accession number has no system"


@RULES.rule(
    "F07",
    "The patient's identifiers have issuers",
    "Les identifiants du patient ont des émetteurs",
    spec=MADO_CONTENT,
)
def _patient(bundle: Bundle) -> Iterator[str]:
    patients = _resources(bundle, "Patient")
    if len(patients) != 1:
        yield f"the bundle has {len(patients)} Patient resources"
    for patient in patients:
        named = elements(patient, "identifier")
        if not named or any(not text(one, "system") for one in named):
            yield "Patient.identifier is missing, or one has no system"


@RULES.rule(
    "F08",
    "Every reference leads to a resource of the bundle",
    "Chaque référence mène à une ressource du Bundle",
    spec="FHIR Bundle",
)
def _references(bundle: Bundle) -> Iterator[str]:
    known = {text(entry, "fullUrl") for entry in elements(bundle, "entry")}
    for entry in elements(bundle, "entry"):
        resource = element(entry, "resource")
        known.add(f"{text(resource, 'resourceType')}/{text(resource, 'id')}")
        known.update(f"#{text(one, 'id')}" for one in elements(resource, "contained"))
    for name in sorted(set(_referred(bundle)) - known):
        if "/".join(name.split("/")[-2:]) not in known:
            yield f"{name[:100]} leads nowhere"


@RULES.rule(
    "F09",
    "Series and instances are as many as it says",
    "Séries et instances sont aussi nombreuses qu'il le dit",
    spec=_R4_AND_R5,
)
def _counts(bundle: Bundle) -> Iterator[str]:
    for study in _resources(bundle, "ImagingStudy"):
        series = elements(study, "series")
        sizes = [len(elements(one, "instance")) for one in series]
        if study.get("numberOfSeries") != len(series):
            yield "numberOfSeries is not that of the list"
        if study.get("numberOfInstances") != sum(sizes):
            yield "numberOfInstances is not that of the list"
        for number, (one, size) in enumerate(zip(series, sizes, strict=True), 1):
            if one.get("numberOfInstances") != size:
                yield f"series {number}: numberOfInstances is not that of the list"


@RULES.rule(
    "F10",
    "Every series has UID, modality and an instance",
    "Chaque série a un UID, une modalité et une instance",
    spec=_R4_AND_R5,
)
def _series(bundle: Bundle) -> Iterator[str]:
    for number, one in enumerate(_all_series(bundle), 1):
        if not text(one, "uid") or not one.get("modality") or not elements(one, "instance"):
            yield f"series {number}: uid, modality or instance is missing"


@RULES.rule(
    "F11",
    "Every series says where it is",
    "Chaque série dit où elle est",
    spec=MADO_CONTENT,
)
def _endpoints(bundle: Bundle) -> Iterator[str]:
    for number, one in enumerate(_all_series(bundle), 1):
        if not elements(one, "endpoint"):
            yield f"series {number}: endpoint is missing"


@RULES.rule(
    "F12",
    "Every instance has UID and SOP class",
    "Chaque instance a un UID et une classe SOP",
    spec=_R4_AND_R5,
)
def _instances(bundle: Bundle) -> Iterator[str]:
    for number, series in enumerate(_all_series(bundle), 1):
        for one in elements(series, "instance"):
            code = text(element(one, "sopClass"), "code")
            if not text(one, "uid") or not code.startswith("urn:oid:"):
                yield f"series {number}: an instance has no uid or no sopClass urn:oid:..."


def _resources(bundle: Bundle, kind: str) -> list[Bundle]:
    found = (element(entry, "resource") for entry in elements(bundle, "entry"))
    return [one for one in found if text(one, "resourceType") == kind]


def _all_series(bundle: Bundle) -> list[Bundle]:
    studies = _resources(bundle, "ImagingStudy")
    return [series for study in studies for series in elements(study, "series")]


def _referred(value: Any) -> Iterator[str]:
    """The references anywhere in a value, without recursion: its depth is not ours."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
            if isinstance(one.get("reference"), str):
                yield one["reference"]
