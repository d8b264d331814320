"""Looking into a Key Object Selection document: its evidence, its content tree."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from manifest.concepts import Known
from manifest.library import concept_of, text_of


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, none if it is absent."""
    return list(dataset.get(keyword) or ())


def codes_of(dataset: Dataset, keyword: str) -> list[tuple[str, str]]:
    """The codes in a sequence: value and scheme."""
    return [
        (text_of(item, "CodeValue"), text_of(item, "CodingSchemeDesignator"))
        for item in items_of(dataset, keyword)
    ]


def evidence(dataset: Dataset) -> list[Dataset]:
    """The items of Current Requested Procedure Evidence Sequence."""
    return items_of(dataset, "CurrentRequestedProcedureEvidenceSequence")


def studies(dataset: Dataset) -> set[str]:
    """The studies of the evidence."""
    return {text_of(item, "StudyInstanceUID") for item in evidence(dataset)}


def all_series(dataset: Dataset) -> list[Dataset]:
    """The series of the evidence."""
    found = (items_of(item, "ReferencedSeriesSequence") for item in evidence(dataset))
    return [series for items in found for series in items]


def listed(dataset: Dataset) -> list[str]:
    """The SOP Instance UIDs of the evidence."""
    return [uid for series in all_series(dataset) for uid in referenced(series)]


def referenced(item: Dataset) -> list[str]:
    """The SOP Instance UIDs that an item names itself."""
    references = items_of(item, "ReferencedSOPSequence")
    return [text_of(one, "ReferencedSOPInstanceUID") for one in references]


def in_tree(item: Dataset) -> Iterator[str]:
    """The instances that what a content item contains names, at any depth."""
    waiting = items_of(item, "ContentSequence")
    while waiting:
        child = waiting.pop()
        yield from referenced(child)
        waiting += items_of(child, "ContentSequence")


def libraries(dataset: Dataset) -> list[Dataset]:
    """The Image Libraries of a document (PS3.16 TID 1600)."""
    return _about(dataset, Known.IMAGE_LIBRARY)


def groups(dataset: Dataset) -> list[Dataset]:
    """The Image Library Groups of a document: one for each series."""
    return [
        group
        for library in libraries(dataset)
        for group in _about(library, Known.IMAGE_LIBRARY_GROUP)
    ]


def entries(group: Dataset) -> list[Dataset]:
    """The entries of a group: one for each instance (PS3.16 TID 1601)."""
    return [item for item in items_of(group, "ContentSequence") if referenced(item)]


def _about(dataset: Dataset, known: Known) -> list[Dataset]:
    return [item for item in items_of(dataset, "ContentSequence") if concept_of(item) is known]
