from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from metadata import catalogue, ebrim_reader, structure, validation
from metadata import identifiers as ids
from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import Fault, Rule
from metadata.datatypes import CX, DTM, OID, LocalizedString
from metadata.ebrim import read_objects, wrap, write_objects
from metadata.model import Association, Author, Code, Submission
from metadata.validation import validate_submission

Change = Callable[[Submission], None]
OTHER_DOCUMENT = "urn:uuid:55555555-5555-4555-8555-555555555555"
OUTSIDE = "urn:uuid:66666666-6666-4666-8666-666666666666"
SS = "urn:uuid:22222222-2222-4222-8222-222222222222"
DOC = "urn:uuid:11111111-1111-4111-8111-111111111111"
FOL = "urn:uuid:33333333-3333-4333-8333-333333333333"


def rule_names(faults: list[Fault]) -> list[str]:
    return [fault.rule.id for fault in faults]


def setting(kind: str, field: str, value: object) -> Change:
    """Gives every object of ``kind`` (a list of the Submission) another ``field``."""

    def change(submission: Submission) -> None:
        for obj in getattr(submission, kind):
            setattr(obj, field, value)

    return change


def adding(name: str, source: str, target: str, kind: str, **attributes: object) -> Change:
    def change(submission: Submission) -> None:
        link = Association(name, association_type=kind, source=source, target=target)
        for field, value in attributes.items():
            setattr(link, field, value)
        submission.associations.append(link)

    return change


def all_of(*changes: Change) -> Change:
    def change(submission: Submission) -> None:
        for one in changes:
            one(submission)

    return change


def without_links(submission: Submission) -> None:
    submission.associations.clear()


def emptied(submission: Submission) -> None:
    submission.documents.clear()
    submission.folders.clear()
    submission.associations.clear()


def without_submission_set(submission: Submission) -> None:
    submission.submission_sets.clear()


def with_the_same_unique_id(submission: Submission) -> None:
    submission.folders[0].unique_id = submission.documents[0].unique_id


def with_the_same_id(submission: Submission) -> None:
    submission.associations[1].entry_uuid = submission.associations[0].entry_uuid


def appending_to_a_transformation(submission: Submission) -> None:
    adding("transform", DOC, OUTSIDE, ids.XFRM)(submission)
    adding("append", DOC, DOC, ids.APND)(submission)
    other = read_objects(etree.fromstring(wrap(write_objects(submission)))).documents[0]
    other.entry_uuid, other.unique_id = OTHER_DOCUMENT, "1.2.3.4.5.9"
    submission.documents.append(other)
    submission.associations[-1].source = OTHER_DOCUMENT
    adding("as-other", SS, OTHER_DOCUMENT, ids.HAS_MEMBER, submission_set_status="Original")(
        submission
    )


OTHER_PATIENT = CX.of("PAT-2", "1.2.250.1.213.1.4.10")
FOREIGN_PATIENT = CX.of("PAT-1", "1.2.3")

# One way to break each rule in the model, applied to one document in a new folder.
MODEL_CASES: dict[Rule, Change] = {
    catalogue.ID_MISSING: setting("associations", "entry_uuid", ""),
    catalogue.ID_REPEATED: with_the_same_id,
    catalogue.LOGICAL_ID: setting("documents", "logical_id", OUTSIDE),
    catalogue.ATTRIBUTE_REQUIRED: setting("documents", "mime_type", None),
    catalogue.LIMITED_METADATA: setting("documents", "limited_metadata", True),
    catalogue.ATTRIBUTE_TYPE: setting("documents", "creation_time", DTM("20260230")),
    catalogue.ATTRIBUTE_LENGTH: setting("documents", "title", LocalizedString("x" * 128)),
    catalogue.AUTHOR_EMPTY: setting("documents", "author", [Author(role=["nurse"])]),
    catalogue.SERVICE_TIMES: setting("documents", "service_stop_time", DTM("2025")),
    catalogue.SOURCE_PATIENT_INFO: setting("documents", "source_patient_info", ["Doe^J"]),
    catalogue.SLOT_NAME: setting("documents", "extra_slots", {"myslot": ["x"]}),
    catalogue.CODE_NOT_ALLOWED: setting("documents", "class_code", Code("31", "1.2.3.5")),
    catalogue.MIME_TYPE_NOT_ALLOWED: setting("documents", "mime_type", "video/mp4"),
    catalogue.LANGUAGE_NOT_ALLOWED: setting("documents", "language_code", "de"),
    catalogue.SOURCE_NOT_PERMITTED: setting("submission_sets", "source_id", OID("1.2.3.98")),
    catalogue.OBJECT_TYPE_NOT_ALLOWED: setting("documents", "object_type", ids.ON_DEMAND),
    catalogue.SUBMISSION_SET_COUNT: without_submission_set,
    catalogue.SUBMISSION_EMPTY: emptied,
    catalogue.NOT_IN_SUBMISSION_SET: without_links,
    catalogue.SUBMISSION_SET_STATUS: setting("associations", "submission_set_status", None),
    catalogue.ASSOCIATION_TYPE: adding("odd", DOC, OUTSIDE, "HasMember"),
    catalogue.ASSOCIATION_TO_ITSELF: adding("loop", DOC, DOC, ids.APND),
    catalogue.ASSOCIATION_ENDS: adding("nested", FOL, SS, ids.HAS_MEMBER),
    catalogue.DOCUMENTATION_NOT_ALLOWED: setting("associations", "documentation", Code("a", "b")),
    catalogue.UNRESOLVED_SYMBOL: adding("lost", SS, "Document99", ids.HAS_MEMBER),
    catalogue.RELATIONSHIP_SOURCE: adding("relation", OUTSIDE, DOC, ids.APND),
    catalogue.RELATIONSHIP_TARGET_NEW: adding("relation", FOL, DOC, ids.RPLC),
    catalogue.MEMBERSHIP_NOT_IN_SUBMISSION_SET: adding("member2", FOL, OUTSIDE, ids.HAS_MEMBER),
    catalogue.APPEND_TO_TRANSFORMATION: appending_to_a_transformation,
    catalogue.UNIQUE_ID_REPEATED: with_the_same_unique_id,
    catalogue.PATIENT_DIFFERS: setting("folders", "patient_id", OTHER_PATIENT),
    catalogue.PATIENT_AUTHORITY: setting("documents", "patient_id", FOREIGN_PATIENT),
}

# The same for a submission of On-Demand entries.
ON_DEMAND_CASES: dict[Rule, Change] = {
    catalogue.ATTRIBUTE_FORBIDDEN: setting("documents", "size", "12"),
    catalogue.OBJECT_TYPE_NOT_ALLOWED: setting("documents", "object_type", ids.STABLE),
    catalogue.NO_ON_DEMAND_ENTRY: lambda submission: submission.documents.clear(),
}

_CLASS_CODE = f'classificationScheme="{ids.DE_CLASS_CODE}" nodeRepresentation="31"'
_NODE = f'classificationNode="{ids.FD_NODE}"'

# One replacement in the XML of the same submission that only the reader can see as a fault.
XML_CASES: dict[Rule, tuple[str, str]] = {
    catalogue.UNEXPECTED_ELEMENT: ("<rim:Association ", "<rim:Organization/><rim:Association "),
    catalogue.SLOT_UNNAMED: ('<rim:Slot name="size">', "<rim:Slot>"),
    catalogue.SLOT_REPEATED: ('name="URI"', 'name="hash"'),
    catalogue.SLOT_VALUES: ("1024</rim:Value>", "1024</rim:Value><rim:Value>2</rim:Value>"),
    catalogue.ATTRIBUTE_REPEATED: (ids.DE_TYPE_CODE, ids.DE_CLASS_CODE),
    catalogue.CLASSIFIED_OBJECT: (
        f'classifiedObject="{DOC}" {_CLASS_CODE}',
        f'classifiedObject="Document99" {_CLASS_CODE}',
    ),
    catalogue.CLASSIFICATION_NOT_EMBEDDED: (
        "</rim:RegistryObjectList>",
        f'<rim:Classification classificationScheme="{ids.DE_AUTHOR}" classifiedObject="{DOC}"/>'
        "</rim:RegistryObjectList>",
    ),
    catalogue.CLASSIFICATION_TARGET: (
        "</rim:RegistryObjectList>",
        f'<rim:Classification {_NODE} classifiedObject="Folder99"/></rim:RegistryObjectList>',
    ),
    catalogue.CODE_MISSING: ('nodeRepresentation="31"', ""),
    catalogue.CODING_SCHEME_MISSING: ('name="codingScheme"', 'name="scheme"'),
    catalogue.CODE_NAME_MISSING: ('value="name of 31"', 'value=""'),
    catalogue.IDENTIFIER_OBJECT: (f'registryObject="{DOC}"', 'registryObject="Document99"'),
    catalogue.IDENTIFIER_NAME: ("XDSDocumentEntry.uniqueId", "uniqueId"),
    catalogue.PACKAGE_UNCLASSIFIED: (_NODE, 'classificationNode="urn:uuid:0"'),
    catalogue.PACKAGE_AMBIGUOUS: (
        "</rim:RegistryObjectList>",
        f'<rim:Classification {_NODE} classifiedObject="{SS}"/></rim:RegistryObjectList>',
    ),
    catalogue.EXTRA_METADATA_NOT_SAVED: ('name="authorRole"', 'name="authorRank"'),
}


def rules_used_by(*modules: object) -> set[str]:
    """Ids of the rules that the source of ``modules`` names."""
    source = "".join(inspect.getsource(module) for module in modules)  # type: ignore[arg-type]
    names = set(re.findall(r"\brules\.([A-Z][A-Z_]+)\b", source))
    return {getattr(catalogue, name).id for name in names}


def assert_explained(faults: list[Fault]) -> None:
    """Every error names its object, its rule and where the rule is written."""
    for fault in faults:
        for transaction in ("ITI-41", "ITI-42"):
            error = fault.error(transaction)
            assert error.context.endswith(f"[{fault.rule.id}; {fault.rule.spec}]")
            assert fault.object_id in error.context


def test_a_good_submission_has_no_fault(with_folder: Submission, domain: AffinityDomain) -> None:
    assert validate_submission(with_folder, domain) == []


@pytest.mark.parametrize("rule", MODEL_CASES, ids=lambda rule: rule.id)
def test_a_broken_rule_is_reported(
    rule: Rule, with_folder: Submission, domain: AffinityDomain
) -> None:
    MODEL_CASES[rule](with_folder)
    faults = validate_submission(with_folder, domain)
    assert rule.id in rule_names(faults)
    assert_explained(faults)


@pytest.mark.parametrize("rule", XML_CASES, ids=lambda rule: rule.id)
def test_a_rule_broken_in_the_xml_is_reported(
    rule: Rule, with_folder: Submission, domain: AffinityDomain
) -> None:
    old, new = XML_CASES[rule]
    xml = wrap(write_objects(with_folder)).decode()
    assert old in xml
    submission = read_objects(etree.fromstring(xml.replace(old, new, 1)))
    faults = validate_submission(submission, domain)
    assert rule.id in rule_names(faults)
    assert_explained(faults)


def test_every_stateless_rule_has_a_case_here() -> None:
    stateless = rules_used_by(ebrim_reader, validation, structure)
    cases = (*MODEL_CASES, *XML_CASES, *ON_DEMAND_CASES)
    assert {rule.id for rule in cases} == stateless


def on_demand(submission: Submission) -> Submission:
    """The same submission with an entry for a document that is assembled when asked for."""
    for entry in submission.documents:
        entry.object_type = ids.ON_DEMAND
        entry.creation_time = entry.hash = entry.size = None
    return submission


def test_an_on_demand_entry_says_nothing_of_bytes(
    with_folder: Submission, domain: AffinityDomain
) -> None:
    assert validate_submission(on_demand(with_folder), domain, "ITI-61") == []


@pytest.mark.parametrize("rule", ON_DEMAND_CASES, ids=lambda rule: rule.id)
def test_a_broken_rule_of_on_demand_entries_is_reported(
    rule: Rule, with_folder: Submission, domain: AffinityDomain
) -> None:
    ON_DEMAND_CASES[rule](on_demand(with_folder))
    faults = validate_submission(with_folder, domain, "ITI-61")
    assert rule.id in rule_names(faults)
    assert {fault.error("ITI-61").code for fault in faults} == {"XDSRegistryMetadataError"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("creation_time", DTM("2026")),
        ("hash", "a" * 40),
        ("size", "0"),
        ("repository_unique_id", None),
        ("class_code", None),
    ],
)
def test_each_attribute_of_an_on_demand_entry_is_judged(
    field: str, value: object, with_folder: Submission, domain: AffinityDomain
) -> None:
    setting("documents", field, value)(on_demand(with_folder))
    assert len(validate_submission(with_folder, domain, "ITI-61")) == 1


@pytest.mark.parametrize("kind", ["submission_sets", "documents", "folders"])
@pytest.mark.parametrize("transaction", ["ITI-42", "ITI-61"])
def test_a_registry_takes_no_limited_metadata(
    kind: str, transaction: str, with_folder: Submission, domain: AffinityDomain
) -> None:
    submission = on_demand(with_folder) if transaction == "ITI-61" else with_folder
    setting(kind, "limited_metadata", True)(submission)
    faults = validate_submission(submission, domain, transaction)
    assert rule_names(faults) == ["limited-metadata"]
    assert faults[0].error(transaction).code == "XDSRegistryMetadataError"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(picks=st.lists(st.tuples(st.integers(0), st.integers(0)), min_size=1, max_size=6))
def test_no_damage_to_the_xml_makes_reading_or_judging_raise(
    picks: list[tuple[int, int]], with_folder: Submission, domain: AffinityDomain
) -> None:
    root = etree.fromstring(wrap(write_objects(with_folder)))
    for which, how in picks:
        elements = list(root.iterdescendants())
        if elements:
            damage(elements[which % len(elements)], how)
    assert_explained(validate_submission(read_objects(root), domain))


def damage(element: etree._Element, how: int) -> None:
    """Removes or doubles the element, empties it, or loses or spoils one of its attributes."""
    parent = element.getparent()
    names = sorted(str(name) for name in element.attrib)
    name = names[how // 5 % len(names)] if names else ""
    if how % 5 == 0 and parent is not None:
        parent.remove(element)
    elif how % 5 == 1:
        element.addnext(copy.deepcopy(element))
    elif how % 5 == 2:
        element.clear()
    elif name and how % 5 == 3:
        del element.attrib[name]
    elif name:
        element.set(name, "spoiled")


@pytest.mark.parametrize("size", ["9" * 19, "9" * 5000, "-1", "\u0661"])
def test_a_size_that_is_no_count_of_bytes_is_refused(
    size: str, one_document: Submission, domain: AffinityDomain
) -> None:
    one_document.documents[0].size = size
    names = rule_names(validate_submission(one_document, domain))
    assert catalogue.ATTRIBUTE_TYPE.id in names


@pytest.mark.parametrize(
    "change",
    [
        setting("documents", "title", LocalizedString("x", "en_US")),
        setting("documents", "type_code", Code("t", "1.2.3.4", LocalizedString("x", "en_US"))),
    ],
)
def test_a_text_in_a_language_that_the_schema_refuses_is_refused(
    change: Change, one_document: Submission, domain: AffinityDomain
) -> None:
    change(one_document)
    [fault] = [
        fault
        for fault in validate_submission(one_document, domain)
        if fault.rule is catalogue.ATTRIBUTE_TYPE
    ]
    assert "xml:lang is 'en_US'" in fault.message()


@pytest.mark.parametrize(
    "change",
    [
        setting("documents", "type_code", Code("x" * 257, "1.2", LocalizedString("x"))),
        setting("documents", "type_code", Code("t", "1" * 257, LocalizedString("x"))),
        setting("documents", "type_code", Code("t", "1.2", LocalizedString("x" * 1025))),
        setting("documents", "extra_slots", {"urn:x:" + "y" * 251: ["value"]}),
    ],
)
def test_no_text_is_longer_than_the_schema_allows(
    change: Change, one_document: Submission, domain: AffinityDomain
) -> None:
    change(one_document)
    assert catalogue.ATTRIBUTE_LENGTH.id in rule_names(validate_submission(one_document, domain))


def test_ten_faults_are_ten_errors(one_document: Submission, domain: AffinityDomain) -> None:
    entry, submission_set = one_document.documents[0], one_document.submission_sets[0]
    entry.mime_type = "video/mp4"
    entry.language_code = "de-DE"
    entry.hash = "xyz"
    entry.size = "big"
    entry.type_code = None
    entry.creation_time = DTM("soon")
    entry.source_patient_id = CX("LOCAL-7")
    entry.repository_unique_id = OID("not an oid")
    submission_set.submission_time = None
    submission_set.source_id = OID("1.2.3.98")
    errors = [fault.error("ITI-42") for fault in validate_submission(one_document, domain)]
    assert len(errors) == 10
    assert {error.code for error in errors} == {"XDSRegistryMetadataError"}
    assert len({error.context for error in errors}) == 10


REGISTRY_DEMANDS = {
    "documents": [
        "object_type mime_type creation_time hash language_code repository_unique_id size",
        "source_patient_id class_code confidentiality_code format_code type_code",
        "healthcare_facility_type_code practice_setting_code patient_id unique_id",
    ],
    "submission_sets": ["submission_time content_type_code patient_id source_id unique_id"],
    "folders": ["title code_list patient_id unique_id"],
}
DEMANDED = [
    (kind, field) for kind, lines in REGISTRY_DEMANDS.items() for field in " ".join(lines).split()
]


@pytest.mark.parametrize(("kind", "field"), DEMANDED)
def test_a_required_attribute_that_is_missing_is_named(
    kind: str, field: str, with_folder: Submission, domain: AffinityDomain
) -> None:
    for obj in getattr(with_folder, kind):
        setattr(obj, field, [] if isinstance(getattr(obj, field), list) else None)
    (fault,) = validate_submission(with_folder, domain)
    standard_name = "".join(word.capitalize() for word in field.split("_"))
    attribute = str(fault.details["attribute"])
    assert fault.rule is catalogue.ATTRIBUTE_REQUIRED
    assert attribute.partition(".")[2].lower() == standard_name.lower()


def test_what_the_repository_fills_in_is_not_asked_of_the_source(
    one_document: Submission, domain: AffinityDomain
) -> None:
    entry = one_document.documents[0]
    entry.hash = entry.size = entry.repository_unique_id = None
    assert validate_submission(one_document, domain, "ITI-41") == []
    assert len(validate_submission(one_document, domain, "ITI-42")) == 3


def test_an_empty_folder_alone_may_be_submitted(
    with_folder: Submission, domain: AffinityDomain
) -> None:
    with_folder.documents.clear()
    with_folder.associations[:] = [link for link in with_folder.associations if link.target == FOL]
    assert validate_submission(with_folder, domain) == []


@pytest.mark.parametrize(
    "change",
    [
        adding("rel", DOC, OUTSIDE, ids.RPLC),
        adding("rel", DOC, OUTSIDE, ids.XFRM_RPLC),
        adding("rel", DOC, OUTSIDE, ids.APND, documentation=Code("1", "1.2")),
        adding("rel", DOC, OUTSIDE, ids.IS_SNAPSHOT_OF),
        adding("rel", DOC, SS, ids.SIGNS),
        adding("ref", SS, OUTSIDE, ids.HAS_MEMBER, submission_set_status="Reference"),
        all_of(
            adding("old-folder", OUTSIDE, DOC, ids.HAS_MEMBER),
            adding("as-old-folder", SS, "old-folder", ids.HAS_MEMBER),
        ),
        setting("documents", "source_patient_info", ["PID-3|a~b", "PID-5|A^B^^^^^L~C^D^^^^^M"]),
        setting("documents", "logical_id", DOC),
        setting("documents", "availability_status", ids.DEPRECATED),
        setting("documents", "version", "7"),
        setting("documents", "patient_id", CX("PAT-1^^^&1.2.250.1.213.1.4.10&ISO^^")),
        setting("documents", "mime_type", "Application/PDF"),
        setting("documents", "title", LocalizedString("x" * 127)),
        setting("documents", "service_start_time", DTM("202601")),
    ],
)
def test_what_the_standard_allows_is_not_a_fault(
    change: Change, with_folder: Submission, domain: AffinityDomain
) -> None:
    change(with_folder)
    assert validate_submission(with_folder, domain) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (adding("x", DOC, OUTSIDE, ids.HAS_MEMBER), catalogue.ASSOCIATION_ENDS),
        (adding("x", FOL, FOL + "x", ids.HAS_MEMBER), catalogue.UNRESOLVED_SYMBOL),
        (adding("x", OUTSIDE, FOL, ids.HAS_MEMBER), catalogue.ASSOCIATION_ENDS),
        (adding("x", OUTSIDE, SS, ids.HAS_MEMBER), catalogue.ASSOCIATION_ENDS),
        (adding("x", OUTSIDE, "member", ids.HAS_MEMBER), catalogue.ASSOCIATION_ENDS),
        (adding("x", DOC, FOL, ids.APND), catalogue.ASSOCIATION_ENDS),
        (adding("x", DOC, SS, ids.APND), catalogue.ASSOCIATION_ENDS),
        (adding("x", "", DOC, ids.HAS_MEMBER), catalogue.ATTRIBUTE_REQUIRED),
        (adding("x", DOC, OUTSIDE, ids.UPDATE_AVAILABILITY_STATUS), catalogue.ASSOCIATION_TYPE),
        (
            adding("x", SS, OUTSIDE, ids.HAS_MEMBER, submission_set_status="Original"),
            catalogue.SUBMISSION_SET_STATUS,
        ),
        (setting("documents", "size", "-1"), catalogue.ATTRIBUTE_TYPE),
        (setting("documents", "hash", "abc"), catalogue.ATTRIBUTE_TYPE),
        (setting("documents", "mime_type", "pdf"), catalogue.ATTRIBUTE_TYPE),
        (setting("documents", "home_community_id", "1.2.3"), catalogue.ATTRIBUTE_TYPE),
        (setting("documents", "document_availability", "Online"), catalogue.ATTRIBUTE_TYPE),
        (setting("documents", "comments", LocalizedString("x" * 1025)), catalogue.ATTRIBUTE_LENGTH),
        (setting("documents", "uri", "x" * 257), catalogue.ATTRIBUTE_LENGTH),
        (setting("documents", "extra_slots", {"urn:a": ["x" * 257]}), catalogue.ATTRIBUTE_LENGTH),
        (setting("documents", "extra_slots", {"urn:ihe:mine": ["x"]}), catalogue.SLOT_NAME),
        (setting("folders", "code_list", [Code("x" * 257, "1.2")]), catalogue.ATTRIBUTE_LENGTH),
        (
            setting("documents", "source_patient_info", ["PID-7|2000", "PID-7|2001"]),
            catalogue.SOURCE_PATIENT_INFO,
        ),
        (
            setting("documents", "source_patient_info", ["PID-5|A^B~C^D"]),
            catalogue.SOURCE_PATIENT_INFO,
        ),
    ],
)
def test_what_the_standard_excludes_is_the_fault_it_says(
    change: Change, rule: Rule, with_folder: Submission, domain: AffinityDomain
) -> None:
    change(with_folder)
    assert rule.id in rule_names(validate_submission(with_folder, domain))
