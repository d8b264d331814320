"""What a command does as a client of other nodes, and the record of it.

Each side of a transaction records it (ITI-20): a consumer what it asks for and gets, a source what
it sends. The process of a command has a trail of its own, as those of a node have, and sends it on
when it ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from consumer.client import Consumer
from consumer.plan import Wanted
from consumer.ways import Answer, Arrival, Desk, Way, WayName
from hl7.ack import ACCEPT, header_of
from hl7.adt import Unapplied
from hl7.errors import InvalidMessage
from hl7.message import Message
from imaging_source.ledger import Ledger
from metadata.datatypes import CX
from node.config import Settings
from node.migrate import migrate_audit
from node.wiring.audit import CLIENT, PATIENCE_SECONDS, Auditor, deliveries, open_auditor
from node.wiring.client import consumer
from node.wiring.common import authority_of_images, soap_client, unrecorded
from node.wiring.hl7_records import identity_events
from node.wiring.ledger import ledger_of
from soap.client import SoapClient
from storage.errors import DatabaseLocked
from transactions.audit import Action, AuditEvent, Node, Outcome, Participant, Scene, Side
from transactions.audit_dimse import (
    RETRIEVED,
    RETRIEVED_BY_WEB,
    STORED,
    Travel,
    begin_event,
    transferred_events,
)

if TYPE_CHECKING:  # half a second, for who sends images
    from imaging_source.requestor import Peer
    from node.storescu import DicomFile, Stored

# More commands at once than anybody runs; whoever comes after them is told that a trail is in use.
_MOST_AT_ONCE = 64

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Commanded:
    """Records what a command of ``user`` does, durably, as each call ends.

    ``authority`` issues the patients' numbers of images that are sent. Its methods raise
    StorageError where nothing can be recorded: then nothing is asked, or what came is not shown.
    """

    auditor: Auditor
    user: str
    authority: str

    def calling(
        self, number: str, url: str, call: Callable[[Request], Response]
    ) -> Callable[[Request], Response]:
        """``call`` of a SOAP service, with its records (see ``Auditor.calling``)."""
        return self.auditor.calling(number, url, call, self.people)

    def watching(self, consumer: Consumer) -> Consumer:
        """``consumer``, whose ways besides those over SOAP leave a record of each portion."""

        def watched(way: Way) -> Way:
            return way if way.name is WayName.RAD69 else _Recorded(way, self, consumer)

        return replace(consumer, watched=watched)

    def fetched(
        self, way: WayName, server: Node, wanted: Sequence[Wanted], came: Iterable[str]
    ) -> None:
        """Record what was asked of an imaging source, and which instances came."""
        got = {*came}
        done = Counter(one.sop_class_uid for one in wanted if one.sop_instance_uid in got)
        lost = Counter(one.sop_class_uid for one in wanted if one.sop_instance_uid not in got)
        type_ = RETRIEVED_BY_WEB if way is WayName.WADO else RETRIEVED
        study = wanted[0].study_instance_uid

        def describe(scene: Scene) -> list[AuditEvent]:
            seen = self._asking(server, scene)
            travel = Travel(type_, study, "", server, seen.client, Action.CREATE)
            return transferred_events(travel, done, lost, seen)

        self.auditor.record(describe).result()

    @contextmanager
    def storing(
        self, files: Sequence[DicomFile], provider: Peer, calling: str
    ) -> Iterator[list[Stored]]:
        """Record, study by study, that instances are sent by C-STORE under the title ``calling``,
        and how that ended: who sends them puts the answers into the list."""
        self.auditor.trail.ready()
        studies = _by_study(files)
        answers: list[Stored] = []

        def travels(scene: Scene) -> Iterator[tuple[Travel, Scene]]:
            seen = self._asking(Node(provider.title, provider.host), scene, calling)
            for first, *_ in studies:
                number = first.patient_id
                patient = str(CX.of(number, self.authority)) if number else ""
                ends = seen.client, seen.server
                yield Travel(STORED, first.study_instance_uid, patient, *ends), seen

        def begun(scene: Scene) -> list[AuditEvent]:
            return [begin_event(*travel) for travel in travels(scene)]

        def ended(scene: Scene) -> list[AuditEvent]:
            stored = {one.file.path for one in answers if one.ok}
            events = []
            for files, (travel, seen) in zip(studies, travels(scene), strict=True):
                done = Counter(one.sop_class_uid for one in files if one.path in stored)
                failed = Counter(one.sop_class_uid for one in files if one.path not in stored)
                events += transferred_events(travel, done, failed, seen)
            return events

        self.auditor.record(begun).result()
        try:
            yield answers
        finally:
            self.auditor.record(ended).result()

    def feeding(self, place: str, send: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """``send``, which tells an identity source's message to ``place``, with its records."""

        def recorded(message: bytes) -> bytes:
            self.auditor.trail.ready()
            outcome = Outcome.MAJOR_FAILURE
            try:
                answer = send(message)
                accepted = Message.read(answer)["MSA-1"] == ACCEPT
                outcome = Outcome.SUCCESS if accepted else Outcome.SERIOUS_FAILURE
                return answer
            finally:
                server = Node(place, urlsplit(f"//{place}").hostname or "")
                said = Unapplied.of(_read(message))

                def describe(scene: Scene) -> list[AuditEvent]:
                    seen = self._asking(server, scene, said.sender)
                    return identity_events(said, outcome, seen)

                self.auditor.record(describe).result()

        return recorded

    @property
    def people(self) -> tuple[Participant, ...]:
        """The user, as records name him."""
        return (Participant(self.user, is_requestor=True, user_name=self.user),)

    def _asking(self, server: Node, scene: Scene, name: str = "") -> Scene:
        """This process asks ``server``, under ``name`` if it has one there."""
        client = scene.client._replace(user_id=name) if name else scene.client
        return scene._replace(side=Side.CLIENT, client=client, server=server, users=self.people)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A way to fetch images of which each portion leaves a record."""

    way: Way
    commanded: Commanded
    consumer: Consumer

    @property
    def name(self) -> WayName:
        return self.way.name

    def serves(self, wanted: Wanted) -> bool:
        return self.way.serves(wanted)

    def batches(self, wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
        return self.way.batches(wanted)

    def fetch(self, batch: Sequence[Wanted], desk: Desk) -> Generator[Answer, None, None]:
        self.commanded.auditor.trail.ready()
        came = []
        try:
            for answer in self.way.fetch(batch, desk):
                if isinstance(answer, Arrival):
                    came.append(answer.sop_instance_uid)
                yield answer
        finally:
            self.commanded.fetched(self.name, self._source(batch[0]), batch, came)

    def close(self) -> None:
        self.way.close()

    def _source(self, one: Wanted) -> Node:
        if self.name is WayName.WADO:
            url = self.consumer.dicomweb.get(one.source) or one.series_url
            return Node(url, urlsplit(url).hostname or "")
        if (application := self.consumer.dicom.get(one.source)) is not None:
            return Node(application.title, application.host)
        return Node(one.retrieve_ae_title)


@contextmanager
def commanding(settings: Settings, user: str) -> Iterator[Commanded | None]:
    """What records a command of ``user``; None where nothing is audited.

    At the end it sends its trail to the repositories of the configuration; what does not get
    there, the node that serves sends (``send_resting``), or the next command. Raises StorageError
    and OSError where nothing can be recorded.
    """
    migrate_audit(settings)
    with ExitStack() as stack:
        auditor = _open_free(settings, stack)
        try:
            authority = authority_of_images(settings)
            yield Commanded(auditor, user, authority) if auditor else None
        finally:
            for delivery in deliveries(settings)(auditor.trail.database) if auditor else ():
                delivery.send_now()


@contextmanager
def calling(settings: Settings, user: str) -> Iterator[SoapClient]:
    """The client of a command of ``user``, of whose calls there is a record where there is a trail
    (see ``commanding``)."""
    with commanding(settings, user) as commanded:
        recording = commanded.calling if commanded else unrecorded
        with closing(soap_client(settings, user, recording)) as client:
            yield client


@contextmanager
def consuming(settings: Settings, user: str) -> Iterator[Consumer]:
    """The consumer of a command of ``user``, likewise."""
    with commanding(settings, user) as commanded:
        made = consumer(settings, user, commanded.calling if commanded else unrecorded)
        yield commanded.watching(made) if commanded else made


@contextmanager
def asking_archives(settings: Settings, user: str) -> Iterator[Ledger | None]:
    """The ledger of a command of ``user`` that asks archives, likewise."""
    with commanding(settings, user) as commanded:
        yield ledger_of(settings, commanded.auditor, commanded.people) if commanded else None


def _open_free(settings: Settings, stack: ExitStack) -> Auditor | None:
    """The auditor of the first trail that no other command is writing."""
    for number in range(_MOST_AT_ONCE):
        with suppress(DatabaseLocked):
            return open_auditor(settings, stack, f"{CLIENT}-{number}", send=False)
    last = f"{CLIENT}-{_MOST_AT_ONCE}"
    return open_auditor(settings, stack, last, send=False, patience=PATIENCE_SECONDS)


def _read(message: bytes) -> Message:
    try:
        return Message.read(message)
    except InvalidMessage:
        return header_of(message)


def _by_study(files: Iterable[DicomFile]) -> list[list[DicomFile]]:
    found: dict[str, list[DicomFile]] = {}
    for one in files:
        found.setdefault(one.study_instance_uid, []).append(one)
    return [*found.values()]
