"""Rules for MADO manifests in their KOS form: what they say beyond XDS-I.b (PS3.16 TID 1600)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydicom.dataset import Dataset

from manifest.concepts import Known
from manifest.library import Descriptors, concept_of, descriptors, text_of
from manifest.rules.content import (
    all_series,
    entries,
    groups,
    items_of,
    libraries,
    listed,
    referenced,
    studies,
)
from manifest.rules.rule import MADO_CONTENT, Family, Rules

RULES = Rules(Family.MADO_KOS)

_ACCESSION_ISSUER = "IssuerOfAccessionNumberSequence"


@RULES.rule(
    "M01",
    "The title is Manifest with Description",
    "Le titre est Manifest with Description",
    spec=MADO_CONTENT,
)
def _title(dataset: Dataset) -> Iterator[str]:
    if concept_of(dataset) is not Known.TITLE:
        yield "the document title is another"


@RULES.rule(
    "M02", "It is filed in its own study", "Il est classé dans son examen", spec=MADO_CONTENT
)
def _own_study(dataset: Dataset) -> Iterator[str]:
    if {text_of(dataset, "StudyInstanceUID")} != studies(dataset):
        yield "Study Instance UID is not that of the evidence sequence"


def _attribute(rule_id: str, keyword: str, en: str, fr: str) -> None:
    """A rule that an attribute must have a value."""

    @RULES.rule(rule_id, f"{en} is known", f"{fr} est renseigné", spec=MADO_CONTENT)
    def _known(dataset: Dataset) -> Iterator[str]:
        if not text_of(dataset, keyword):
            yield f"{keyword} is missing or empty"


_attribute("M03", "StudyDate", "Study Date", "Study Date")
_attribute("M04", "StudyTime", "Study Time", "Study Time")
_attribute("M05", "Manufacturer", "Manufacturer", "Manufacturer")
_attribute("M06", "InstitutionName", "Institution Name", "Institution Name")
_attribute("M07", "TimezoneOffsetFromUTC", "Timezone Offset From UTC", "Timezone Offset From UTC")


@RULES.rule(
    "M08",
    "The patient identifier has an issuer with an OID",
    "L'identifiant du patient a un émetteur avec OID",
    spec=MADO_CONTENT,
)
def _patient_issuer(dataset: Dataset) -> Iterator[str]:
    yield from _not_issued("Patient ID", dataset, "IssuerOfPatientIDQualifiersSequence")


@RULES.rule(
    "M09",
    "Other identifiers of the patient are given, with their issuers",
    "Les autres identifiants du patient sont donnés, avec leurs émetteurs",
    spec=MADO_CONTENT,
)
def _other_ids(dataset: Dataset) -> Iterator[str]:
    others = items_of(dataset, "OtherPatientIDsSequence")
    if not others:
        yield "Other Patient IDs Sequence has no item"
    for number, item in enumerate(others, 1):
        yield from _not_issued(f"other ID {number}", item, "IssuerOfPatientIDQualifiersSequence")


@RULES.rule(
    "M10",
    "Each pair of accession number and order has one item",
    "Chaque couple numéro d'accès et demande a un seul élément",
    spec=MADO_CONTENT,
)
def _pairs(dataset: Dataset) -> Iterator[str]:
    for pair, count in Counter(_pairs_of(dataset)).items():
        if not pair[0]:
            yield "a request has no accession number"
        if count > 1:
            yield f"a pair of accession number and order has {count} items"


@RULES.rule(
    "M11",
    "The accession number stands at the top if it is the only one",
    "Le numéro d'accès est en tête s'il est le seul",
    spec=MADO_CONTENT,
)
def _accession_at_top(dataset: Dataset) -> Iterator[str]:
    numbers = {accession for accession, _ in _pairs_of(dataset)}
    top = text_of(dataset, "AccessionNumber")
    if len(numbers) == 1 and top not in numbers:
        yield "the only accession number is not at the top"
    if len(numbers) > 1 and top:
        yield "one of several accession numbers is at the top"


@RULES.rule(
    "M12",
    "Accession numbers and orders have issuers with OIDs",
    "Numéros d'accès et demandes ont des émetteurs avec OID",
    spec=MADO_CONTENT,
)
def _request_issuers(dataset: Dataset) -> Iterator[str]:
    for number, item in enumerate(items_of(dataset, "ReferencedRequestSequence"), 1):
        if text_of(item, "AccessionNumber"):
            yield from _not_issued(f"accession number {number}", item, _ACCESSION_ISSUER)
        if text_of(item, "PlacerOrderNumberImagingServiceRequest"):
            yield from _not_issued(f"order {number}", item, "OrderPlacerIdentifierSequence")


@RULES.rule("M13", "There is one Image Library", "Il y a une Image Library", spec="PS3.16 TID 1600")
def _one_library(dataset: Dataset) -> Iterator[str]:
    count = len(libraries(dataset))
    if count != 1:
        yield f"there are {count} Image Libraries"


def _of_study(rule_id: str, known: Known, en: str, fr: str) -> None:
    """A rule that the library says something of the study."""

    @RULES.rule(rule_id, f"The library says {en}", f"La bibliothèque dit {fr}", spec=MADO_CONTENT)
    def _said(dataset: Dataset) -> Iterator[str]:
        for library in libraries(dataset):
            if known not in descriptors(library):
                yield f"{known.written.meaning} is not said of the study"


_of_study("M14", Known.MODALITY, "which modalities there are", "quelles modalités il y a")
_of_study("M15", Known.TARGET_REGION, "which regions are shown", "quelles régions sont montrées")


@RULES.rule(
    "M16",
    "The library says how many series there are",
    "La bibliothèque dit combien de séries il y a",
    spec=MADO_CONTENT,
)
def _series_count(dataset: Dataset) -> Iterator[str]:
    right = str(len(_series_uids(dataset)))
    for library in libraries(dataset):
        if descriptors(library).get(Known.SERIES_COUNT) != [right]:
            yield f"Number of Study Related Series is not {right}"


@RULES.rule(
    "M17",
    "Each listed series has one group",
    "Chaque série listée a un groupe",
    spec="PS3.16 TID 1600",
)
def _groups(dataset: Dataset) -> Iterator[str]:
    described = Counter(str(uid) for group in groups(dataset) for uid in _uid_of(group))
    for uid in sorted(_series_uids(dataset) | described.keys()):
        if described[uid] != 1 or uid not in _series_uids(dataset):
            yield f"series {uid} has {described[uid]} groups"


@RULES.rule(
    "M18",
    "Each group says the modality and number of its series",
    "Chaque groupe dit la modalité et le numéro de sa série",
    spec=MADO_CONTENT,
)
def _group_descriptors(dataset: Dataset) -> Iterator[str]:
    for number, group in enumerate(groups(dataset), 1):
        told = descriptors(group)
        for known in (Known.MODALITY, Known.SERIES_UID, Known.SERIES_NUMBER):
            if len(told.get(known, ())) != 1:
                yield f"group {number}: {known.written.meaning} is not said once"


@RULES.rule(
    "M19",
    "Each group says how many instances it has",
    "Chaque groupe dit combien d'instances il a",
    spec=MADO_CONTENT,
)
def _instance_count(dataset: Dataset) -> Iterator[str]:
    sizes = {text_of(one, "SeriesInstanceUID"): len(referenced(one)) for one in all_series(dataset)}
    for number, group in enumerate(groups(dataset), 1):
        told = descriptors(group)
        right = [str(sizes.get(str(uid), 0)) for uid in _uid_of(group)]
        if told.get(Known.INSTANCE_COUNT) != right:
            yield f"group {number}: Number of Series Related Instances is not that of the list"


@RULES.rule(
    "M20",
    "Each listed instance has one entry",
    "Chaque instance listée a une entrée",
    spec="PS3.16 TID 1601",
)
def _entries(dataset: Dataset) -> Iterator[str]:
    found = [uid for group in groups(dataset) for one in entries(group) for uid in referenced(one)]
    if Counter(found) != Counter(listed(dataset)):
        yield f"{len(found)} entries for {len(listed(dataset))} listed instances, or of others"


@RULES.rule(
    "M21",
    "Each entry says its instance number",
    "Chaque entrée dit son numéro d'instance",
    spec="PS3.16 TID 1601",
)
def _instance_numbers(dataset: Dataset) -> Iterator[str]:
    for group in groups(dataset):
        silent = [one for one in entries(group) if Known.INSTANCE_NUMBER not in descriptors(one)]
        if silent:
            yield f"{len(silent)} entries of a series have no Instance Number"


@RULES.rule(
    "M22",
    "Numbers of frames are numbers",
    "Les nombres d'images sont des nombres",
    spec="PS3.16 TID 1601",
)
def _frames(dataset: Dataset) -> Iterator[str]:
    for group in groups(dataset):
        for entry in entries(group):
            for count in descriptors(entry).get(Known.FRAME_COUNT, ()):
                if not str(count).isdigit() or int(str(count)) < 1:
                    yield "a Number of Frames is no positive number"


@RULES.rule(
    "M23",
    "The Retrieve URL of a series is the base of the service",
    "L'URL de récupération d'une série est la base du service",
    spec=MADO_CONTENT,
)
def _base_url(dataset: Dataset) -> Iterator[str]:
    for series in all_series(dataset):
        if "/studies/" in text_of(series, "RetrieveURL"):
            yield f"series {text_of(series, 'SeriesInstanceUID')} names more than the base"


def _not_issued(what: str, dataset: Dataset, keyword: str) -> Iterator[str]:
    """Whether the authority in a sequence has an OID (PS3.3 10.14)."""
    named = [
        (text_of(item, "UniversalEntityID") != "", text_of(item, "UniversalEntityIDType"))
        for item in items_of(dataset, keyword)
    ]
    if named != [(True, "ISO")]:
        yield f"{what}: no issuer with an OID (type ISO)"


def _pairs_of(dataset: Dataset) -> list[tuple[str, str]]:
    return [
        (text_of(one, "AccessionNumber"), text_of(one, "PlacerOrderNumberImagingServiceRequest"))
        for one in items_of(dataset, "ReferencedRequestSequence")
    ]


def _series_uids(dataset: Dataset) -> set[str]:
    return {text_of(one, "SeriesInstanceUID") for one in all_series(dataset)}


def _uid_of(group: Dataset) -> list[object]:
    told: Descriptors = descriptors(group)
    return list(told.get(Known.SERIES_UID, ()))
