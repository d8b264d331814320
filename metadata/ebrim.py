"""ebRIM 3.0 both ways: the objects of a message, stored fragments, edits in place.

The door to ``ebrim_reader`` (what is tolerated on the way in) and ``ebrim_writer`` (what
canonical means on the way out). A *fragment* is one object in UTF-8 with the prefix
``rim:``, whose declaration belongs to the element it is spliced into.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lxml import etree

from metadata.ebrim_reader import compact_scheme, read_objects, slot_values
from metadata.ebrim_writer import object_ref, write_object, write_objects
from metadata.identifiers import RIM
from metadata.model import AnyObject, Submission

__all__ = [
    "external_identifier",
    "get_slot",
    "object_ref",
    "read_fragment",
    "read_fragments",
    "read_objects",
    "set_slot",
    "wrap",
    "write_object",
    "write_objects",
]

_SLOT = f"{{{RIM}}}Slot"
_VALUE_LIST = f"{{{RIM}}}ValueList"
_VALUE = f"{{{RIM}}}Value"
_EXTERNAL_IDENTIFIER = f"{{{RIM}}}ExternalIdentifier"


def wrap(fragments: Iterable[bytes]) -> bytes:
    """The fragments as one rim:RegistryObjectList that declares its prefix."""
    body = b"".join(fragments)
    return b'<rim:RegistryObjectList xmlns:rim="%s">%s</rim:RegistryObjectList>' % (
        RIM.encode(),
        body,
    )


def read_fragment(fragment: bytes) -> AnyObject:
    """The object in a fragment of our own making; raises ValueError if it holds no single one."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    objects = list(read_objects(etree.fromstring(wrap([fragment]), parser)).objects())
    if len(objects) != 1:
        raise ValueError(f"a fragment holds one registry object, this one {len(objects)}")
    return objects[0]


def read_fragments(fragments: Iterable[bytes]) -> Submission:
    """The objects in fragments of any maker, as they came in one message."""
    return read_objects(etree.fromstring(wrap(fragments)))


def get_slot(element: etree._Element, name: str) -> list[str]:
    """The values of the Slots called ``name`` of a registry object; empty if it has none."""
    return [value for slot in _slots(element, name) for value in slot_values(slot)]


def set_slot(element: etree._Element, name: str, values: Sequence[str]) -> None:
    """Give a registry object exactly one Slot ``name`` holding ``values``; none removes it.

    A new Slot goes after the last one, before all other children (ebRIM schema order).
    """
    for slot in _slots(element, name):
        element.remove(slot)
    if not values:
        return
    slot = element.makeelement(_SLOT, {"name": name})
    value_list = etree.SubElement(slot, _VALUE_LIST)
    for value in values:
        etree.SubElement(value_list, _VALUE).text = value
    last = max((i for i, child in enumerate(element) if child.tag == _SLOT), default=-1)
    element.insert(last + 1, slot)


def external_identifier(element: etree._Element, scheme: str) -> str | None:
    """The value of the ExternalIdentifier of ``scheme``, None if absent or empty."""
    for identifier in element.iterchildren(_EXTERNAL_IDENTIFIER):
        if compact_scheme(identifier.get("identificationScheme", "")) == scheme:
            return identifier.get("value", "").strip(" \t\r\n") or None
    return None


def _slots(element: etree._Element, name: str) -> list[etree._Element]:
    return [slot for slot in element.iterchildren(_SLOT) if slot.get("name", "").strip() == name]
