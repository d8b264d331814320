"""ITI-42: ids, patients and unique ids; all or nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from lxml import etree

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain, DomainInForce
from metadata.datatypes import (
    CX,
    DTM,
    OID,
    XCN,
    XTN,
    LocalizedString,
    is_uuid_urn,
    new_oid,
    new_uuid_urn,
)
from metadata.model import Author, DocumentEntry
from registry import Registry
from transactions.iti_18 import AdhocQueryResponse
from transactions.iti_42 import SubmitObjectsRequest
from transactions.stored_query import (
    find_documents,
    find_submission_sets,
    get_documents,
    get_submission_set_and_contents,
)


def test_a_minimal_submission_is_registered_as_approved(house: Any) -> None:
    draft = house.draft()
    draft.document()
    house.accept(draft)
    [document] = house.answer(find_documents(house.patient)).documents
    assert document.availability_status == xds.APPROVED
    assert document.logical_id == document.entry_uuid
    assert document.version == "1"


def test_symbolic_ids_become_uuids_in_every_reference(house: Any) -> None:
    draft = house.draft()
    draft.document("Document01")
    draft.folder("Folder01")
    draft.file("Document01", "Folder01")
    house.accept(draft)
    response = house.registry.query(get_submission_set_and_contents(unique_id=draft.set.unique_id))
    contents = response.objects()
    ids = {obj.entry_uuid for obj in contents.objects()}
    ends = {end for link in contents.associations for end in (link.source, link.target)}
    assert all(map(is_uuid_urn, ids | ends))
    assert ends <= ids
    assert b"Document01" not in b"".join(response.fragments)


def test_submitted_uuids_are_kept(house: Any) -> None:
    entry_uuid = new_uuid_urn()
    assert house.registered(name=entry_uuid).entry_uuid == entry_uuid


def test_a_registered_uuid_is_refused(house: Any) -> None:
    entry_uuid = house.registered().entry_uuid
    draft = house.draft()
    draft.document(entry_uuid)
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_the_uuid_of_an_association_is_taken_too(house: Any) -> None:
    [link] = house.links(house.registered().entry_uuid)
    draft = house.draft("P2")
    draft.document(link.entry_uuid, patient_id=house.cx("P2"))
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_what_a_sender_says_of_status_and_version_is_ignored(house: Any) -> None:
    document = house.registered(availability_status=xds.DEPRECATED, version="7")
    assert (document.availability_status, document.version) == (xds.APPROVED, "1")


def test_every_attribute_comes_back_as_it_was_submitted(house: Any) -> None:
    given: dict[str, Any] = {
        "unique_id": "1.2.3^'é&<>\"%_",
        "mime_type": "application/dicom",
        "author": [
            Author(person=XCN("^O'Brien^Zoë"), role=["r"], specialty=["s"]),
            Author(person=XCN("^Deux"), telecommunication=[XTN("^^Internet^a@b.fr")]),
        ],
        "title": LocalizedString("Scanner <thorax> & 𝄞", "fr-FR"),
        "comments": LocalizedString("ligne 1\nligne 2", None),
        "event_code_list": [house.code("MR"), house.code("CT", "9.8")],
        "service_start_time": DTM("202601"),
        "service_stop_time": DTM("20260102030405"),
        "legal_authenticator": XCN("^Legal"),
        "source_patient_info": ["PID-5|Doe^John", "PID-8|M"],
        "reference_id_list": ["1.2.3^^^^urn:ihe:iti:xds:2013:uniqueId"],
        "uri": "a/b.dcm",
        "extra_slots": {"urn:example:colour": ["bleu", "rouge & vert"]},
        "hash": "AB" * 20,
    }
    document = house.registered(**given)
    for name, value in given.items():
        assert getattr(document, name) == value, name
    assert {field.name for field in fields(DocumentEntry)} >= given.keys()


def test_an_extra_slot_of_ihe_is_refused(house: Any) -> None:
    draft = house.draft()
    draft.document(extra_slots={"urn:ihe:iti:2099:new": ["value"]})
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


# --- Patients ------------------------------------------------------------------------------------


def test_an_unknown_patient_is_refused_by_value(house: Any) -> None:
    draft = house.draft("nobody")
    draft.document()
    [error] = house.submit(draft).errors
    assert error.code == "XDSUnknownPatientId"
    assert house.cx("nobody") in error.context


def test_a_subsumed_patient_is_refused(house: Any) -> None:
    assert house.feed("A40", "P2", subsumed="P1").ack_code == "AA"
    draft = house.draft("P1")
    draft.document()
    assert house.errors(draft) == ["XDSUnknownPatientId"]
    survivor = house.draft("P2")
    survivor.document()
    house.accept(survivor)


def test_a_patient_id_with_trailing_empty_components_is_the_same_patient(house: Any) -> None:
    assert house.patients.known(CX(f"{house.patient}^^"))


def test_a_patient_of_another_authority_is_unknown(house: Any) -> None:
    draft = house.draft()
    foreign = CX("P1^^^&1.9.9&ISO")
    draft.set.patient_id = foreign
    draft.document(patient_id=foreign)
    assert set(house.errors(draft)) == {"XDSUnknownPatientId"}


def test_documents_and_folders_must_be_of_the_submissions_patient(house: Any) -> None:
    draft = house.draft()
    draft.document(patient_id=house.cx("P2"))
    draft.folder(patient_id=house.cx("P2"))
    assert house.errors(draft) == ["XDSPatientIdDoesNotMatch"] * 2


# --- Unique ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["set", "folder", "document"])
def test_a_submission_sets_unique_id_must_be_new_among_all_objects(house: Any, kind: str) -> None:
    first = house.draft()
    document, folder = first.document(), first.folder()
    house.accept(first)
    taken = {"set": first.set, "folder": folder, "document": document}[kind]
    second = house.draft()
    second.document()
    second.set.unique_id = taken.unique_id
    assert house.errors(second) == ["XDSDuplicateUniqueIdInRegistry"]


@pytest.mark.parametrize("kind", ["set", "folder", "document"])
def test_a_folders_unique_id_must_be_new_among_all_objects(house: Any, kind: str) -> None:
    first = house.draft()
    document, folder = first.document(), first.folder()
    house.accept(first)
    taken = {"set": first.set, "folder": folder, "document": document}[kind]
    second = house.draft()
    second.folder(unique_id=taken.unique_id)
    assert house.errors(second) == ["XDSDuplicateUniqueIdInRegistry"]


def test_a_document_may_be_registered_again_with_the_same_content(house: Any) -> None:
    first = house.registered(hash="ab" * 20, size="5")
    second = house.draft()
    second.document(unique_id=first.unique_id, hash="AB" * 20, size="5")
    house.accept(second)
    third = house.draft("P2")
    third.document(unique_id=first.unique_id, hash="ab" * 20, size="5")
    house.accept(third)
    request = get_documents(unique_id=[first.unique_id], return_type="ObjectRef")
    assert len(house.answer(request).object_refs) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"hash": "cd" * 20, "size": "5"}, ["XDSNonIdenticalHash"]),
        ({"hash": "ab" * 20, "size": "6"}, ["XDSNonIdenticalSize"]),
        ({"hash": "cd" * 20, "size": "6"}, ["XDSNonIdenticalHash", "XDSNonIdenticalSize"]),
    ],
)
def test_a_known_unique_id_with_other_content_is_refused(
    house: Any, content: dict[str, str], expected: list[str]
) -> None:
    first = house.registered(hash="ab" * 20, size="5")
    second = house.draft()
    second.document(unique_id=first.unique_id, **content)
    response = house.submit(second)
    assert [error.code for error in response.errors] == expected
    assert all(first.unique_id in error.context for error in response.errors)


@pytest.mark.parametrize("size", ["9" * 20, "9" * 5000])
def test_a_size_beyond_all_numbers_is_a_fault_of_the_message(house: Any, size: str) -> None:
    known = house.registered()
    draft = house.draft()
    draft.document(size=size)
    draft.document(unique_id=known.unique_id, hash=known.hash, size=size)
    assert set(house.errors(draft)) == {"XDSRegistryMetadataError", "XDSNonIdenticalSize"}


def test_a_document_cannot_take_the_unique_id_of_a_folder(house: Any) -> None:
    first = house.draft()
    folder = first.folder()
    house.accept(first)
    second = house.draft()
    second.document(unique_id=folder.unique_id)
    assert "XDSNonIdenticalHash" in house.errors(second)


def test_a_unique_id_twice_in_the_message_is_refused(house: Any) -> None:
    draft = house.draft()
    document = draft.document()
    draft.document(unique_id=document.unique_id, hash=document.hash, size=document.size)
    assert house.errors(draft) == ["XDSRegistryDuplicateUniqueIdInMessage"]


# --- As a whole ----------------------------------------------------------------------------------


def test_faults_of_the_message_and_of_the_registrys_state_are_told_together(house: Any) -> None:
    known = house.registered()
    draft = house.draft("nobody")
    draft.document(unique_id=known.unique_id, class_code=None, hash="ab" * 20, size="999999")
    draft.link(xds.RPLC, draft.document().entry_uuid, new_uuid_urn())
    assert sorted(house.errors(draft)) == [
        "UnresolvedReferenceException",
        "XDSNonIdenticalHash",
        "XDSNonIdenticalSize",
        "XDSRegistryMetadataError",
        "XDSUnknownPatientId",
    ]


def test_a_refused_submission_leaves_nothing_and_its_ids_can_be_used(house: Any) -> None:
    document, folder = house.filed()
    draft = house.draft()
    good, bad = draft.document(new_uuid_urn()), draft.document(unique_id=document.unique_id)
    draft.link(xds.RPLC, good.entry_uuid, document.entry_uuid)
    draft.file(good.entry_uuid, folder.entry_uuid)
    assert house.errors(draft)
    after = house.answer(find_documents(house.patient, status=[xds.APPROVED, xds.DEPRECATED]))
    assert after.documents == [document]
    assert len(house.answer(find_submission_sets(house.patient)).submission_sets) == 1
    bad.unique_id = new_oid()
    house.accept(draft)


def test_a_submission_is_refused_without_being_changed(house: Any) -> None:
    draft = house.draft("nobody")
    draft.document("Document01")
    request = draft.request()
    before = repr(request.submission)
    house.registry.register(request)
    assert repr(request.submission) == before
    house.feed("A01", "nobody")
    assert house.registry.register(request).status == xds.SUCCESS
    assert repr(request.submission) == before


def test_the_same_submission_again_is_a_duplicate(house: Any) -> None:
    draft = house.draft()
    draft.document(new_uuid_urn())
    house.accept(draft)
    assert sorted(house.errors(draft)) == [
        "XDSDuplicateUniqueIdInRegistry",
        "XDSRegistryMetadataError",
    ]


def test_a_message_without_a_submission_set_is_refused(house: Any) -> None:
    draft = house.draft()
    draft.document()
    draft.submission.submission_sets.clear()
    assert "XDSRegistryMetadataError" in house.errors(draft)


def test_two_submission_sets_are_refused(house: Any) -> None:
    draft, other = house.draft(), house.draft()
    draft.document()
    other.set.entry_uuid = "other"
    draft.submission.submission_sets.append(other.set)
    assert "XDSRegistryMetadataError" in house.errors(draft)


def test_a_class_code_outside_the_domain_is_refused_and_a_display_name_is_free(
    database: Any, house: Any
) -> None:
    codes = {"codes": {"classCode": {house.code("class").scheme: ["class Autre nom"]}}}
    authority = house.domain.assigning_authority.universal_id
    strict = AffinityDomain.from_mapping({"assigning_authority": authority, **codes})
    registry = Registry(database, strict)
    draft = house.draft()
    draft.document()
    assert registry.register(draft.request()).status == xds.SUCCESS
    draft = house.draft()
    draft.document(class_code=house.code("unheard"))
    [error] = registry.register(draft.request()).errors
    assert error.code == "XDSRegistryMetadataError"
    for told in ("DocumentEntry.classCode", "unheard", house.code("class").scheme, "it has class"):
        assert told in error.context


def test_a_new_domain_is_in_force_from_the_next_submission_on(database: Any, house: Any) -> None:
    authority = house.domain.assigning_authority.universal_id
    scheme = house.code("class").scheme

    def allowing(code: str) -> AffinityDomain:
        settings = {"codes": {"classCode": {scheme: [code]}}, "assigning_authority": authority}
        return AffinityDomain.from_mapping(settings)

    in_force = DomainInForce(allowing("other"))
    registry = Registry(database, in_force)
    draft = house.draft()
    draft.document()
    assert registry.register(draft.request()).status == xds.FAILURE
    in_force.current = allowing("class")
    assert registry.register(draft.request()).status == xds.SUCCESS


def test_extra_slots_are_saved_or_dropped_with_a_warning_by_policy(
    database: Any, house: Any
) -> None:
    slot = {"urn:oid:1.2.3:extra": ["value"]}
    kept = house.registered(extra_slots=slot)
    [found] = house.answer(get_documents(entry_uuid=[kept.entry_uuid])).documents
    assert found.extra_slots == slot
    warning = AffinityDomain(house.domain.assigning_authority, extra_metadata="warn")
    draft = house.draft()
    document = draft.document(entry_uuid=new_uuid_urn(), extra_slots=slot)
    response = Registry(database, warning).register(draft.request())
    assert response.status == xds.SUCCESS
    assert [error.code for error in response.errors] == ["XDSExtraMetadataNotSaved"]
    assert "urn:oid:1.2.3:extra" in response.errors[0].context
    [found] = house.answer(get_documents(entry_uuid=[document.entry_uuid])).documents
    assert found.extra_slots == {}


def test_an_extra_classification_is_a_warning_and_the_submission_a_success(house: Any) -> None:
    draft = house.draft()
    draft.document()
    element = draft.request().element
    [document] = element.iter(f"{{{xds.RIM}}}ExtrinsicObject")
    classification = etree.SubElement(document, f"{{{xds.RIM}}}Classification")
    classification.set("id", "odd")
    classification.set("classifiedObject", document.get("id"))
    classification.set("classificationScheme", new_uuid_urn())
    classification.set("nodeRepresentation", "x")
    document.remove(classification)
    document.insert(len(document) - 2, classification)
    response = house.registry.register(SubmitObjectsRequest(element))
    assert response.status == xds.SUCCESS
    assert [error.code for error in response.errors] == ["XDSExtraMetadataNotSaved"]


def test_answers_hold_what_the_schema_wants(house: Any) -> None:
    document = house.registered(creation_time=DTM("2025"), repository_unique_id=OID("1.2.3"))
    response: AdhocQueryResponse = house.registry.query(
        get_documents(entry_uuid=[document.entry_uuid])
    )
    [fragment] = response.fragments
    assert f'lid="{document.entry_uuid}"'.encode() in fragment
    assert b'<rim:VersionInfo versionName="1"/>' in fragment
    assert xds.EXTERNAL_IDENTIFIER_OBJECT.encode() in fragment
    assert xds.CLASSIFICATION_OBJECT.encode() in fragment
