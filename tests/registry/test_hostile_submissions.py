"""ITI-42: submissions that are well-formed and mean harm, and texts that are no XML, SQL or HL7."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metadata import identifiers as xds
from metadata.datatypes import XCN, LocalizedString
from metadata.model import Author
from registry.schema import document_entry
from transactions.stored_query import find_documents

# Longer than any of these takes on a loaded machine; a quadratic registry would take minutes.
SECONDS = 5.0
MANY = 10_000


@pytest.mark.parametrize("kind", [xds.RPLC, xds.XFRM_RPLC])
def test_documents_of_one_message_cannot_replace_each_other_in_a_circle(
    house: Any, kind: str
) -> None:
    draft = house.draft()
    names = [draft.document().entry_uuid for _ in range(3)]
    for source, target in zip(names, names[1:] + names[:1], strict=True):
        draft.link(kind, source, target)
    assert set(house.errors(draft)) == {"UnresolvedReferenceException"}
    assert house.answer(find_documents(house.patient)).documents == []


@pytest.mark.parametrize("kind", [xds.RPLC, xds.APND])
def test_nothing_is_related_to_itself(house: Any, kind: str) -> None:
    draft = house.draft()
    document = draft.document()
    draft.link(kind, document.entry_uuid, document.entry_uuid)
    assert "XDSRegistryMetadataError" in house.errors(draft)


@pytest.mark.parametrize("other", ["document", "folder", "link", "set"])
def test_a_name_belongs_to_one_object(house: Any, other: str) -> None:
    draft = house.draft()
    draft.document("same")
    if other == "link":
        draft.link(xds.HAS_MEMBER, "set", "same", entry_uuid="same")
    elif other == "set":
        draft.set.entry_uuid = "same"
    else:
        getattr(draft, other)("same")
    assert "XDSRegistryMetadataError" in house.errors(draft)


def test_a_symbolic_name_means_nothing_in_the_next_message(house: Any) -> None:
    first, second = house.draft(), house.draft("P2")
    for draft in (first, second):
        draft.document("Document01")
        house.accept(draft)
    third = house.draft()
    third.link(xds.RPLC, third.document().entry_uuid, "Document01")
    house.errors(third)
    assert len(house.answer(find_documents(house.patient)).documents) == 1


def test_one_document_of_another_patient_refuses_the_whole_message(house: Any) -> None:
    draft = house.draft()
    for _ in range(3):
        draft.document()
    draft.document(patient_id=house.cx("P2"))
    assert house.errors(draft) == ["XDSPatientIdDoesNotMatch"]
    assert house.answer(find_documents(house.patient)).documents == []


def test_ten_thousand_classifications_are_answered_in_time(house: Any) -> None:
    draft = house.draft()
    draft.document(event_code_list=[house.code(str(number)) for number in range(MANY)])
    began = time.process_time()
    house.accept(draft)
    assert time.process_time() - began < SECONDS


def test_ten_thousand_relationships_are_answered_in_time(house: Any) -> None:
    draft = house.draft()
    first, second = draft.document().entry_uuid, draft.document().entry_uuid
    for _ in range(MANY):
        draft.link(xds.APND, first, second)
    began = time.process_time()
    house.accept(draft)
    assert time.process_time() - began < SECONDS


# Whatever XML can carry: what SQL, LIKE, HL7 and XML would take for their own is likely.
CHARACTERS = st.one_of(
    st.sampled_from("'\"&<>%_\\^~|;()- \u00a0\u0301\U0001f9b4"),
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
)
TEXTS = st.text(CHARACTERS, min_size=1, max_size=20).map(lambda text: f"x{text}x")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXTS, min_size=6, max_size=6))
def test_any_text_comes_back_from_a_query_as_it_was_submitted(house: Any, texts: list[str]) -> None:
    """From the message through the statement and the driver to the answer, on both engines."""
    house.database.write(lambda connection: connection.execute(document_entry.delete()).rowcount)
    title, comments, name, role, code, slot = texts
    given = {
        "title": LocalizedString(title),
        "comments": LocalizedString(comments),
        "author": [Author(person=XCN(f"^{name.translate(_PARTS)}"), role=[role])],
        "event_code_list": [house.code(code)],
        "extra_slots": {"urn:x:slot": [slot]},
    }
    house.registered(**given)
    [found] = house.answer(
        find_documents(house.patient, event_code_list=[[house.code(code)]])
    ).documents
    assert {key: getattr(found, key) for key in given} == given


# What separates the parts of a name is not part of one, nor is what escapes it.
_PARTS = dict.fromkeys(map(ord, "^&~|\\"), "-")
