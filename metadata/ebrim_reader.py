"""Reading ebRIM 3.0 objects into the model (ITI TF-3 4.2.1 to 4.2.3; ebRIM 3.0).

Tolerant in what the standard leaves open, and silent about nothing it drops:

- children may stand in any order, under any prefix; comments and white space are ignored;
- values are trimmed of outer XML white space; blank values and empty ``home``/``lid``
  attributes count as absent;
- a package's Classification by node may be inside it or beside it;
- ``objectType`` is optional except on ExtrinsicObject; ids of Classifications and
  ExternalIdentifiers, charsets and slot types carry no meaning and are not kept;
- slots that XDS does not know are kept as ``extra_slots``; a Classification or
  ExternalIdentifier of an unknown scheme, an unknown slot of an author or a code, and a
  second LocalizedString are not, and each raises the warning XDSExtraMetadataNotSaved.

Whatever is wrong becomes a Fault in ``Submission.faults``; nothing is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lxml import etree

from metadata import catalogue as rules
from metadata.attributes import (
    ASSOCIATION,
    AUTHOR_SLOTS,
    DOCUMENT_ENTRY,
    FOLDER,
    SUBMISSION_SET,
    Attribute,
    Carrier,
    Kind,
)
from metadata.catalogue import Fault
from metadata.datatypes import LocalizedString
from metadata.identifiers import FD_NODE, RIM, SS_NODE, XML
from metadata.model import AnyObject, Author, Code, Submission

_EXTRINSIC_OBJECT = f"{{{RIM}}}ExtrinsicObject"
_REGISTRY_PACKAGE = f"{{{RIM}}}RegistryPackage"
_ASSOCIATION = f"{{{RIM}}}Association"
_OBJECT_REF = f"{{{RIM}}}ObjectRef"
_CLASSIFICATION = f"{{{RIM}}}Classification"
_EXTERNAL_IDENTIFIER = f"{{{RIM}}}ExternalIdentifier"
_SLOT = f"{{{RIM}}}Slot"
_VALUE = f"{{{RIM}}}Value"
_NAME = f"{{{RIM}}}Name"
_DESCRIPTION = f"{{{RIM}}}Description"
_VERSION_INFO = f"{{{RIM}}}VersionInfo"
_CONTENT_VERSION_INFO = f"{{{RIM}}}ContentVersionInfo"
_LOCALIZED_STRING = f"{{{RIM}}}LocalizedString"
_LANG = f"{{{XML}}}lang"

_SPACE = " \t\r\n"  # what XML calls white space; str.strip() would also eat a no-break space
_PACKAGE_NODES = {SS_NODE: SUBMISSION_SET, FD_NODE: FOLDER}


def read_objects(parent: etree._Element) -> Submission:
    """The objects inside ``parent`` (a rim:RegistryObjectList), with every fault found."""
    return _Reader().read(parent)


class _Reader:
    """Reads one list; a fresh one for each."""

    def __init__(self) -> None:
        self.submission = Submission()
        self.faults = self.submission.faults
        self.beside: dict[str, list[str]] = {}  # classifiedObject -> classificationNodes
        self.packages: list[etree._Element] = []

    def read(self, parent: etree._Element) -> Submission:
        for element in parent:
            self._top(element)
        for element in self.packages:
            self._package(element)
        self._classify_beside()
        return self.submission

    def _top(self, element: etree._Element) -> None:
        tag = element.tag
        if tag == _EXTRINSIC_OBJECT:
            self.submission.documents.append(self._object(element, DOCUMENT_ENTRY))
        elif tag == _ASSOCIATION:
            self.submission.associations.append(self._object(element, ASSOCIATION))
        elif tag == _REGISTRY_PACKAGE:
            self.packages.append(element)
        elif tag == _OBJECT_REF:
            self.submission.object_refs.append(_attribute(element, "id"))
        elif tag == _CLASSIFICATION:
            self._beside(element)
        else:
            self._unexpected(element, "the RegistryObjectList")

    def _beside(self, element: etree._Element) -> None:
        classified = _attribute(element, "classifiedObject")
        node = _node_of(element)
        if node:
            self.beside.setdefault(classified, []).append(node)
        else:
            scheme = _attribute(element, "classificationScheme")
            self._fault(rules.CLASSIFICATION_NOT_EMBEDDED, classified, scheme=scheme)

    def _package(self, element: etree._Element) -> None:
        identity = _attribute(element, "id")
        inside = [_node_of(child) for child in element.iterchildren(_CLASSIFICATION)]
        nodes = dict.fromkeys([*inside, *self.beside.get(identity, ())])
        kinds = [_PACKAGE_NODES[node] for node in nodes if node in _PACKAGE_NODES]
        if not kinds:
            self._fault(rules.PACKAGE_UNCLASSIFIED, identity)
            return
        if len(kinds) > 1:
            self._fault(rules.PACKAGE_AMBIGUOUS, identity)
        if kinds[0] is SUBMISSION_SET:
            self.submission.submission_sets.append(self._object(element, SUBMISSION_SET))
        else:
            self.submission.folders.append(self._object(element, FOLDER))

    def _classify_beside(self) -> None:
        """Apply the nodes that stood beside their object; those of no object are faults."""
        if not self.beside:
            return
        packages = {_attribute(element, "id") for element in self.packages}
        known: dict[str, tuple[AnyObject, Kind]] = {}
        for kind, objects in (
            (DOCUMENT_ENTRY, self.submission.documents),
            (SUBMISSION_SET, self.submission.submission_sets),
            (FOLDER, self.submission.folders),
        ):
            known.update({obj.entry_uuid: (obj, kind) for obj in objects})
        for identity, nodes in self.beside.items():
            for node in nodes:
                if node in _PACKAGE_NODES and identity in packages:
                    continue
                found = known.get(identity)
                attribute = found[1].nodes.get(node) if found else None
                if found is None or attribute is None:
                    self._fault(rules.CLASSIFICATION_TARGET, identity, value=node)
                else:
                    setattr(found[0], attribute.field, True)

    # --- One object ---------------------------------------------------------------------------

    def _object(self, element: etree._Element, kind: Kind) -> Any:
        """The object of ``kind`` in ``element``; typed Any because the kind decides it."""
        obj: Any = kind.model()
        xml = kind.xml
        for key, text in element.items():
            attribute = xml.get(str(key))
            if attribute is not None and (value := str(text).strip(_SPACE)):
                setattr(obj, attribute.field, value)
        for child in element:
            handler = _HANDLERS.get(child.tag)
            if handler is None:
                self._unexpected(child, f"{kind.name} {obj.entry_uuid}")
            else:
                handler(self, child, obj, kind)
        return obj

    def _slot(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        name = element.get("name", "").strip(_SPACE)
        attribute = kind.slots.get(name)
        if attribute is not None:
            self._fill(obj, attribute, slot_values(element), obj.entry_uuid)
        elif not name:
            self._fault(rules.SLOT_UNNAMED, obj.entry_uuid)
        elif name in obj.extra_slots:
            self._fault(rules.SLOT_REPEATED, obj.entry_uuid, slot=name)
            obj.extra_slots[name] += slot_values(element)
        else:
            obj.extra_slots[name] = slot_values(element)

    def _fill(self, target: Any, attribute: Attribute, values: list[str], owner: str) -> None:
        """Put the slot values into the field of ``target``, an object or an author."""
        filled = [attribute.type(value) for value in values if value]
        if not filled:
            return
        if attribute.split:
            filled = _joined(filled)
        present = getattr(target, attribute.field)
        if present:
            self._fault(rules.SLOT_REPEATED, owner, slot=attribute.key)
        if attribute.many:
            present.extend(filled)
            return
        if len(filled) > 1:
            shown = ", ".join(filled)
            self._fault(
                rules.SLOT_VALUES, owner, attribute=attribute.name, count=len(filled), value=shown
            )
        if not present:
            setattr(target, attribute.field, filled[0])

    def _name(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        if kind is not ASSOCIATION:  # a name says nothing about an Association
            self._text(element, obj, kind, "title")

    def _description(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        if kind is not ASSOCIATION:
            self._text(element, obj, kind, "comments")

    def _text(self, element: etree._Element, obj: Any, kind: Kind, field: str) -> None:
        text = self._localized(element, field, obj.entry_uuid)
        if getattr(obj, field) is not None:
            name = f"{kind.name}.{field}"
            self._fault(rules.ATTRIBUTE_REPEATED, obj.entry_uuid, attribute=name)
        elif text is not None:
            setattr(obj, field, text)

    def _version(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        version = _attribute(element, "versionName")
        if version and kind is not ASSOCIATION:
            obj.version = version

    def _ignore(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        """ContentVersionInfo: nothing of XDS is in it."""

    # --- Classifications ----------------------------------------------------------------------

    def _classification(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        scheme = element.get("classificationScheme")
        if not scheme:
            self._node(element, obj, kind)
            return
        attribute = kind.classifications.get(scheme) or kind.classifications.get(
            compact_scheme(scheme)
        )
        if attribute is None:
            self._extra(f"Classification with scheme {scheme}", obj.entry_uuid)
            return
        self._belongs(element, obj, attribute.name)
        if attribute.carrier is Carrier.AUTHOR:
            obj.author.append(self._author(element, obj.entry_uuid))
            return
        code = self._code(element, attribute, obj.entry_uuid)
        if attribute.many:
            getattr(obj, attribute.field).append(code)
        elif getattr(obj, attribute.field) is None:
            setattr(obj, attribute.field, code)
        else:
            self._fault(rules.ATTRIBUTE_REPEATED, obj.entry_uuid, attribute=attribute.name)

    def _belongs(self, element: etree._Element, obj: Any, name: str) -> None:
        classified = _attribute(element, "classifiedObject")
        if classified != obj.entry_uuid:
            self._fault(rules.CLASSIFIED_OBJECT, obj.entry_uuid, attribute=name, value=classified)

    def _node(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        node = _node_of(element)
        if node in kind.nodes:
            self._belongs(element, obj, kind.nodes[node].name)
            setattr(obj, kind.nodes[node].field, True)
        elif node in _PACKAGE_NODES and kind.node:
            self._belongs(element, obj, kind.name)
        else:
            self._extra(f"Classification with node {node or '(none)'}", obj.entry_uuid)

    def _author(self, element: etree._Element, owner: str) -> Author:
        author = Author()
        for slot in element:
            if slot.tag != _SLOT:
                continue
            name = slot.get("name", "").strip(_SPACE)
            attribute = AUTHOR_SLOTS.get(name)
            if attribute is None:
                self._extra(f"Slot {name} of an author", owner)
            else:
                self._fill(author, attribute, slot_values(slot), owner)
        return author

    def _code(self, element: etree._Element, attribute: Attribute, owner: str) -> Code:
        schemes: list[str] = []
        name: LocalizedString | None = None
        for child in element:
            if child.tag == _NAME:
                name = self._localized(child, attribute.name, owner)
            elif child.tag == _SLOT and child.get("name", "").strip(_SPACE) == "codingScheme":
                schemes += filter(None, slot_values(child))
            elif child.tag == _SLOT:
                self._extra(f"Slot {child.get('name')} of {attribute.name}", owner)
        code = _attribute(element, "nodeRepresentation")
        if not code:
            self._fault(rules.CODE_MISSING, owner, attribute=attribute.name)
        if len(schemes) != 1:
            self._fault(
                rules.CODING_SCHEME_MISSING,
                owner,
                attribute=attribute.name,
                count=len(schemes),
                value=code,
            )
        if not name:
            self._fault(rules.CODE_NAME_MISSING, owner, attribute=attribute.name, value=code)
        return Code(code, schemes[0] if schemes else "", name or LocalizedString(""))

    # --- External identifiers -----------------------------------------------------------------

    def _identifier(self, element: etree._Element, obj: Any, kind: Kind) -> None:
        scheme = element.get("identificationScheme", "")
        attribute = kind.identifiers.get(scheme) or kind.identifiers.get(compact_scheme(scheme))
        owner = obj.entry_uuid
        if attribute is None:
            self._extra(f"ExternalIdentifier with scheme {scheme or '(none)'}", owner)
            return
        described = _attribute(element, "registryObject")
        if described != owner:
            name = attribute.name
            self._fault(rules.IDENTIFIER_OBJECT, owner, attribute=name, value=described)
        self._identifier_name(element, attribute, owner)
        value = _attribute(element, "value")
        if getattr(obj, attribute.field) is not None:
            self._fault(rules.ATTRIBUTE_REPEATED, owner, attribute=attribute.name)
        elif value:
            setattr(obj, attribute.field, attribute.type(value))

    def _identifier_name(self, element: etree._Element, attribute: Attribute, owner: str) -> None:
        name = next(element.iter(_LOCALIZED_STRING), None)
        text = "" if name is None else _attribute(name, "value")
        expected = attribute.identifier_name
        if text != expected:
            self._fault(
                rules.IDENTIFIER_NAME,
                owner,
                attribute=attribute.name,
                value=text,
                expected=expected,
            )

    # --- Small things -------------------------------------------------------------------------

    def _localized(self, element: etree._Element, what: str, owner: str) -> LocalizedString | None:
        """The first text in a Name or Description."""
        first: LocalizedString | None = None
        for child in element:
            if child.tag != _LOCALIZED_STRING:
                continue
            if first is None:
                # xml:lang="" says that the language is not known (XML 1.0, 2.12).
                first = LocalizedString(child.get("value", ""), child.get(_LANG) or None)
            else:
                self._extra(f"a second text ({child.get(_LANG)}) for {what}", owner)
        return first

    def _unexpected(self, element: etree._Element, where: str) -> None:
        if isinstance(element.tag, str):  # not a comment or processing instruction
            name = etree.QName(element).text
            self._fault(rules.UNEXPECTED_ELEMENT, where, element=name)

    def _extra(self, what: str, owner: str) -> None:
        self._fault(rules.EXTRA_METADATA_NOT_SAVED, owner, what=what)

    def _fault(self, rule: rules.Rule, owner: str, **details: object) -> None:
        self.faults.append(Fault(rule, owner, **details))


_Handler = Callable[[_Reader, etree._Element, Any, Kind], None]
_HANDLERS: dict[object, _Handler] = {
    _SLOT: _Reader._slot,
    _NAME: _Reader._name,
    _DESCRIPTION: _Reader._description,
    _VERSION_INFO: _Reader._version,
    _CONTENT_VERSION_INFO: _Reader._ignore,
    _CLASSIFICATION: _Reader._classification,
    _EXTERNAL_IDENTIFIER: _Reader._identifier,
}


def _attribute(element: etree._Element, name: str) -> str:
    return (element.get(name) or "").strip(_SPACE)


def _node_of(element: etree._Element) -> str:
    return compact_scheme(element.get("classificationNode", ""))


def slot_values(slot: etree._Element) -> list[str]:
    """The values of a rim:Slot, trimmed; blank ones stay as empty texts."""
    return [_value(element) for element in slot.iter(_VALUE)]


def _value(element: etree._Element) -> str:
    # A comment inside the text would cut it short: put the pieces together.
    text = str(element.xpath("string()")) if len(element) else element.text
    return (text or "").strip(_SPACE)


_NUMBERED = re.compile(r"([0-9]{1,3})\|(.*)", re.DOTALL)


def _joined(values: list[str]) -> list[str]:
    """The one value that numbered pieces make up; anything else as it is."""
    pieces = [_NUMBERED.fullmatch(value) for value in values]
    numbered = {int(piece[1]): piece[2] for piece in pieces if piece}
    if len(numbered) < len(values):
        return values
    return ["".join(numbered[number] for number in sorted(numbered))]


def compact_scheme(scheme: str) -> str:
    """A scheme as UUIDs are written, for the senders that break or capitalise it."""
    return "".join(scheme.split()).lower()
