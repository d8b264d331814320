"""What the steps of a history are made of, readable when a history is printed.

Steps are drawn near to what is registered, so that most of them may be done; what is not so near
comes up too: objects that are Deprecated, of other patients, or removed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from hypothesis import strategies as st

from metadata import identifiers as xds
from metadata.model import DocumentEntry
from tests.model import faults
from tests.model.play import NOBODY, PATIENTS, Play

STATUSES = {"Approved": xds.APPROVED, "Deprecated": xds.DEPRECATED}
DOCUMENT_TYPES = {"Stable": xds.STABLE, "On-Demand": xds.ON_DEMAND}
LINK_TYPES = {
    link.rpartition(":")[2]: link for link in (xds.HAS_MEMBER, *sorted(xds.DOCUMENT_RELATIONSHIPS))
}
RELATIONSHIPS = ["RPLC", "APND", "XFRM", "XFRM_RPLC", "signs", "IsSnapshotOf"]
QUERIES = [
    "find_documents",
    "find_documents_by_reference_id",
    "find_submission_sets",
    "find_folders",
    "get_all",
    "get_documents",
    "get_folders",
    "get_associations",
    "get_documents_and_associations",
    "get_submission_sets",
    "get_submission_set_and_contents",
    "get_folder_and_contents",
    "get_folders_for_document",
    "get_related_documents",
]

# One message of so many is made wrong on purpose.
WRONG_ONE_IN = 5


class Part:
    """A part of a step, printed with what it says only."""

    def __repr__(self) -> str:
        said = [
            f"{field.name}={value!r}"
            for field in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default and value != ()
        ]
        return f"{type(self).__name__}({', '.join(said)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis prints it."""
        printer.text(repr(self))


@dataclass(frozen=True, repr=False)
class Document(Part):
    """A new document: ``like`` has its uniqueId and, unless ``other_content``, its content.

    ``folder`` is "new" for one of the same message.
    """

    like: str | None = None
    other_content: bool = False
    refers_to: int | None = None
    relation: str | None = None
    to: str | None = None
    folder: str | None = None


@dataclass(frozen=True, repr=False)
class Registration(Part):
    """A message of ITI-42, or of ITI-61 if ``on_demand``.

    ``filed`` are registered documents with the registered folders that they are put into.
    """

    patient: str
    documents: tuple[Document, ...] = ()
    on_demand: bool = False
    folder: bool = False
    filed: tuple[tuple[str, str], ...] = ()
    by_reference: str | None = None
    signed: bool = False
    symbolic: bool = False
    wrong: str | None = None
    other: str | None = None


@dataclass(frozen=True, repr=False)
class Version(Part):
    """A new version of a document or folder, which says what ``changes``."""

    of: str
    changes: str | None = None
    propagation: str | None = None


@dataclass(frozen=True, repr=False)
class Status(Part):
    """A change of status."""

    of: str
    to: str


@dataclass(frozen=True, repr=False)
class Link(Part):
    """A submitted association."""

    kind: str
    source: str
    target: str


@dataclass(frozen=True, repr=False)
class Update(Part):
    """A message of ITI-57."""

    patient: str
    operations: tuple[Version | Status | Link, ...]
    symbolic: bool = False
    wrong: str | None = None
    other: str | None = None


@dataclass(frozen=True, repr=False)
class Query(Part):
    """A stored query: by ids of ``named`` objects, by their uniqueIds, or by patient."""

    name: str
    patient: str
    named: tuple[str, ...]
    by_unique_id: bool = False
    level: int = 1
    statuses: tuple[str, ...] = ("Approved", "Deprecated")
    types: tuple[str, ...] | None = None
    relations: tuple[str, ...] = ("RPLC",)
    references: tuple[int, ...] = (0,)
    object_ref: bool = False


class Drawing:
    """Draws near to the state of a play."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._play: Play = draw(st.runner()).play

    def one(self, values: Any) -> Any:
        return self._draw(st.sampled_from(values))

    def sometimes(self, one_in: int) -> bool:
        """Shrinks to False."""
        return bool(self._draw(st.integers(0, one_in - 1)) == one_in - 1)

    def patient(self) -> str:
        """Mostly one that may be submitted for."""
        active = [name for name in PATIENTS if self._play.is_active(name)]
        return str(self.one([*active, *active, *active, *PATIENTS]))

    def near(self, patient: str, *kinds: str) -> str:
        """Some object, mostly an Approved one of the patient."""
        known = self._play.known(*kinds)
        live = [label for label in known if self._play.is_of(label, patient)]
        approved = [label for label in live if self._play.world.is_approved(label)]
        return str(self.one(8 * approved + 2 * live + known or [faults.LOST]))

    def wrong(self, table: dict[str, faults.Fault], patient: str) -> dict[str, Any]:
        """Something wrong with a message, or nothing."""
        if not self.sometimes(WRONG_ONE_IN):
            return {}
        other = self.near(patient, "d", "f", "s", "a")
        return {"wrong": self.one(sorted(table)), "other": other}

    def document(self, patient: str) -> Document:
        given: dict[str, Any] = {}
        if self.sometimes(6):
            given["like"] = self.near(patient, "d")
            given["other_content"] = self.sometimes(4)
        if self.sometimes(3):
            given["refers_to"] = self.one([0, 1])
        if self.sometimes(2):
            given["to"] = self.near(patient, "d")
            given["relation"] = self.one(self._fit(given["to"]))
        if self.sometimes(2):
            given["folder"] = self.one(["new", self.near(patient, "f")])
        return Document(**given)

    def _fit(self, target: str) -> list[str]:
        """Relationships that a document may have to ``target``, and all others."""
        obj = self._play.world.objects.get(target)
        on_demand = isinstance(obj, DocumentEntry) and obj.object_type == xds.ON_DEMAND
        return (RELATIONSHIPS[-1:] if on_demand else RELATIONSHIPS[:-1]) * 3 + RELATIONSHIPS

    def operation(self, patient: str) -> Version | Status | Link:
        match self.one(["version", "version", "status", "file", "relate"]):
            case "version":
                changes = self.one([None, None, "Offline", "Online", "content"])
                propagation = self.one([None, None, "yes", "no"])
                return Version(self.near(patient, "d", "d", "f"), changes, propagation)
            case "status":
                of = self.near(patient, "d", "f", "a", "own")
                return Status(of, self._other_status(of))
            case "file":
                return Link("HasMember", self.near(patient, "f"), self.near(patient, "d"))
        target = self.near(patient, "d")
        return Link(self.one(self._fit(target)), self.near(patient, "d"), target)

    def _other_status(self, label: str) -> str:
        objects = self._play.world.objects
        approved = label in objects and self._play.world.is_approved(label)
        likely = "Deprecated" if approved else "Approved"
        return str(self.one([likely, likely, likely, "Approved", "Deprecated"]))

    def some(self, values: list[Any]) -> tuple[Any, ...]:
        return tuple(self._draw(st.lists(st.sampled_from(values), min_size=1, unique=True)))


@st.composite
def registrations(draw: st.DrawFn) -> Registration:
    """Messages of ITI-42 and ITI-61."""
    drawing = Drawing(draw)
    patient = drawing.patient()
    documents = tuple(drawing.document(patient) for _ in range(drawing.one([1, 0, 2, 1])))
    filed = tuple(
        (drawing.near(patient, "f"), drawing.near(patient, "d"))
        for _ in range(drawing.one([0, 0, 0, 1, 2]))
    )
    return Registration(
        patient,
        documents,
        on_demand=drawing.sometimes(5),
        folder=drawing.sometimes(3),
        filed=filed,
        by_reference=drawing.near(patient, "d") if drawing.sometimes(5) else None,
        signed=drawing.sometimes(6),
        symbolic=drawing.sometimes(3),
        **drawing.wrong(faults.REGISTRATIONS, patient),
    )


@st.composite
def updates(draw: st.DrawFn) -> Update:
    """Messages of ITI-57; rarely for another patient than the objects'."""
    drawing = Drawing(draw)
    patient = drawing.patient()
    operations = tuple(drawing.operation(patient) for _ in range(drawing.one([1, 1, 2, 3])))
    return Update(
        drawing.patient() if drawing.sometimes(8) else patient,
        operations,
        symbolic=drawing.sometimes(3),
        **drawing.wrong(faults.UPDATES, patient),
    )


@st.composite
def removals(draw: st.DrawFn) -> tuple[str, str] | None:
    """Where to begin, and how much: "alone", "all that must" go, "but one" of these.

    Mostly none, for little would be left.
    """
    drawing = Drawing(draw)
    if not drawing.sometimes(3):
        return None
    start = drawing.near(drawing.patient(), "d", "f", "s", "a", "own")
    return start, drawing.one(["all that must", "but one", "alone"])


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Stored queries."""
    drawing = Drawing(draw)
    patient = drawing.patient()
    other = drawing.patient() if drawing.sometimes(4) else patient
    kinds = ("d", "f", "s")
    return Query(
        drawing.one(QUERIES),
        drawing.one([patient, patient, patient, NOBODY]),
        (drawing.near(patient, *kinds), drawing.near(other, *kinds)),
        by_unique_id=drawing.sometimes(2),
        level=drawing.one([1, 2]),
        statuses=drawing.one([("Approved", "Deprecated"), ("Approved",), ("Deprecated",)]),
        types=drawing.one([None, ("Stable", "On-Demand"), ("On-Demand",)]),
        relations=drawing.some(RELATIONSHIPS),
        references=drawing.some([0, 1]),
        object_ref=drawing.sometimes(2),
    )
