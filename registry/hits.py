"""What a query has found, and how it is shown in an answer.

A fragment is copied as it was rendered when its object was registered; it is rendered anew only
when it must show another patientId: that of the survivor of a merge (ITI TF-2 3.18.4.1.2.3.9).
The fragments of a large answer are made one by one, as they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from metadata import ebrim
from metadata.datatypes import CX
from metadata.model import Association
from registry.links import Link
from registry.lookup import Located
from transactions.iti_18 import AT_ONCE

# (entry_uuid, patient, survivor[, ebrim]): see ``registry.search``.
Hit = Sequence[Any]
ENTRY_UUID, PATIENT, SURVIVOR, EBRIM = range(4)


def association_hits(links: Iterable[Link]) -> list[Hit]:
    """Associations as hits: they have no patientId of their own."""
    return [(link.entry_uuid, None, None, link.ebrim) for link in links]


def entry_uuids(hits: Iterable[Hit]) -> set[str]:
    """The entryUUIDs of ``hits``."""
    return {hit[ENTRY_UUID] for hit in hits}


def located(hits: Iterable[Hit], kind: str) -> list[Located]:
    """Where ``hits``, all of one kind, were found."""
    return [Located(hit[ENTRY_UUID], kind, hit[PATIENT], hit[SURVIVOR]) for hit in hits]


def fragments(hits: Sequence[Hit], leaf_class: bool) -> Sequence[bytes]:
    """The objects themselves, or references to them."""
    render = _leaf if leaf_class else _reference
    return list(map(render, hits)) if len(hits) <= AT_ONCE else _Rendered(hits, render)


@dataclass(frozen=True, slots=True)
class _Rendered(Sequence[bytes]):
    """The fragments of many hits, each made when it is asked for."""

    hits: Sequence[Hit]
    render: Callable[[Hit], bytes]

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return _Rendered(self.hits[index], self.render)
        return self.render(self.hits[index])


def _reference(hit: Hit) -> bytes:
    return ebrim.object_ref(hit[ENTRY_UUID])


def _leaf(hit: Hit) -> bytes:
    fragment: bytes = hit[EBRIM]
    return fragment if hit[PATIENT] == hit[SURVIVOR] else _shown_as(fragment, hit[SURVIVOR])


def _shown_as(fragment: bytes, survivor: str) -> bytes:
    obj = ebrim.read_fragment(fragment)
    if not isinstance(obj, Association):
        obj = replace(obj, patient_id=CX(survivor))
    return ebrim.write_object(obj)
