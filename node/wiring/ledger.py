"""The records of DICOM associations, of what archives are asked and give, peers are told and tell.

They are in the audit trail of the process ``dicom``; what a command asks, in that of the command.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from imaging_source.elements import EXPLICIT_VR_LITTLE_ENDIAN
from imaging_source.ledger import (
    UNKNOWN,
    About,
    End,
    Hearing,
    Mention,
    Purpose,
    Question,
    Service,
    Transfer,
)
from metadata.datatypes import CX
from node.config import Settings
from node.wiring.audit import Auditor, by_user
from node.wiring.common import authority_of_images
from security.nodes import names_of
from storage.database import Database
from storage.errors import StorageError
from transactions.audit import Action, AuditEvent, Node, Outcome, Participant, Scene, Side
from transactions.audit_dimse import (
    AVAILABILITY_NOTIFICATION,
    RETRIEVED,
    RETRIEVED_BY_WEB,
    STEP_COMPLETED,
    STEP_IN_PROGRESS,
    STORAGE_COMMITMENT,
    STORED,
    Travel,
    begin_event,
    interrupted_event,
    mention_event,
    query_event,
    transferred_events,
)
from transactions.audit_events import study_object, web_imaging_event

log = structlog.get_logger(__name__)

# What this node asks for itself.
_FETCHED = {Service.FETCH: RETRIEVED, Service.FETCH_BY_WEB: RETRIEVED_BY_WEB}
# What it tells, or is told.
_TOLD = {
    Purpose.COMMITMENT: STORAGE_COMMITMENT,
    Purpose.AVAILABILITY: AVAILABILITY_NOTIFICATION,
    Purpose.STEP_BEGUN: STEP_IN_PROGRESS,
    Purpose.STEP_CHANGED: STEP_COMPLETED,
}


@dataclass(frozen=True, slots=True)
class TrailLedger:
    """Records in a trail; see ``imaging_source.ledger``.

    ``title`` is our own AE title, ``authority`` issues the numbers of images that name no issuer.
    ``users`` are those for whom archives are asked.
    """

    auditor: Auditor
    title: str
    authority: str
    users: tuple[Participant, ...] = ()

    def begins(self, transfer: Transfer) -> None:
        """See ``Ledger``."""
        self.auditor.trail.ready()
        begun = self.auditor.record(partial(self._begun, transfer))
        transfer.kept = self.auditor.keep(partial(self._cut_off, transfer))
        begun.result()

    def ended(self, transfer: Transfer) -> None:
        """See ``Ledger``."""
        if transfer.done or transfer.failed or transfer.has_begun:
            self.auditor.record(partial(self._ended, transfer), transfer.kept)

    def queried(
        self, asker: End, sop_class_uid: str, syntax: str, identifier: bytes, done: bool
    ) -> None:
        """See ``Ledger``."""

        def describe(scene: Scene) -> list[AuditEvent]:
            seen = self._seen(scene, asker)
            return [query_event(sop_class_uid, syntax, identifier, done, seen)]

        self.auditor.trail.ready()
        self.auditor.record(describe).result()

    def asking(self, archive: End, question: Question) -> AbstractContextManager[None]:
        """See ``Ledger``."""
        return self._calling(archive, partial(_asked, question))

    def telling(self, peer: End, mention: Mention) -> AbstractContextManager[None]:
        """See ``Ledger``."""
        return self._calling(peer, partial(self._told, mention))

    @contextmanager
    def hearing(self, peer: End, purpose: Purpose) -> Iterator[Hearing]:
        """See ``Ledger``."""
        self.auditor.trail.ready()
        said, begun, done = [Mention(purpose, UNKNOWN)], None, False

        def events(scene: Scene) -> list[AuditEvent]:
            seen = self._seen(scene, peer)
            return [self._told(one, done, seen) for one in said]

        def heard(mentions: Iterable[Mention]) -> None:
            nonlocal said, begun
            said = [*mentions] or said
            begun = self.auditor.keep(events)

        try:
            yield heard
            done = True
        finally:
            self.auditor.record(events, begun).result()

    @contextmanager
    def _calling(self, peer: End, describe: Callable[[bool, Scene], AuditEvent]) -> Iterator[None]:
        """Record what we ask of a peer, done or not, when this context ends."""
        self.auditor.trail.ready()
        done = False

        def events(scene: Scene) -> list[AuditEvent]:
            own, server = self._own(scene), node_of(peer)
            ours = scene._replace(side=Side.CLIENT, client=own, server=server, users=self.users)
            return [describe(done, ours)]

        try:
            yield
            done = True
        finally:
            self.auditor.record(events).result()

    def _told(self, mention: Mention, done: bool, scene: Scene) -> AuditEvent:
        about = mention.about
        study = study_object(about.study_instance_uid, mention.classes, mention.step)
        return mention_event(_TOLD[mention.purpose], study, self._patient(about), done, scene)

    def _begun(self, transfer: Transfer, scene: Scene) -> list[AuditEvent]:
        return [begin_event(*self._travel(transfer, scene))]

    def _cut_off(self, transfer: Transfer, scene: Scene) -> list[AuditEvent]:
        return [interrupted_event(*self._travel(transfer, scene))]

    def _ended(self, transfer: Transfer, scene: Scene) -> list[AuditEvent]:
        travel, seen = self._travel(transfer, scene)
        return transferred_events(travel, transfer.done, transfer.failed, seen)

    def _travel(self, transfer: Transfer, scene: Scene) -> tuple[Travel, Scene]:
        """What travels from whom to whom, and the scene of who asked."""
        own, peer = self._own(scene), node_of(transfer.peer)
        about = (transfer.about.study_instance_uid, self._patient(transfer.about))
        if (fetched := _FETCHED.get(transfer.service)) is not None:
            here = scene._replace(client=own, server=peer)
            return Travel(fetched, *about, peer, own, Action.CREATE), here
        seen = self._seen(scene, transfer.peer)
        if transfer.service is Service.STORE:
            return Travel(STORED, *about, peer, own, Action.CREATE), seen
        receiver = node_of(transfer.destination) if transfer.destination else peer
        return Travel(RETRIEVED, *about, own, receiver), seen

    def _seen(self, scene: Scene, asker: End) -> Scene:
        """The scene of a request of ``asker``, and of whoever is behind it."""
        return by_user(scene._replace(client=node_of(asker), server=self._own(scene)), asker.user)

    def _own(self, scene: Scene) -> Node:
        return scene.server._replace(user_id=self.title)

    def _patient(self, about: About) -> str:
        """The patient as other records name him."""
        return _named(about, self.authority)


def whose(settings: Settings, index: Database) -> Callable[[Collection[str]], Sequence[str]]:
    """Gives the patients (CX) of some studies, as far as the index knows them."""
    authority = authority_of_images(settings)

    def of(studies: Collection[str]) -> Sequence[str]:
        try:
            with index.read() as connection:
                known = About.all_in_index(connection, studies)
        except StorageError as error:  # what was done is recorded all the same
            log.error("patients not recorded", code="AUDIT-PATIENT", error=type(error).__name__)
            return ()
        return sorted({named for one in known if (named := _named(one, authority))})

    return of


def _named(about: About, authority: str) -> str:
    if not about.patient_id:
        return ""
    return str(CX.of(about.patient_id, about.issuer_oid or authority))


def _asked(question: Question, done: bool, scene: Scene) -> AuditEvent:
    if not question.sop_class_uid:
        outcome = Outcome.SUCCESS if done else Outcome.SERIOUS_FAILURE
        return web_imaging_event("RAD-129", (), question.asked, outcome, scene)
    syntax = EXPLICIT_VR_LITTLE_ENDIAN
    return query_event(question.sop_class_uid, syntax, question.asked, done, scene)


def ledger_of(
    settings: Settings, auditor: Auditor, users: tuple[Participant, ...] = ()
) -> TrailLedger:
    """The ledger of the process ``dicom``; of a command, which asks archives for ``users``."""
    title, authority = settings.imaging_source.ae_title, authority_of_images(settings)
    return TrailLedger(auditor, title, authority, users)


def node_of(end: End) -> Node:
    """An application entity: known by its certificate, by its title alone, or, before it has told
    that, by its address."""
    if end.certificate is None:
        return Node(end.title or end.address, end.address)
    return Node(names_of(end.certificate)[1], end.address, f"AETITLES={end.title}")
