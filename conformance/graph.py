"""What the queries for structure are asked about: submissions, folders, relationships.

Registered once a run. The first patient has

    S1: documents A and B, folder F holding both
    S2: document C, a transformation of A
    S3: document D, which replaces C

and the second S4: document X, folder Y holding it, and S5: document Z, a transformation of X.
A and X are one document registered twice: they share uniqueId, hash and size. What a query must
find is worked out from what was submitted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from conformance.bench import Bench
from conformance.material import has_member, related
from metadata.datatypes import CX, CXi, new_oid
from metadata.identifiers import ORDER_REFERENCE, RPLC, XFRM
from metadata.model import Association, DocumentEntry, Folder, Submission

REFERENCE = CXi(f"GRAPH-1^^^&2.25.7&ISO^{ORDER_REFERENCE}")
"""What A refers to, and no other document."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What is registered: objects by letter, submissions by name."""

    patient: CX
    other_patient: CX
    documents: dict[str, DocumentEntry]
    folders: dict[str, Folder]
    submissions: dict[str, Submission] = field(default_factory=dict)

    def id(self, letter: str) -> str:
        """The entryUUID of a document or folder."""
        return (self.documents.get(letter) or self.folders[letter]).entry_uuid

    def ids(self, letters: str) -> list[str]:
        """The entryUUIDs of these documents and folders."""
        return [self.id(letter) for letter in letters]

    def unique_id(self, letter: str) -> str:
        """A document's uniqueId."""
        return self.documents[letter].unique_id or ""

    def set_id(self, name: str) -> str:
        """The entryUUID of a SubmissionSet."""
        return self.submissions[name].submission_sets[0].entry_uuid

    def links(self) -> Iterator[Association]:
        """Every association."""
        for submission in self.submissions.values():
            yield from submission.associations

    def touching(self, *ends: str) -> list[str]:
        """The associations that begin or end at one of ``ends``."""
        return [link.entry_uuid for link in self.links() if {link.source, link.target} & {*ends}]

    def between(self, sources: Collection[str], targets: Collection[str]) -> list[str]:
        """The associations from one of ``sources`` to one of ``targets``."""
        return [
            link.entry_uuid
            for link in self.links()
            if link.source in sources and link.target in targets
        ]

    def everything(self, name: str, without: str = "") -> list[str]:
        """What a submission brought, but for a document and all that leads to it."""
        gone = {self.id(letter) for letter in without}
        gone |= set(self.touching(*gone))
        gone |= set(self.touching(*gone))  # the membership of a folder's membership
        found = [obj.entry_uuid for obj in self.submissions[name].objects()]
        return [one for one in found if one not in gone]

    @property
    def labels(self) -> dict[str, str]:
        """entryUUID -> what people call it."""
        named = {one.entry_uuid: letter for letter, one in self.documents.items()}
        named |= {one.entry_uuid: letter for letter, one in self.folders.items()}
        named |= {self.set_id(name): name for name in self.submissions}
        for link in self.links():
            ends = [named.get(end, "a link") for end in (link.source, link.target)]
            named[link.entry_uuid] = f"{link.type_name} {ends[0]}-{ends[1]}"
        return named


def graph(bench: Bench) -> Graph:
    """The graph of this run; made by the first case that asks."""
    return bench.session.shared("graph", lambda: make_graph(bench))


def make_graph(bench: Bench) -> Graph:
    """A graph with patients of its own, for a case that changes it."""
    patient, other = bench.patients(2)
    made = Graph(
        patient,
        other,
        _documents(bench, patient, other),
        {"F": bench.folder(patient), "Y": bench.folder(other)},
    )

    def filed(folder: str, document: str) -> Association:
        return has_member(made.id(folder), made.id(document))

    def relation(kind: str, source: str, target: str) -> Association:
        return related(kind, made.documents[source], made.documents[target])

    for name, owner, letters, links in (
        ("S1", patient, "ABF", [filed("F", "A"), filed("F", "B")]),
        ("S2", patient, "C", [relation(XFRM, "C", "A")]),
        ("S3", patient, "D", [relation(RPLC, "D", "C")]),
        ("S4", other, "XY", [filed("Y", "X")]),
        ("S5", other, "Z", [relation(XFRM, "Z", "X")]),
    ):
        documents = [made.documents[one] for one in letters if one in made.documents]
        folders = [made.folders[one] for one in letters if one in made.folders]
        submission = bench.submission(owner, *documents, folders=folders, associations=links)
        made.submissions[name] = bench.registered(submission)
    return made


def _documents(bench: Bench, patient: CX, other: CX) -> dict[str, DocumentEntry]:
    formats = bench.targets.codes("formatCode")
    secret = bench.targets.codes("confidentialityCode")[1]
    twins = new_oid()
    return {
        "A": bench.entry(patient, unique_id=twins, reference_id_list=[REFERENCE]),
        "B": bench.entry(patient, format_code=formats[1], confidentiality_code=[secret]),
        "C": bench.entry(patient),
        "D": bench.entry(patient),
        "X": bench.entry(other, unique_id=twins),
        "Z": bench.entry(other),
    }
