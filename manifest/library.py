"""Reading the Image Library (PS3.16 TID 1600) of a MADO manifest: what series and instances are.

The evidence sequence says what is shared; the content tree describes it, or a part of it. What
the tree names beyond the evidence is told as a remark, never added (IHE RAD MADO X.1.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pydicom.dataset import Dataset

from manifest.concepts import Known, recognised
from manifest.model import MANIFEST, Concept, ManifestInstance, ManifestSeries

# Where the value of a content item is, by its value type (PS3.3 C.17.3).
_VALUES = {"TEXT": "TextValue", "UIDREF": "UID", "DATE": "Date", "TIME": "Time"}

Descriptors = dict[Known, list[str | Concept]]


@dataclass(slots=True)
class Library:
    """What a content tree says: descriptors by the UID of their series or instance."""

    series: dict[str, Descriptors] = field(default_factory=dict)
    instances: dict[str, Descriptors] = field(default_factory=dict)
    referenced: set[str] = field(default_factory=set)
    """The SOP Instance UIDs that the tree names anywhere."""

    def describe(self, series: ManifestSeries) -> ManifestSeries:
        """The series with what is said of it and of its instances."""
        told = self.series.get(series.series_instance_uid, {})
        region = _first(told, Known.TARGET_REGION)
        return replace(
            series,
            modality=_code(told, Known.MODALITY) or series.modality,
            region=region if isinstance(region, Concept) else series.region,
            series_number=_number(told, Known.SERIES_NUMBER),
            description=_text(told, Known.SERIES_DESCRIPTION),
            date=_text(told, Known.SERIES_DATE),
            time=_text(told, Known.SERIES_TIME),
            instances=tuple(map(self._instance, series.instances)),
        )

    def _instance(self, instance: ManifestInstance) -> ManifestInstance:
        told = self.instances.get(instance.sop_instance_uid)
        if told is None:
            return instance
        return replace(
            instance,
            instance_number=_number(told, Known.INSTANCE_NUMBER),
            number_of_frames=_number(told, Known.FRAME_COUNT) or 1,
        )


def read_library(dataset: Dataset) -> Library:
    """What the content tree of a manifest says.

    That of a plain one (title "Manifest") says nothing that its evidence does not, and is left
    alone: to walk it would take as long as all the rest.
    """
    library = Library()
    if _concept(dataset, "ConceptNameCodeSequence") == MANIFEST:
        return library
    for item in _items(dataset):
        if concept_of(item) is Known.IMAGE_LIBRARY:
            for group in _items(item):
                _read_group(group, library)
        else:
            library.referenced.update(_referenced(item))
    return library


def concept_of(item: Dataset) -> Known | None:
    """Which concept of a MADO manifest a content item, or a document by its title, is about."""
    found = _concept(item, "ConceptNameCodeSequence")
    return None if found is None else recognised(found)


def descriptors(item: Dataset) -> Descriptors:
    """The values that the children of a content item give, by concept."""
    told: Descriptors = {}
    for child in _items(item):
        known, value = concept_of(child), _value(child)
        if known is not None and value is not None:
            told.setdefault(known, []).append(value)
    return told


def _read_group(group: Dataset, library: Library) -> None:
    told = descriptors(group)
    for uid in told.get(Known.SERIES_UID, ()):
        library.series.setdefault(str(uid), told)
    for entry in _items(group):
        for uid in _referenced(entry):
            library.referenced.add(uid)
            library.instances[uid] = descriptors(entry)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    yield from dataset.get("ContentSequence") or ()


def _referenced(item: Dataset) -> list[str]:
    references = item.get("ReferencedSOPSequence") or ()
    return [str(one.get("ReferencedSOPInstanceUID", "")) for one in references]


def _value(item: Dataset) -> str | Concept | None:
    kind = str(item.get("ValueType", ""))
    if kind == "CODE":
        return _concept(item, "ConceptCodeSequence")
    if kind == "NUM":
        values = item.get("MeasuredValueSequence")
        return str(values[0].get("NumericValue", "")) if values else None
    value = item.get(_VALUES.get(kind, ""))
    return None if value is None else str(value)


def _concept(item: Dataset, keyword: str) -> Concept | None:
    codes = item.get(keyword)
    if not codes:
        return None
    names = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    return Concept(*(str(codes[0].get(name) or "") for name in names))


def _first(told: Descriptors, known: Known) -> str | Concept:
    return next(iter(told.get(known, ())), "")


def _text(told: Descriptors, known: Known) -> str:
    value = _first(told, known)
    return value if isinstance(value, str) else ""


def _code(told: Descriptors, known: Known) -> str:
    value = _first(told, known)
    return value.code if isinstance(value, Concept) else value


def _number(told: Descriptors, known: Known) -> int | None:
    with suppress(ValueError):
        return int(_text(told, known))
    return None


def text_of(dataset: Dataset, keyword: str) -> str:
    """The text of an element, empty if it is absent."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip("\0 ")
