from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from metadata import identifiers as ids
from metadata.attributes import KINDS, Carrier
from metadata.datatypes import (
    CX,
    DTM,
    OID,
    XCN,
    XON,
    XTN,
    CXi,
    LocalizedString,
    Recipient,
    is_uuid_urn,
)
from metadata.ebrim import (
    object_ref,
    read_fragment,
    read_objects,
    wrap,
    write_object,
    write_objects,
)
from metadata.model import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
    changed,
)

# Any text XML 1.0 can carry, metacharacters and line ends likely.
CHARACTERS = st.one_of(
    st.sampled_from("&<>\"'\r\n\t ]^|\\\u00a0\u0085\u2028\U0001f9b4"),
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
)
TEXTS = st.text(CHARACTERS, max_size=20)
VALUES = TEXTS.filter(lambda text: text != "" and text == text.strip(" \t\r\n"))
LANGUAGES = st.one_of(st.none(), st.sampled_from(["fr", "fr-CH", "en-us"]))
LOCALIZED = st.builds(LocalizedString, TEXTS, LANGUAGES)
NAMED = st.builds(LocalizedString, TEXTS.filter(bool), LANGUAGES)
CODES = st.builds(Code, VALUES, VALUES, NAMED)
UUIDS = st.uuids().map(lambda value: value.urn)
IDS = st.one_of(UUIDS, VALUES)


def typed(kind: Callable[[str], str]) -> st.SearchStrategy[str]:
    return VALUES.map(kind)


def some(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(strategy, max_size=2)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


AUTHORS = st.builds(
    Author,
    person=maybe(typed(XCN)),
    institution=some(typed(XON)),
    role=some(VALUES),
    specialty=some(VALUES),
    telecommunication=some(typed(XTN)),
)
REGISTRY_OBJECT = {
    "entry_uuid": IDS,
    "home_community_id": maybe(VALUES),
    "availability_status": maybe(st.sampled_from([ids.APPROVED, ids.DEPRECATED])),
    "extra_slots": st.dictionaries(VALUES.map("urn:x:{}".format), some(TEXTS.map(str.strip))),
}
DESCRIBED = {
    **REGISTRY_OBJECT,
    "unique_id": maybe(VALUES),
    "patient_id": maybe(typed(CX)),
    "title": maybe(LOCALIZED),
    "comments": maybe(LOCALIZED),
    "limited_metadata": st.booleans(),
    "logical_id": maybe(UUIDS),
    "version": maybe(st.integers(1, 999).map(str)),
}
DOCUMENTS = st.builds(
    DocumentEntry,
    **DESCRIBED,
    object_type=maybe(st.sampled_from([ids.STABLE, ids.ON_DEMAND])),
    mime_type=maybe(VALUES),
    author=some(AUTHORS),
    class_code=maybe(CODES),
    type_code=maybe(CODES),
    format_code=maybe(CODES),
    healthcare_facility_type_code=maybe(CODES),
    practice_setting_code=maybe(CODES),
    confidentiality_code=some(CODES),
    event_code_list=some(CODES),
    creation_time=maybe(typed(DTM)),
    service_start_time=maybe(typed(DTM)),
    service_stop_time=maybe(typed(DTM)),
    language_code=maybe(VALUES),
    legal_authenticator=maybe(typed(XCN)),
    source_patient_id=maybe(typed(CX)),
    source_patient_info=some(VALUES),
    reference_id_list=some(typed(CXi)),
    repository_unique_id=maybe(typed(OID)),
    hash=maybe(VALUES),
    size=maybe(VALUES),
    uri=maybe(VALUES.map("file:{}".format)),
    document_availability=maybe(VALUES),
)
PACKAGE = {**DESCRIBED, "unique_id": maybe(typed(OID))}
SUBMISSION_SETS = st.builds(
    SubmissionSet,
    **PACKAGE,
    author=some(AUTHORS),
    content_type_code=maybe(CODES),
    intended_recipient=some(typed(Recipient)),
    source_id=maybe(typed(OID)),
    submission_time=maybe(typed(DTM)),
)
FOLDERS = st.builds(Folder, **PACKAGE, code_list=some(CODES), last_update_time=maybe(typed(DTM)))
ASSOCIATIONS = st.builds(
    Association,
    **REGISTRY_OBJECT,
    association_type=VALUES,
    source=IDS,
    target=IDS,
    submission_set_status=maybe(VALUES),
    documentation=maybe(CODES),
    previous_version=maybe(VALUES),
    association_propagation=maybe(VALUES),
    original_status=maybe(VALUES),
    new_status=maybe(VALUES),
)
SUBMISSIONS = st.builds(
    Submission,
    submission_sets=some(SUBMISSION_SETS),
    documents=some(DOCUMENTS),
    folders=some(FOLDERS),
    associations=some(ASSOCIATIONS),
    object_refs=some(IDS),
)
Exact = Callable[[object], object]


# Generating a whole submission is slow the first time; the codec is not what is timed here.
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(submission=SUBMISSIONS)
def test_what_is_written_is_read_back_exactly(submission: Submission, exact: Exact) -> None:
    copy = read_objects(etree.fromstring(wrap(write_objects(submission))))
    assert copy.faults == []
    assert exact(copy) == exact(submission)


def test_a_full_submission_survives(
    with_folder: Submission, reread: Callable[[Submission], Submission], exact: Exact
) -> None:
    assert exact(reread(with_folder)) == exact(with_folder)


def test_a_changed_copy_differs_in_what_was_named_alone(with_folder: Submission) -> None:
    for obj in with_folder.objects():
        before = replace(obj)
        assert changed(obj, entry_uuid="another") == replace(obj, entry_uuid="another")
        assert obj == before


def test_writing_twice_gives_the_same_bytes(with_folder: Submission) -> None:
    first = write_objects(with_folder)
    assert write_objects(with_folder) == first
    again = read_objects(etree.fromstring(wrap(first)))
    assert write_objects(again) == [*first]


def test_canonical_ebrim_follows_the_schema(
    with_folder: Submission, rim_schema: etree.XMLSchema
) -> None:
    entry = with_folder.documents[0]
    entry.limited_metadata = True
    entry.logical_id, entry.version = entry.entry_uuid, "2"
    entry.availability_status = ids.APPROVED
    entry.home_community_id = "urn:oid:1.2.3"
    entry.document_availability = ids.ONLINE
    with_folder.folders[0].last_update_time = DTM("20260101120000")
    with_folder.folders[0].comments = LocalizedString("all of it", "en")
    relation = Association("rel", association_type=ids.APND, source="a", target="b")
    relation.documentation = Code("1", "1.2", LocalizedString("why"))
    with_folder.associations.append(relation)
    with_folder.object_refs.append("urn:uuid:44444444-4444-4444-8444-444444444444")
    rim_schema.assertValid(etree.fromstring(wrap(write_objects(with_folder))))


def test_every_attribute_of_the_model_has_a_carrier() -> None:
    for model, kind in KINDS.items():
        assert is_dataclass(model)
        names = {field.name for field in fields(model)}
        assert {row.field for row in kind.attributes} == names - {"extra_slots"}


def test_names_of_external_identifiers_are_the_standards() -> None:
    names = {
        row.identifier_name
        for kind in KINDS.values()
        for row in kind.carried_by(Carrier.IDENTIFIER)
    }
    assert names == {
        "XDSDocumentEntry.patientId",
        "XDSDocumentEntry.uniqueId",
        "XDSSubmissionSet.patientId",
        "XDSSubmissionSet.sourceId",
        "XDSSubmissionSet.uniqueId",
        "XDSFolder.patientId",
        "XDSFolder.uniqueId",
    }


def test_children_of_a_registered_object_have_distinct_uuids(one_document: Submission) -> None:
    element = etree.fromstring(wrap([write_object(one_document.documents[0])]))
    found = [one.get("id") for one in element.iterdescendants() if one.get("id") is not None]
    assert len(found) == len(set(found)) > 10
    assert all(is_uuid_urn(one or "") for one in found)


def test_a_long_symbolic_id_full_of_metacharacters_is_escaped_everywhere(
    one_document: Submission, exact: Exact
) -> None:
    entry = one_document.documents[0]
    entry.entry_uuid = '"<&>' * 9 + "0001"  # its tail looks like the last digits of a UUID
    assert exact(read_fragment(write_object(entry))) == exact(entry)


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1f", "\ufffe", "\uffff", "\ud800"])
def test_text_that_xml_cannot_carry_is_refused(character: str, one_document: Submission) -> None:
    one_document.documents[0].title = LocalizedString(f"bad{character}title")
    with pytest.raises(ValueError, match=r"character|surrogates"):
        write_object(one_document.documents[0])


def test_a_fragment_reads_back_as_its_object(one_document: Submission, exact: Exact) -> None:
    for obj in one_document.objects():
        assert exact(read_fragment(write_object(obj))) == exact(obj)


def test_a_fragment_without_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="one registry object"):
        read_fragment(b"")


def test_a_reference_names_its_community_if_it_has_one() -> None:
    assert object_ref("urn:uuid:1") == b'<rim:ObjectRef id="urn:uuid:1"/>'
    assert object_ref("a", "urn:oid:1.2") == b'<rim:ObjectRef id="a" home="urn:oid:1.2"/>'
