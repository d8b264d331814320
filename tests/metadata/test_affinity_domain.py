from __future__ import annotations

from typing import Any

import pytest

from metadata.affinity_domain import (
    CODE_SETS,
    MAX_RESULTS,
    AffinityDomain,
    DomainError,
    DomainInForce,
    default_codes,
)
from metadata.attributes import KINDS, Carrier
from metadata.datatypes import HD
from metadata.identifiers import DICOM_UID_SCHEME, KOS_FORMAT_CODE
from metadata.model import Code

OID = "1.2.250.1.213.1.4.10"


def domain(**settings: Any) -> AffinityDomain:
    return AffinityDomain.from_mapping({"assigning_authority": OID, **settings})


def test_a_domain_needs_only_its_assigning_authority() -> None:
    minimal = domain()
    assert minimal.assigning_authority == HD.of(OID)
    assert minimal.allows_code("classCode", Code("anything", "at all"))
    assert minimal.allows_mime_type("x/y")
    assert minimal.allows_language("tlh")
    assert minimal.allows_source("1.2.3")
    assert minimal.unknown_patient == "error"
    assert minimal.max_results == MAX_RESULTS


def test_the_authority_may_have_a_namespace() -> None:
    authority = domain(assigning_authority=f"REGION&{OID}&ISO").assigning_authority
    assert authority == HD("REGION", OID, "ISO")


def test_a_code_set_compares_code_and_scheme_and_nothing_else() -> None:
    some = domain(codes={"classCode": {"1.2": ["31 Imaging", "History and Physical\tNote"]}})
    assert some.allows_code("classCode", Code("31", "1.2"))
    assert some.allows_code("classCode", Code("History and Physical", "1.2"))
    assert not some.allows_code("classCode", Code("31", "1.3"))
    assert not some.allows_code("classCode", Code("32", "1.2"))
    assert some.allows_code("typeCode", Code("32", "1.2"))


def test_a_code_can_be_looked_up_with_its_display_name() -> None:
    codes = domain(codes={"typeCode": {"1.2": ["A Alpha", "B"]}}).code_sets["typeCode"]
    assert codes is not None
    alpha, beta = codes.find("A"), codes.find("B")
    assert alpha is not None
    assert beta is not None
    assert (alpha.scheme, alpha.display_name) == ("1.2", "Alpha")
    assert beta.display_name == "B"
    assert codes.find("C") is None


def test_types_and_languages_compare_without_case() -> None:
    some = domain(mime_types=["Text/XML"], languages=["fr-FR"])
    assert some.allows_mime_type("text/xml")
    assert not some.allows_mime_type("text/plain")
    assert some.allows_language("FR-fr")
    assert not some.allows_language("de")


def test_a_set_may_be_declared_open() -> None:
    some = domain(codes={"classCode": "open"}, mime_types="open", languages="open")
    assert some.allows_code("classCode", Code("x", "y"))
    assert some.allows_mime_type("x/y")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"asigning_authority": OID}, "did you mean assigning_authority"),
        ({}, "assigning_authority is missing"),
        ({"assigning_authority": "somewhere"}, "write an OID"),
        ({"assigning_authority": 12}, "write an OID"),
        ({"assigning_authority": OID, "codes": {"classcode": {}}}, "did you mean classCode"),
        ({"assigning_authority": OID, "codes": []}, "must be a table"),
        ({"assigning_authority": OID, "codes": {"classCode": "all"}}, 'or "open"'),
        ({"assigning_authority": OID, "codes": {"classCode": {"1.2": "31"}}}, "a list of codes"),
        ({"assigning_authority": OID, "codes": {"classCode": {"1.2": [31]}}}, "CODE display"),
        ({"assigning_authority": OID, "mime_types": "text/xml"}, "write a list"),
        ({"assigning_authority": OID, "languages": ["fr_FR"]}, "RFC 5646"),
        ({"assigning_authority": OID, "source_ids": ["here"]}, "OID"),
        ({"assigning_authority": OID, "unknown_patient": "ignore"}, '"error" or "empty"'),
        ({"assigning_authority": OID, "max_results": 0}, "at least 1"),
        ({"assigning_authority": OID, "max_results": True}, "whole number"),
        ({"assigning_authority": OID, "zzzzzz": 1}, "known are"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_remedy(
    settings: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(DomainError, match=remedy):
        AffinityDomain.from_mapping(settings)


def test_every_coded_attribute_can_have_a_code_set() -> None:
    coded = {row.vocabulary for kind in KINDS.values() for row in kind.carried_by(Carrier.CODE)}
    assert coded == set(CODE_SETS)


def test_the_codes_that_come_along_suit_a_french_imaging_manifest() -> None:
    french = domain(**default_codes())
    assert french.allows_mime_type("application/dicom")
    for name, code in {
        "classCode": Code("31", "1.2.250.1.213.1.1.4.1"),
        "typeCode": Code("IMG-KOS", "1.2.250.1.213.1.1.4.12"),
        "formatCode": Code(KOS_FORMAT_CODE, DICOM_UID_SCHEME),
        "confidentialityCode": Code("N", "2.16.840.1.113883.5.25"),
        "healthcareFacilityTypeCode": Code("SA01", "1.2.250.1.71.4.2.4"),
        "practiceSettingCode": Code("ETABLISSEMENT", "1.2.250.1.213.1.1.4.9"),
        "eventCodeList": Code("CT", "1.2.840.10008.2.16.4"),
        "contentTypeCode": Code("04", "1.2.250.1.213.2.2"),
    }.items():
        assert french.code_sets[name] is not None
        assert french.allows_code(name, code)
        assert not french.allows_code(name, Code("no such code", code.scheme))


def test_no_code_that_comes_along_is_written_twice() -> None:
    for schemes in default_codes()["codes"].values():
        for lines in schemes.values():
            codes = [line.split(" ")[0] for line in lines]
            assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (Code("31", "9.9"), "it has this code in scheme 1.2"),
        (Code("99", "1.2"), "of that scheme it has 31, 32, 33, 34, 35, 36, 37, 38 and 2 more"),
        (Code("99", "9.9"), "its schemes are 1.2, 1.3"),
    ],
)
def test_a_code_that_is_not_allowed_comes_with_a_remedy(code: Code, remedy: str) -> None:
    lines = {"1.2": [f"{number} x" for number in range(31, 41)], "1.3": ["1 y"]}
    some = domain(codes={"classCode": lines})
    assert some.code_remedy("classCode", code) == remedy


def test_types_and_languages_that_are_not_allowed_come_with_those_that_are() -> None:
    some = domain(mime_types=["text/xml", "image/png"], languages=["fr-FR"])
    assert some.mime_type_remedy() == "it has image/png, text/xml"
    assert some.language_remedy() == "it has fr-fr"


def test_each_policy_is_chosen_by_name() -> None:
    some = domain(unknown_patient="empty", merged_patient="empty", extra_metadata="warn")
    assert (some.unknown_patient, some.merged_patient) == ("empty", "empty")
    assert some.extra_metadata == "warn"
    with pytest.raises(DomainError, match="extra_metadata is 'drop': write"):
        domain(extra_metadata="drop")


def test_a_domain_in_force_stays_the_one_that_others_may_replace() -> None:
    in_force = DomainInForce(domain())
    assert DomainInForce.of(in_force) is in_force
    assert DomainInForce.of(in_force.current).current is in_force.current
