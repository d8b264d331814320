"""The documents that the query cases ask about: few, different in every attribute.

Registered once a run, for two patients of their own. A, B and C are Approved, D Deprecated
(replaced by B), X belongs to the other patient. What distinguishes them is in ``TRAITS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conformance.bench import Bench
from conformance.material import related
from conformance.targets import NotRun, Targets
from conformance.text import Text
from metadata.datatypes import CX, DTM, XCN, CXi
from metadata.identifiers import ACCESSION_REFERENCE, ORDER_REFERENCE, RPLC
from metadata.model import Author, Code, DocumentEntry

CODED = {
    "class_code": "classCode",
    "type_code": "typeCode",
    "format_code": "formatCode",
    "healthcare_facility_type_code": "healthcareFacilityTypeCode",
    "practice_setting_code": "practiceSettingCode",
}
"""Attributes with one code: A has the first code of the set, B the second, C the first."""

ORDER = CXi(f"A-100^^^&2.25.7&ISO^{ORDER_REFERENCE}")
ACCESSION = CXi(f"B-200^^^&2.25.7&ISO^{ACCESSION_REFERENCE}")
OTHER_ORDER = CXi(f"C-300^^^&2.25.7&ISO^{ORDER_REFERENCE}")


@dataclass(frozen=True, slots=True)
class Corpus:
    """The registered documents, by letter."""

    patient: CX
    other_patient: CX
    documents: dict[str, DocumentEntry]
    codes: dict[str, list[Code]]

    def ids(self, letters: str) -> list[str]:
        """The entryUUIDs of these documents."""
        return [self.documents[letter].entry_uuid for letter in letters]

    @property
    def labels(self) -> dict[str, str]:
        """entryUUID -> letter."""
        return {entry.entry_uuid: letter for letter, entry in self.documents.items()}


def corpus(bench: Bench) -> Corpus:
    """The corpus of this run; made by the first case that asks."""
    return bench.session.shared("corpus", lambda: _make(bench))


def _make(bench: Bench) -> Corpus:
    patient, other = bench.patients(2)
    codes = _codes(bench.targets)
    documents: dict[str, DocumentEntry] = {}
    for letter, changes in _traits(codes).items():
        owner = other if letter == "X" else patient
        entry = documents[letter] = bench.entry(owner, **changes)
        links = [related(RPLC, entry, documents["D"])] if letter == "B" else []
        bench.registered(bench.submission(owner, entry, associations=links))
    return Corpus(patient, other, documents, codes)


def _codes(targets: Targets) -> dict[str, list[Code]]:
    codes = {name: targets.codes(name) for name in (*CODED.values(), "confidentialityCode")}
    codes["eventCodeList"] = targets.codes("eventCodeList")
    if len(codes["eventCodeList"]) < 3:
        raise NotRun(
            Text("eventCodeList has fewer than three codes", "eventCodeList a moins de trois codes")
        )
    return codes


def _traits(codes: dict[str, list[Code]]) -> dict[str, dict[str, Any]]:
    """What each document has of its own; D comes before B, which replaces it."""
    first, second, third = codes["eventCodeList"][:3]
    normal, other = codes["confidentialityCode"][:2]

    def coded(number: int) -> dict[str, Any]:
        return {field: codes[name][number] for field, name in CODED.items()}

    return {
        "A": {
            **coded(0),
            "event_code_list": [first],
            "confidentiality_code": [normal],
            "creation_time": DTM("20260110120000"),
            "service_start_time": DTM("20260110080000"),
            "service_stop_time": DTM("20260110090000"),
            "author": [Author(person=XCN("^WELBY^MARCUS"))],
            "reference_id_list": [ORDER],
        },
        "D": coded(0),
        "B": {
            **coded(1),
            "event_code_list": [first, second],
            "confidentiality_code": [other],
            "creation_time": DTM("20260220120000"),
            "service_start_time": DTM("20260220"),
            "service_stop_time": DTM("20260221"),
            "author": [
                Author(person=XCN("^O'BRIEN^PAT")),
                Author(person=XCN("^WELBY^KILEY")),
            ],
            "reference_id_list": [ORDER, ACCESSION],
        },
        "C": {
            **coded(0),
            "event_code_list": [second, third],
            "confidentiality_code": [normal, other],
            "creation_time": DTM("20260301120000"),
            "author": [Author(person=XCN("^100%_SURE^ANN"))],
            "reference_id_list": [OTHER_ORDER],
        },
        "X": coded(0),
    }
