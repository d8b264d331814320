"""Random histories of a registry, right and deliberately wrong ones.

After each step the whole visible state of the registry is that of the model.
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from metadata import identifiers as xds
from metadata.model import DocumentEntry, Folder, Submission, SubmissionSet
from tests.model import faults
from tests.model.asking import answer_of
from tests.model.messages import REFERENCES, Draft, content
from tests.model.over_soap import Registry
from tests.model.play import PATIENTS, Play
from tests.model.queries import expected, request
from tests.model.removing import closure
from tests.model.steps import (
    LINK_TYPES,
    STATUSES,
    Document,
    Query,
    Registration,
    Status,
    Update,
    Version,
    queries,
    registrations,
    removals,
    updates,
)


class Histories(RuleBasedStateMachine):
    """The steps; ``registry`` and ``authority`` are those of a running node."""

    registry: ClassVar[Registry]
    authority: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(self.registry, self.authority)
        self.contents = 0

    @invariant()
    def registry_and_model_are_the_same(self) -> None:
        self.play.compare()

    # --- Registrations -------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Each of two patients has a document alone and one in a folder."""
        for patient in PATIENTS[:2]:
            documents = (Document(), Document(folder="new", refers_to=0))
            self._register(Registration(patient, documents))

    @rule(message=registrations())
    def register(self, message: Registration) -> None:
        self._register(message)

    def _register(self, message: Registration) -> None:
        draft = self.play.draft(message.patient)
        draft.object_type = xds.ON_DEMAND if message.on_demand else xds.STABLE
        if message.folder:
            draft.folder()
        for document in message.documents:
            self._add(draft, document)
        for pair in message.filed:
            draft.file(*pair)
        if message.by_reference:
            status = {"submission_set_status": xds.REFERENCE}
            draft.link(xds.HAS_MEMBER, draft.set, message.by_reference, **status)
        if message.signed:
            draft.link(xds.SIGNS, self._document(draft).entry_uuid, draft.set)
        if message.wrong:
            faults.REGISTRATIONS[message.wrong](draft, self.play.world, message.other or "")
        codes = self.play.register(draft.submission, message.symbolic, draft.object_type)
        _told(codes, draft.submission)

    def _add(self, draft: Draft, wanted: Document) -> None:
        document = self._document(draft)
        like = self.play.world.objects.get(wanted.like or "")
        if isinstance(like, DocumentEntry):
            document.unique_id = like.unique_id
            if not wanted.other_content and document.hash:
                document.hash, document.size = like.hash, like.size
        if wanted.refers_to is not None:
            document.reference_id_list = [REFERENCES[wanted.refers_to]]
        if wanted.relation:
            draft.link(LINK_TYPES[wanted.relation], document.entry_uuid, wanted.to or "")
        if wanted.folder == "new":
            draft.file(draft.folder().entry_uuid, document.entry_uuid)
        elif wanted.folder:
            draft.file(wanted.folder, document.entry_uuid)

    def _document(self, draft: Draft) -> DocumentEntry:
        self.contents += 1
        return draft.document(self.contents)

    # --- Updates -------------------------------------------------------------------------------

    @rule(message=updates())
    def update(self, message: Update) -> None:
        draft = self.play.draft(message.patient)
        for operation in message.operations:
            if isinstance(operation, Version):
                self._version(draft, operation)
            elif isinstance(operation, Status):
                self._status(draft, operation)
            else:
                draft.submit(LINK_TYPES[operation.kind], operation.source, operation.target)
        if message.wrong:
            faults.UPDATES[message.wrong](draft, self.play.world, message.other or "")
        _told(self.play.update(draft.submission, message.symbolic), draft.submission)

    def _version(self, draft: Draft, wanted: Version) -> None:
        latest = self.play.world.latest(wanted.of)
        if latest is None:
            return
        new = draft.version(latest, association_propagation=wanted.propagation)
        if isinstance(new, DocumentEntry):
            # What the others would stand for is nobody's guess.
            alone = len(self.play.world.namesakes(new.unique_id)) == 1
            if wanted.changes == "content" and new.object_type == xds.STABLE and alone:
                self.contents += 1
                for name, value in content(self.contents).items():
                    setattr(new, name, value)
            elif wanted.changes == "Offline":
                new.document_availability = xds.OFFLINE
            elif wanted.changes == "Online":
                new.document_availability = xds.ONLINE

    def _status(self, draft: Draft, wanted: Status) -> None:
        """Of what is registered, or of the new version that the message brings of it."""
        world = self.play.world
        obj = world.objects.get(wanted.of)
        status = obj.availability_status if obj else xds.APPROVED
        target = wanted.of
        for new in (*draft.submission.documents, *draft.submission.folders):
            if isinstance(obj, DocumentEntry | Folder) and new.logical_id == obj.logical_id:
                latest = world.latest(wanted.of)
                target, status = new.entry_uuid, latest.availability_status if latest else None
        draft.link(
            xds.UPDATE_AVAILABILITY_STATUS,
            draft.set,
            target,
            original_status=status,
            new_status=STATUSES[wanted.to],
        )

    # --- Removals, merges, queries -------------------------------------------------------------

    @rule(what=removals())
    def remove(self, what: tuple[str, str] | None) -> None:
        if what is None:
            return
        start, extent = what
        labels = {start} if extent == "alone" else closure(self.play.world, start)
        if extent == "but one" and len(labels) > 1:
            labels.discard(sorted(labels)[len(labels) // 2])
        note(f"-> {sorted(self.play.remove(labels)) or 'Success'}: {' '.join(sorted(labels))}")

    @rule(
        surviving=st.sampled_from(PATIENTS),
        subsumed=st.sampled_from(PATIENTS),
        now=st.integers(0, 3),
    )
    def merge(self, surviving: str, subsumed: str, now: int) -> None:
        """Rarely: what is merged stays so."""
        if now == 3:
            note(f"-> {'merged' if self.play.merge(surviving, subsumed) else 'refused'}")

    @rule(query=queries())
    def ask(self, query: Query) -> None:
        answer = self.registry.ask(request(query, self.play))
        labels, codes = answer_of(lambda: expected(query, self.play))
        if not isinstance(answer, Submission):
            assert answer == codes
            return
        assert not codes
        if query.object_ref:
            found = [self.play.labels.get(one, one) for one in answer.object_refs]
            assert sorted(found) == sorted(labels)
        else:
            self.play.same(labels, answer, query.name)


def _told(codes: set[str], message: Submission) -> None:
    """Say in a printed history what became of a message."""
    objects = [obj for obj in message.objects() if obj.entry_uuid]
    names = [
        f"{obj.entry_uuid}={obj.type_name}({obj.source},{obj.target})"
        if not isinstance(obj, DocumentEntry | Folder | SubmissionSet)
        else obj.entry_uuid
        for obj in objects
    ]
    note(f"-> {sorted(codes) or 'Success'}: {' '.join(names)}")
