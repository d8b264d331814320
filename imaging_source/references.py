"""References to instances in sequences of small data sets: read, and ready to be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from imaging_source.elements import Elements
from imaging_source.encoded import Value
from imaging_source.header import is_uid

REFERENCED_SOP_CLASS_UID = 0x00081150
REFERENCED_SOP_INSTANCE_UID = 0x00081155


class Reference(NamedTuple):
    """An instance by its class and its own UID."""

    sop_class_uid: str
    sop_instance_uid: str

    @property
    def values(self) -> dict[int, tuple[str, Value]]:
        """The item of a sequence that names it."""
        return {
            REFERENCED_SOP_CLASS_UID: ("UI", self.sop_class_uid),
            REFERENCED_SOP_INSTANCE_UID: ("UI", self.sop_instance_uid),
        }


def texts_of(elements: Elements, *tags: int) -> list[str]:
    """The values of ``tags`` as ASCII text, empty where they are not there."""
    found = elements.find(tags)
    places = (found.get(tag, (0, 0)) for tag in tags)
    return [_text(elements.data[start:stop]) for start, stop in places]


def items_of(elements: Elements, sequence: int) -> Iterator[Elements]:
    """The items of a sequence; none where it is not there."""
    place = elements.find({sequence}).get(sequence)
    return iter(()) if place is None else elements.items(place)


def references_of(elements: Elements, sequence: int) -> Iterator[Reference]:
    """The references in a sequence; items that name no instance are passed over."""
    for item in items_of(elements, sequence):
        sop_class, instance = texts_of(item, REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID)
        if is_uid(instance):
            yield Reference(sop_class, instance)


def _text(value: bytes) -> str:
    return value.strip(b"\0 ").decode("ascii", "replace")
