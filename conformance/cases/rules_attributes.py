"""Document Registry: every rule about attributes and codes, each broken by one message (C)."""

from __future__ import annotations

from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases import on_demand
from conformance.cases.rules_ebrim import NOBODY
from conformance.rules import RuleCases
from conformance.seen import Answer
from conformance.targets import NotRun
from conformance.text import Text
from metadata import catalogue as rules
from metadata.catalogue import Rule
from metadata.datatypes import DTM, OID
from metadata.identifiers import EMPTY_SHA1
from metadata.model import Author
from transactions.registry_response import RegistryResponse

CASES = RuleCases(Actor.REGISTRY_SUBMIT, "ITI-42", "registry patients")

UNLISTED_LANGUAGE = "tlh"
"""Klingon, which ISO 639 has and no affinity domain uses."""


def _entry(names: str, changes: dict[str, Any], bench: Bench) -> Answer[RegistryResponse]:
    patient = bench.patient()
    entry = bench.entry(patient, **changes)
    return bench.register(bench.submission(patient, entry)).naming(names)


LONG = "x" * 300
"""Longer than any value of a Slot may be (ebRIM's LongName, 256)."""

ATTRIBUTES: tuple[tuple[Rule, str, str, str, dict[str, Any]], ...] = (
    (
        rules.LOGICAL_ID,
        "A registration with a logicalID that is not its entryUUID",
        "Un enregistrement au logicalID autre que son entryUUID",
        "lid",
        {"logical_id": NOBODY},
    ),
    (
        rules.ATTRIBUTE_REQUIRED,
        "A DocumentEntry without typeCode",
        "Une fiche sans typeCode",
        "typeCode",
        {"type_code": None},
    ),
    (
        rules.ATTRIBUTE_TYPE,
        "A creationTime in another form",
        "Un creationTime d'une autre forme",
        "creationTime",
        {"creation_time": DTM("2026-03-01")},
    ),
    (
        rules.ATTRIBUTE_LENGTH,
        "A URI longer than a Slot may hold",
        "Une URI plus longue qu'un Slot",
        "URI",
        {"uri": LONG},
    ),
    (
        rules.AUTHOR_EMPTY,
        "An author who is only a role",
        "Un auteur qui n'est qu'un rôle",
        "author",
        {"author": [Author(role=["Author"])]},
    ),
    (
        rules.SERVICE_TIMES,
        "A service that begins after its end",
        "Un acte qui commence après sa fin",
        "serviceStartTime",
        {"service_start_time": DTM("20260302"), "service_stop_time": DTM("20260301")},
    ),
    (
        rules.SOURCE_PATIENT_INFO,
        "A sourcePatientInfo that names no PID field",
        "Un sourcePatientInfo sans champ PID",
        "sourcePatientInfo",
        {"source_patient_info": ["DUPONT^ANNE"]},
    ),
    (
        rules.SLOT_NAME,
        "An extra Slot whose name is no URN",
        "Un Slot supplémentaire dont le nom n'est pas une URN",
        "kitUnknown",
        {"extra_slots": {"kitUnknown": ["value"]}},
    ),
    (
        rules.OBJECT_TYPE_NOT_ALLOWED,
        "A DocumentEntry of an objectType that nobody knows",
        "Une fiche d'un objectType inconnu",
        NOBODY,
        {"object_type": NOBODY},
    ),
    (
        rules.LIMITED_METADATA,
        "A DocumentEntry marked as limited metadata",
        "Une fiche marquée comme métadonnées limitées",
        "limited",
        {"limited_metadata": True},
    ),
)
"""Rules about attributes: what is wrong, what the error must name, the wrong values."""

for _rule, _en, _fr, _names, _changes in ATTRIBUTES:
    CASES.breaking(_rule, _en, _fr, partial(_entry, _names, _changes))


def _code_not_allowed(bench: Bench) -> Answer[RegistryResponse]:
    code = bench.targets.unlisted_code("practiceSettingCode")
    return _entry(code.code, {"practice_setting_code": code}, bench)


def _mime_type_not_allowed(bench: Bench) -> Answer[RegistryResponse]:
    if bench.targets.domain.mime_types is None:
        raise NotRun(Text("every mime type is allowed", "tout type MIME est admis"))
    unlisted = "application/x-kit-unlisted"
    return _entry(unlisted, {"mime_type": unlisted}, bench)


def _language_not_allowed(bench: Bench) -> Answer[RegistryResponse]:
    if bench.targets.domain.languages is None:
        raise NotRun(Text("every language is allowed", "toute langue est admise"))
    return _entry("languageCode", {"language_code": UNLISTED_LANGUAGE}, bench)


def _source_not_permitted(bench: Bench) -> Answer[RegistryResponse]:
    if bench.targets.domain.source_ids is None:
        raise NotRun(Text("any source may submit", "toute source peut soumettre"))
    patient, source = bench.patient(), OID("2.25.404")
    return bench.register(bench.submission(patient, bench.entry(patient), source_id=source)).naming(
        source
    )


def _attribute_forbidden(bench: Bench) -> Answer[RegistryResponse]:
    patient = bench.patient()
    entry = on_demand.entry_of(bench, patient, hash=EMPTY_SHA1)
    return on_demand.register(bench, bench.submission(patient, entry)).naming("hash")


for _rule, _en, _fr, _breach, _needs in (
    (
        rules.CODE_NOT_ALLOWED,
        "A practiceSettingCode that the affinity domain does not use",
        "Un practiceSettingCode que le domaine d'affinité n'emploie pas",
        _code_not_allowed,
        "",
    ),
    (
        rules.MIME_TYPE_NOT_ALLOWED,
        "A mimeType that the affinity domain does not use",
        "Un mimeType que le domaine d'affinité n'emploie pas",
        _mime_type_not_allowed,
        "",
    ),
    (
        rules.LANGUAGE_NOT_ALLOWED,
        "A languageCode that the affinity domain does not use",
        "Un languageCode que le domaine d'affinité n'emploie pas",
        _language_not_allowed,
        "",
    ),
    (
        rules.SOURCE_NOT_PERMITTED,
        "A sourceId that may not submit",
        "Un sourceId qui n'a pas le droit de soumettre",
        _source_not_permitted,
        "",
    ),
    (
        rules.ATTRIBUTE_FORBIDDEN,
        "A hash in an On-Demand entry",
        "Une empreinte dans une fiche On-Demand",
        _attribute_forbidden,
        "on_demand",
    ),
):
    CASES.breaking(_rule, _en, _fr, _breach, needs=_needs)
