"""Document Registry: every rule about how metadata is written as XML, each broken once (C)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

from lxml import etree

from conformance.bench import Bench
from conformance.case import Actor
from conformance.expectation import Same, Success, any_of
from conformance.rules import RuleCases
from conformance.seen import Answer, Compared, Seen
from metadata import catalogue as rules
from metadata.catalogue import Rule
from metadata.datatypes import new_uuid_urn
from metadata.identifiers import (
    DE_CLASS_CODE,
    DE_UNIQUE_ID,
    FD_NODE,
    RIM,
    SS_NODE,
)
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import get_documents

CASES = RuleCases(Actor.REGISTRY_SUBMIT, "ITI-42", "registry patients")

NOBODY = "urn:uuid:00000000-0000-4000-8000-000000000000"
NAME = f"{{{RIM}}}Name"
SLOT = f"{{{RIM}}}Slot"


class Message:
    """A registration of a document and a folder, as XML to be spoilt."""

    def __init__(self, bench: Bench) -> None:
        patient = bench.patient()
        entry, folder = bench.entry(patient), bench.folder(patient)
        self.request = SubmitObjectsRequest.of(bench.submission(patient, entry, folders=[folder]))
        self.objects = self.request.registry_objects
        self.document, self.folder = self._by_id(entry.entry_uuid), self._by_id(folder.entry_uuid)
        self.id, self.folder_id = entry.entry_uuid, folder.entry_uuid

    def _by_id(self, entry_uuid: str) -> etree._Element:
        return next(one for one in self.objects if one.get("id") == entry_uuid)

    def slot(self, name: str, *values: str) -> etree._Element:
        """A Slot of the document, which gets one where it has none and ``values`` are given."""
        for slot in self.document.iterchildren(SLOT):
            if slot.get("name") == name:
                return slot
        slot = etree.Element(SLOT, name=name)
        self.document.insert(0, slot)
        value_list = etree.SubElement(slot, f"{{{RIM}}}ValueList")
        for value in values:
            etree.SubElement(value_list, f"{{{RIM}}}Value").text = value
        return slot

    def class_code(self) -> etree._Element:
        """The document's Classification for classCode."""
        return self._child("Classification", "classificationScheme", DE_CLASS_CODE)

    def unique_id(self) -> etree._Element:
        """The document's ExternalIdentifier for uniqueId."""
        return self._child("ExternalIdentifier", "identificationScheme", DE_UNIQUE_ID)

    def folder_node(self) -> etree._Element:
        """The folder's Classification as a Folder."""
        classifications = self.folder.iterchildren(f"{{{RIM}}}Classification")
        return next(one for one in classifications if one.get("classificationNode") == FD_NODE)

    def _child(self, tag: str, attribute: str, value: str) -> etree._Element:
        children = self.document.iterchildren(f"{{{RIM}}}{tag}")
        return next(one for one in children if one.get(attribute) == value)


Spoil = Callable[[Message], str]
"""Spoils a message; returns what the error must name."""


def _unexpected_element(message: Message) -> str:
    etree.SubElement(message.document, f"{{{RIM}}}KitUnknown")
    return "KitUnknown"


def _slot_unnamed(message: Message) -> str:
    del message.slot("urn:kit:unnamed", "value").attrib["name"]
    return message.id


def _slot_repeated(message: Message) -> str:
    slot = message.slot("urn:kit:twice", "value")
    slot.addnext(copy.deepcopy(slot))
    return "urn:kit:twice"


def _slot_values(message: Message) -> str:
    value_list = message.slot("languageCode")[0]
    value_list.append(copy.deepcopy(value_list[0]))
    return "languageCode"


def _attribute_repeated(message: Message) -> str:
    code = message.class_code()
    code.addnext(copy.deepcopy(code))
    return "classCode"


def _classified_object(message: Message) -> str:
    message.class_code().set("classifiedObject", message.folder_id)
    return "classCode"


def _not_embedded(message: Message) -> str:
    message.objects.append(message.class_code())
    return message.id


def _classification_target(message: Message) -> str:
    unknown = new_uuid_urn()
    etree.SubElement(
        message.objects,
        f"{{{RIM}}}Classification",
        id=new_uuid_urn(),
        classifiedObject=unknown,
        classificationNode=SS_NODE,
    )
    return unknown


def _code_missing(message: Message) -> str:
    del message.class_code().attrib["nodeRepresentation"]
    return "classCode"


def _without(tag: str, message: Message) -> str:
    code = message.class_code()
    for child in code.findall(tag):
        code.remove(child)
    return "classCode"


def _identifier_object(message: Message) -> str:
    message.unique_id().set("registryObject", message.folder_id)
    return "uniqueId"


def _identifier_name(message: Message) -> str:
    [text] = message.unique_id().iter(f"{{{RIM}}}LocalizedString")
    text.set("value", "KitUnknown")
    return "XDSDocumentEntry.uniqueId"


def _unclassified(message: Message) -> str:
    message.folder.remove(message.folder_node())
    return message.folder_id


def _ambiguous(message: Message) -> str:
    node = copy.deepcopy(message.folder_node())
    node.set("classificationNode", SS_NODE)
    message.folder_node().addnext(node)
    return message.folder_id


def _id_missing(message: Message) -> str:
    del message.folder.attrib["id"]
    return "id"


SPOILT: tuple[tuple[Rule, str, str, Spoil], ...] = (
    (
        rules.UNEXPECTED_ELEMENT,
        "An element that ebRIM does not know inside a DocumentEntry",
        "Un élément inconnu d'ebRIM dans une fiche",
        _unexpected_element,
    ),
    (rules.SLOT_UNNAMED, "A Slot without a name", "Un Slot sans nom", _slot_unnamed),
    (
        rules.SLOT_REPEATED,
        "Two Slots of the same name in one object",
        "Deux Slots du même nom dans un objet",
        _slot_repeated,
    ),
    (rules.SLOT_VALUES, "Two languageCodes", "Deux languageCode", _slot_values),
    (rules.ATTRIBUTE_REPEATED, "Two classCodes", "Deux classCode", _attribute_repeated),
    (
        rules.CLASSIFIED_OBJECT,
        "A Classification that names another object than the one around it",
        "Une Classification qui nomme un autre objet que celui qui la contient",
        _classified_object,
    ),
    (
        rules.CLASSIFICATION_NOT_EMBEDDED,
        "A classCode beside its DocumentEntry",
        "Un classCode à côté de sa fiche",
        _not_embedded,
    ),
    (
        rules.CLASSIFICATION_TARGET,
        "A Classification of an object that is not in the message",
        "Une Classification d'un objet absent du message",
        _classification_target,
    ),
    (
        rules.CODE_MISSING,
        "A classCode without nodeRepresentation",
        "Un classCode sans nodeRepresentation",
        _code_missing,
    ),
    (
        rules.CODING_SCHEME_MISSING,
        "A classCode without codingScheme",
        "Un classCode sans codingScheme",
        partial(_without, SLOT),
    ),
    (
        rules.CODE_NAME_MISSING,
        "A classCode without display name",
        "Un classCode sans libellé",
        partial(_without, NAME),
    ),
    (
        rules.IDENTIFIER_OBJECT,
        "An ExternalIdentifier that names another object than the one around it",
        "Un ExternalIdentifier qui nomme un autre objet que celui qui le contient",
        _identifier_object,
    ),
    (
        rules.IDENTIFIER_NAME,
        "An ExternalIdentifier under a wrong Name",
        "Un ExternalIdentifier au mauvais Name",
        _identifier_name,
    ),
    (
        rules.PACKAGE_UNCLASSIFIED,
        "A RegistryPackage that is neither SubmissionSet nor Folder",
        "Un RegistryPackage qui n'est ni lot ni classeur",
        _unclassified,
    ),
    (
        rules.PACKAGE_AMBIGUOUS,
        "A RegistryPackage that is SubmissionSet and Folder",
        "Un RegistryPackage à la fois lot et classeur",
        _ambiguous,
    ),
    (rules.ID_MISSING, "A Folder without id", "Un classeur sans id", _id_missing),
)
"""Rules that only the XML can break."""


def _spoilt(spoil: Spoil, bench: Bench) -> Answer[RegistryResponse]:
    message = Message(bench)
    named = spoil(message)
    return bench.register(message.request).naming(named)


for _rule, _en, _fr, _spoil in SPOILT:
    CASES.breaking(_rule, _en, _fr, partial(_spoilt, _spoil))


@CASES.case(
    "C-extra-metadata-not-saved",
    "A Classification of an unknown scheme: kept and returned, or dropped with a warning",
    "Une Classification de schéma inconnu : conservée, ou écartée avec avertissement",
    spec=rules.EXTRA_METADATA_NOT_SAVED.spec,
    expected=[
        any_of(Success(), Success(warning="XDSExtraMetadataNotSaved")),
        Same("kept, or a warning"),
    ],
)
def _extra_metadata(bench: Bench) -> Iterator[Seen]:
    message = Message(bench)
    extra = copy.deepcopy(message.class_code())
    extra.set("classificationScheme", NOBODY)
    message.class_code().addnext(extra)
    answer = bench.register(message.request)
    yield answer
    warned = "XDSExtraMetadataNotSaved" in [error.code for error in answer.errors]
    kept = NOBODY.encode() in bench.query(get_documents(entry_uuid=[message.id])).body
    yield Compared("kept, or a warning", True, kept or warned)
