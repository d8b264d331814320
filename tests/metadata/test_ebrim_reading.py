from __future__ import annotations

from collections.abc import Callable

import pytest
from lxml import etree

from metadata import identifiers as ids
from metadata.ebrim import (
    external_identifier,
    get_slot,
    read_objects,
    set_slot,
    wrap,
    write_object,
    write_objects,
)
from metadata.model import Submission

Reread = Callable[[Submission], Submission]


def read(inside: str) -> Submission:
    return read_objects(etree.fromstring(f'<list xmlns:r="{ids.RIM}">{inside}</list>'))


def messages(submission: Submission) -> list[str]:
    return [fault.message() for fault in submission.faults]


def test_any_prefix_and_any_order_of_children_is_understood() -> None:
    submission = read(
        f"""<ExtrinsicObject xmlns="{ids.RIM}" id="D" mimeType=" text/xml ">
        <!-- a remark --><?process me?>
        <Name><LocalizedString value="Title"/></Name>
        <Slot name="size"><ValueList><Value> 12
        </Value></ValueList></Slot></ExtrinsicObject>"""
    )
    (entry,) = submission.documents
    assert (entry.mime_type, entry.title, entry.size) == ("text/xml", "Title", "12")
    assert submission.faults == []


def test_a_value_interrupted_by_a_comment_is_read_whole() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D"><r:Slot name="hash"><r:ValueList>'
        "<r:Value>ab<!-- c -->cd</r:Value></r:ValueList></r:Slot></r:ExtrinsicObject>"
    )
    assert submission.documents[0].hash == "abcd"


def test_a_package_may_be_classified_beside_itself() -> None:
    submission = read(
        '<r:RegistryPackage id="S"/>'
        f'<r:Classification classifiedObject="S" classificationNode="{ids.SS_NODE}"/>'
        '<r:RegistryPackage id="F"/>'
        f'<r:Classification classifiedObject="F" classificationNode="{ids.FD_NODE}"/>'
    )
    assert [one.entry_uuid for one in submission.submission_sets] == ["S"]
    assert [one.entry_uuid for one in submission.folders] == ["F"]
    assert submission.faults == []


def test_limited_metadata_may_be_declared_beside_the_object() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D"/>'
        f'<r:Classification classifiedObject="D" classificationNode="{ids.DE_LIMITED_METADATA}"/>'
    )
    assert submission.documents[0].limited_metadata
    assert submission.faults == []


def test_a_scheme_broken_by_blanks_or_capitals_is_recognised(one_document: Submission) -> None:
    xml = wrap(write_objects(one_document)).decode()
    broken = ids.DE_PATIENT_ID.upper().replace("-", "- ")
    submission = read_objects(etree.fromstring(xml.replace(ids.DE_PATIENT_ID, broken)))
    assert submission.documents[0].patient_id == one_document.documents[0].patient_id
    assert submission.faults == []


def test_a_node_broken_by_blanks_or_capitals_is_recognised(one_document: Submission) -> None:
    xml = wrap(write_objects(one_document)).decode()
    submission = read_objects(etree.fromstring(xml.replace(ids.SS_NODE, ids.SS_NODE.upper())))
    assert len(submission.submission_sets) == 1
    assert submission.faults == []


def test_an_empty_language_is_no_language() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D"><r:Name><r:LocalizedString value="a" xml:lang=""/></r:Name>'
        "</r:ExtrinsicObject>"
    )
    title = submission.documents[0].title
    assert title == "a"
    assert title.lang is None


def test_empty_attributes_and_blank_values_count_as_absent() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D" home="" lid=" "><r:Description/><r:Slot name="size">'
        "<r:ValueList><r:Value> </r:Value></r:ValueList></r:Slot></r:ExtrinsicObject>"
    )
    (entry,) = submission.documents
    assert entry.home_community_id is None
    assert entry.logical_id is None
    assert entry.comments is None
    assert entry.size is None


def test_a_uri_in_numbered_pieces_is_put_together() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D"><r:Slot name="URI"><r:ValueList><r:Value>2|.org/x</r:Value>'
        "<r:Value>1|http://example</r:Value></r:ValueList></r:Slot></r:ExtrinsicObject>"
    )
    assert submission.documents[0].uri == "http://example.org/x"
    assert submission.faults == []


def test_a_uri_with_an_absurd_number_is_left_as_it_is() -> None:
    uri = "9" * 5000 + "|x"
    submission = read(
        '<r:ExtrinsicObject id="D"><r:Slot name="URI"><r:ValueList>'
        f"<r:Value>{uri}</r:Value></r:ValueList></r:Slot></r:ExtrinsicObject>"
    )
    assert submission.documents[0].uri == uri


def test_a_no_break_space_belongs_to_the_value() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D"><r:Slot name="urn:x"><r:ValueList>'
        "<r:Value>\u00a0a\u00a0</r:Value></r:ValueList></r:Slot></r:ExtrinsicObject>"
    )
    assert submission.documents[0].extra_slots == {"urn:x": ["\u00a0a\u00a0"]}


def test_bare_references_are_kept_in_order() -> None:
    assert read('<r:ObjectRef id="b"/><r:ObjectRef id="a"/>').object_refs == ["b", "a"]


def test_nothing_unknown_is_dropped_in_silence() -> None:
    submission = read(
        '<r:ExtrinsicObject id="D">'
        '<r:Name><r:LocalizedString value="a" xml:lang="fr"/>'
        '<r:LocalizedString value="b" xml:lang="en"/></r:Name>'
        '<r:Classification classificationScheme="urn:uuid:0" classifiedObject="D"/>'
        '<r:Classification classificationNode="urn:uuid:1" classifiedObject="D"/>'
        f'<r:Classification classificationScheme="{ids.DE_AUTHOR}" classifiedObject="D">'
        '<r:Slot name="authorSpeciality"><r:ValueList/></r:Slot></r:Classification>'
        '<r:ExternalIdentifier identificationScheme="urn:uuid:2" registryObject="D" value="x"/>'
        "</r:ExtrinsicObject>"
    )
    assert {fault.rule.id for fault in submission.faults} == {"extra-metadata-not-saved"}
    text = " ".join(messages(submission))
    for trace in ("second text (en)", "urn:uuid:0", "urn:uuid:1", "authorSpeciality", "urn:uuid:2"):
        assert trace in text


def test_the_first_of_two_class_codes_is_kept_and_the_second_reported(
    one_document: Submission,
) -> None:
    xml = write_object(one_document.documents[0])
    start = xml.index(b"<rim:Classification", xml.index(ids.DE_CLASS_CODE.encode()) - 300)
    end = xml.index(b"</rim:Classification>", start) + len(b"</rim:Classification>")
    twice = xml[:end] + xml[start:end].replace(b">31<", b">99<") + xml[end:]
    submission = read_objects(etree.fromstring(wrap([twice])))
    assert submission.documents[0].class_code == one_document.documents[0].class_code
    assert [fault.rule.id for fault in submission.faults] == ["attribute-repeated"]


@pytest.mark.parametrize("inside", ["", "text", "<r:Nonsense/>", "<x/><!-- c -->", "<r:Slot/>"])
def test_structures_that_make_no_sense_do_not_raise(inside: str) -> None:
    submission = read(inside)
    assert list(submission.objects()) == []


# --- Edits in place -----------------------------------------------------------------------------


@pytest.fixture
def entry(one_document: Submission) -> etree._Element:
    return etree.fromstring(wrap([write_object(one_document.documents[0])]))[0]


def test_slots_and_identifiers_of_an_element_can_be_looked_up(entry: etree._Element) -> None:
    assert get_slot(entry, "size") == ["1024"]
    assert get_slot(entry, "urn:example:note") == ["one", "two"]
    assert get_slot(entry, "nothing") == []
    assert external_identifier(entry, ids.DE_UNIQUE_ID) == "1.2.3.4.5.1"
    assert external_identifier(entry, ids.SS_UNIQUE_ID) is None


def test_setting_a_slot_replaces_it_and_keeps_the_schema_order(
    entry: etree._Element, rim_schema: etree.XMLSchema
) -> None:
    set_slot(entry, "repositoryUniqueId", ["1.2.9"])
    set_slot(entry, "urn:new", ["a", "b<&>"])
    assert get_slot(entry, "repositoryUniqueId") == ["1.2.9"]
    assert get_slot(entry, "urn:new") == ["a", "b<&>"]
    rim_schema.assertValid(entry)
    parent = entry.getparent()
    assert parent is not None
    again = read_objects(etree.fromstring(etree.tostring(parent)))
    assert again.documents[0].repository_unique_id == "1.2.9"
    assert again.faults == []


def test_a_slot_is_added_to_an_object_that_had_none(rim_schema: etree.XMLSchema) -> None:
    entry = etree.fromstring(f'<ExtrinsicObject xmlns="{ids.RIM}" id="D"><Name/></ExtrinsicObject>')
    set_slot(entry, "hash", ["ab"])
    rim_schema.assertValid(entry)
    assert get_slot(entry, "hash") == ["ab"]


def test_setting_no_values_removes_the_slot(entry: etree._Element) -> None:
    set_slot(entry, "size", [])
    assert get_slot(entry, "size") == []
