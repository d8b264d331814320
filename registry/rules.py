"""The rules of registration that only the registry's own state can judge.

Covers ITI TF-2 3.42.4.1.3.3 to 3.42.4.1.3.5 as far as ``metadata.validation``, which sees the
message alone, does not. Pure: what the registry holds comes in as ``Surroundings``, every
fault goes out, named by the ids that the sender used. Ends of an association that are both in
the message have been judged already.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.datatypes import is_uuid_urn
from metadata.identifiers import (
    APND,
    DOCUMENT_RELATIONSHIPS,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    REPLACEMENTS,
    STABLE,
)
from metadata.model import (
    AnyObject,
    Association,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from registry import schema
from registry.lookup import Located
from registry.rows import content_hash, content_size, kind_of
from registry.surroundings import Identity, Surroundings

KIND_NAMES = {
    schema.DOCUMENT: "DocumentEntry",
    schema.SUBMISSION_SET: "SubmissionSet",
    schema.FOLDER: "Folder",
    schema.ASSOCIATION: "Association",
}

# What may hold a registered document as a member.
_CONTAINERS = (schema.SUBMISSION_SET, schema.FOLDER)


def judge(submission: Submission, around: Surroundings) -> list[Fault]:
    """Every breach of a rule by ``submission`` in the registry's present state."""
    return [
        *patient_faults(submission, around.survivors),
        *entry_uuid_faults(submission, around.located),
        *unique_id_faults((*submission.submission_sets, *submission.folders), around.identities),
        *_document_unique_ids(submission, around),
        *_Links(submission, around).faults(),
    ]


def patient_faults(submission: Submission, survivors: Mapping[str, str]) -> Iterator[Fault]:
    """The patient was announced by the feed and is active (ITI TF-2 3.42.4.1.3.3.2)."""
    for package in submission.submission_sets:
        if package.patient_id is None or package.patient_id.problem():
            continue
        survivor = survivors.get(package.patient_id.normalised())
        if survivor is None:
            yield Fault(rules.UNKNOWN_PATIENT, package.entry_uuid, value=package.patient_id)
        elif survivor != package.patient_id.normalised():
            yield Fault(rules.MERGED_PATIENT, package.entry_uuid, value=package.patient_id)


def entry_uuid_faults(submission: Submission, located: Container[str]) -> Iterator[Fault]:
    """No entryUUID of the message is registered yet (ITI TF-2 3.42.4.1.3.3)."""
    for obj in submission.objects():
        if obj.entry_uuid in located:
            yield Fault(rules.ENTRY_UUID_REGISTERED, obj.entry_uuid)


def unique_id_faults(
    packages: Iterable[SubmissionSet | Folder], known: Container[str | None]
) -> Iterator[Fault]:
    """No object at all has the uniqueId yet (ITI TF-2 3.42.4.1.3.3.7)."""
    for package in packages:
        if package.unique_id in known:
            kind = "Folder" if isinstance(package, Folder) else "SubmissionSet"
            yield Fault(
                rules.DUPLICATE_UNIQUE_ID, package.entry_uuid, kind=kind, value=package.unique_id
            )


def _document_unique_ids(submission: Submission, around: Surroundings) -> Iterator[Fault]:
    """A uniqueId stands for one content: registering it again is no error (3.42.4.1.3.3.1).

    Neither is a second On-Demand entry; but one uniqueId never stands for both (3.61.4.1.3).
    """
    for document in submission.documents:
        known = around.identities.get(document.unique_id or "")
        if known is None:
            continue
        types = {_known_type(known), document.object_type}
        if ON_DEMAND in types and len(types) > 1:
            yield Fault(
                rules.UNIQUE_ID_OF_OTHER_TYPE,
                document.entry_uuid,
                value=document.unique_id,
                known=_known_as(known),
            )
            continue
        if content_hash(document) != known.hash:
            yield Fault(rules.HASH_DIFFERS, document.entry_uuid, value=document.unique_id)
        if content_size(document) != known.size:
            yield Fault(rules.SIZE_DIFFERS, document.entry_uuid, value=document.unique_id)


def _known_type(known: Identity) -> str:
    """The objectType of a document that a uniqueId stands for; empty if it is no document's."""
    if known.kind != schema.DOCUMENT:
        return ""
    return ON_DEMAND if known.hash is None else STABLE


def _known_as(known: Identity) -> str:
    """What a uniqueId stands for, in words."""
    names = {ON_DEMAND: "an On-Demand document", STABLE: "a Stable document"}
    return names.get(_known_type(known), f"a {KIND_NAMES[known.kind]}")


class _Links:
    """The rules of associations with an end in the registry."""

    def __init__(self, submission: Submission, around: Surroundings) -> None:
        self._submission = submission
        self._around = around
        self._new: dict[str, AnyObject] = {obj.entry_uuid: obj for obj in submission.objects()}

    def faults(self) -> Iterator[Fault]:
        """Every fault, association by association."""
        replaced: set[str] = set()
        for link in self._submission.associations:
            yield from self._unresolved(link)
            yield from self._by_type(link)
            if link.association_type in REPLACEMENTS and self._existing(link.target):
                # The first replacement deprecates it: no document has two.
                if link.target in replaced:
                    yield Fault(rules.DEPRECATED_DOCUMENT, link.entry_uuid, value=link.target)
                replaced.add(link.target)

    def _existing(self, end: str) -> Located | None:
        """The registered object that an end means; the message's own objects come first."""
        return None if end in self._new else self._around.located.get(end)

    def _unresolved(self, link: Association) -> Iterator[Fault]:
        for attribute, end in (("sourceObject", link.source), ("targetObject", link.target)):
            unknown = end not in self._new and end not in self._around.located
            if unknown and is_uuid_urn(end):
                yield Fault(
                    rules.UNRESOLVED_REFERENCE, link.entry_uuid, attribute=attribute, value=end
                )

    def _by_type(self, link: Association) -> Iterator[Fault]:
        source, target = self._existing(link.source), self._existing(link.target)
        for end in (source, target):
            if end is not None and end.kind == schema.SUBMISSION_SET:
                value = end.entry_uuid
                yield Fault(rules.FOREIGN_SUBMISSION_SET, link.entry_uuid, value=value)
                return
        if link.association_type == HAS_MEMBER:
            yield from self._membership(link, source, target)
        elif link.association_type in DOCUMENT_RELATIONSHIPS and target is not None:
            yield from self._relationship(link, target)

    def _membership(
        self, link: Association, source: Located | None, target: Located | None
    ) -> Iterator[Fault]:
        """Members of a Folder (3.42.4.1.3.4), and documents by reference, which are free."""
        source_kind, target_kind = self._kind(link.source), self._kind(link.target)
        if (source is None and target is None) or source_kind is None or target_kind is None:
            return  # judged by the message alone, or reported as unresolved
        if source_kind not in _CONTAINERS or target_kind != schema.DOCUMENT:
            yield self._wrong_ends(link, source_kind, target_kind)
        elif source_kind == schema.FOLDER:
            yield from self._folder_member(link)

    def _folder_member(self, link: Association) -> Iterator[Fault]:
        folder = self._around.folders.get(link.source)
        if folder is not None and folder.status != schema.APPROVED:
            yield Fault(rules.DEPRECATED_FOLDER, link.entry_uuid, value=link.source)
        yield from self._approved(link)
        if self._patient(link.source) != self._patient(link.target):
            yield Fault(rules.FOLDER_PATIENT_DIFFERS, link.source, value=link.target)

    def _relationship(self, link: Association, target: Located) -> Iterator[Fault]:
        """Between a new document and a registered one (ITI TF-2 3.42.4.1.3.5)."""
        if target.kind != schema.DOCUMENT:
            yield self._wrong_ends(link, schema.DOCUMENT, target.kind)
            return
        yield from self._approved(link)
        if link.source in self._new and self._patient(link.source) != target.survivor:
            yield Fault(rules.RELATED_PATIENT_DIFFERS, link.entry_uuid, value=target.survivor)
        if link.association_type == IS_SNAPSHOT_OF:
            yield from self._snapshot(link)
        if link.association_type == APND and link.target in self._around.transformations:
            yield Fault(rules.APPEND_TO_TRANSFORMATION, link.entry_uuid, value=link.target)

    def _snapshot(self, link: Association) -> Iterator[Fault]:
        """From a Stable entry, which is new, to a registered On-Demand one (TF-3 4.2.2.2.7)."""
        document = self._around.documents.get(link.target)  # none: it just went to another patient
        if document is None or document.object_type != schema.ON_DEMAND:
            yield Fault(rules.SNAPSHOT_TARGET, link.entry_uuid, value=link.target)
        source = self._new.get(link.source)
        if isinstance(source, DocumentEntry) and source.object_type == ON_DEMAND:
            yield Fault(rules.SNAPSHOT_TARGET, link.entry_uuid, value=link.source)

    def _approved(self, link: Association) -> Iterator[Fault]:
        document = self._around.documents.get(link.target)
        if document is not None and document.status != schema.APPROVED:
            yield Fault(rules.DEPRECATED_DOCUMENT, link.entry_uuid, value=link.target)

    def _patient(self, end: str) -> str | None:
        """Who stands today for the patient of an end; None when the message names none."""
        new = self._new.get(end)
        if new is None:
            return self._around.located[end].survivor
        patient_id = None if isinstance(new, Association) else new.patient_id
        return self._around.survivor(patient_id.normalised()) if patient_id else None

    def _kind(self, end: str) -> str | None:
        new = self._new.get(end)
        if new is not None:
            return kind_of(new)
        return self._around.located[end].kind if end in self._around.located else None

    def _wrong_ends(self, link: Association, source: str, target: str) -> Fault:
        return Fault(
            rules.ASSOCIATION_ENDS,
            link.entry_uuid,
            type=link.type_name,
            source=KIND_NAMES[source],
            target=KIND_NAMES[target],
        )
