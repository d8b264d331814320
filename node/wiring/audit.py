"""The audit trail of a process: opened, fed by its doors, sent on (ITI-20).

Whatever a door performs is recorded before it is answered; where nothing can be recorded, nothing
is performed. A process also records that it starts and that it stops.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import structlog

from metadata.datatypes import CX
from metadata.model import Code
from node.config import Settings
from node.migrate import migrate_audit, script_location
from node.texts import tr
from node.wiring.clock import Clock
from node.wiring.common import client_tls, tls_files
from registry.merges import NotMerged, Undone
from security.access.emergencies import Override
from security.assertions.claims import Claims
from security.audit.resting import Deliveries, Resting
from security.audit.sender import Delivery, Sending, Target
from security.audit.syslog import Sender
from security.audit.trail import Begun, Record, Trail
from security.nodes import names_of
from soap.faults import SoapFault
from soap.operation import CallContext, Exchange, Written
from storage.errors import DatabaseLocked, OutOfSpace, StorageError
from storage.faultpoints import reach
from storage.space import RECORDS_MINIMUM_FREE_BYTES, LowWaterMark
from transactions import (
    iti_18,
    iti_41,
    iti_42,
    iti_43,
    iti_44,
    iti_51,
    iti_52,
    iti_53,
    iti_54,
    iti_57,
    iti_61,
    iti_62,
    iti_69,
    iti_70,
    iti_86,
    iti_92,
    rad_68,
    rad_69,
)
from transactions.audit import (
    AuditEvent,
    Coded,
    Node,
    Outcome,
    Participant,
    Scene,
    Side,
    to_xml,
)
from transactions.audit_events import (
    access_changed_event,
    application_event,
    authentication_failed_event,
    clock_event,
    configuration_event,
    emergency_event,
    merge_undone_events,
    not_understood_event,
    of_patients,
    trail_pruned_event,
    trail_used_event,
    unread_event,
    web_imaging_event,
)

log = structlog.get_logger(__name__)

_MODULES = {
    "ITI-18": iti_18,
    "ITI-41": iti_41,
    "ITI-42": iti_42,
    "ITI-43": iti_43,
    "ITI-44": iti_44,
    "ITI-51": iti_51,
    "ITI-52": iti_52,
    "ITI-57": iti_57,
    "ITI-61": iti_61,
    "ITI-62": iti_62,
    "ITI-69": iti_69,
    "ITI-70": iti_70,
    "ITI-86": iti_86,
    "ITI-92": iti_92,
    "RAD-68": rad_68,
    "RAD-69": rad_69,
}
Request = TypeVar("Request")
Response = TypeVar("Response")

Describe = Callable[[Any, Any, Scene], list[AuditEvent]]
DESCRIBED: Mapping[str, Describe] = {
    **{number: module.audit for number, module in _MODULES.items()},
    # One-way: it was accepted when there was no fault, and has no response.
    "ITI-53": lambda request, response, scene: iti_53.audit(request, response is not None, scene),
    "ITI-54": lambda request, response, scene: iti_54.audit(request, response is not None, scene),
}
"""By the transaction's number: the records of one exchange, on either side."""

_READING = frozenset({"ITI-18", "ITI-43", "ITI-51", "ITI-70", "RAD-69"})
"""Transactions that change nothing."""

INTERRUPTED = "interrupted: the process ended before it had recorded the outcome, which is unknown"

# Sessions whose user is kept as records name him, some 500 bytes each.
_USERS = 1024

BROKEN_OFF = "the answer broke off: not all of it reached who asked"

OPERATOR = "operator"
"""The trail of what operators do."""

CLIENT = "client"
"""The beginning of the trails of commands that ask others, ``client-0``, ``client-1`` ...: of those
that run at the same time, each has one of its own."""

RECEIVED = "received"
"""The trail of what other nodes send."""

# An operator's command holds its trail for as long as it acts, mostly for less than a second; who
# waits longer is told so.
PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.05


class WebRequest(NamedTuple):
    """What a record tells of a request for images over the web: its transaction, the studies that
    it is about, its path and query."""

    number: str
    studies: Sequence[str]
    asked: bytes


def _nobodys(_studies: Collection[str]) -> Iterable[str]:
    """There is no index of images here."""
    return ()


@dataclass(frozen=True, slots=True)
class Auditor:
    """Makes the records of one process, and puts them into its trail.

    ``url`` is where the process is reached by SOAP; empty where it is not. ``whose`` gives the
    patients of some studies, for records of who was given their images.
    """

    trail: Trail
    source_id: str
    site_id: str
    url: str = ""
    clock: Clock = field(default_factory=Clock)
    whose: Callable[[Collection[str]], Iterable[str]] = _nobodys

    def admit(self) -> None:
        """Raise the busy fault when nothing more can be recorded (see ``soap`` Witness)."""
        try:
            self.trail.ready()
        except OutOfSpace as error:
            log.critical("audit trail full", code="AUDIT-FULL", error=type(error).__name__)
            raise SoapFault.busy() from error

    def begins(
        self, exchange: Exchange[Any, Any], request: Any, context: CallContext
    ) -> Begun | None:
        """Keep, durably, what is to be recorded of a call that changes something and is cut off
        (see ``soap`` Witness); a call that changes nothing has happened when it was answered."""
        self.admit()
        if exchange.number in _READING:
            return None
        try:
            return self._begin(DESCRIBED[exchange.number](request, None, self._called(context)))
        except StorageError as error:
            raise SoapFault.busy() from error

    def saw(
        self,
        exchange: Exchange[Any, Any],
        request: Any,
        response: Any,
        context: CallContext,
        begun: Begun | None,
    ) -> Written:
        """Record a call of this process's own doors (see ``soap`` Witness)."""
        events = DESCRIBED[exchange.number](request, response, self._called(context))
        reach("audit.before_record")
        return self._recorded(self._of_whom(events), begun)

    def unread(
        self, exchange: Exchange[Any, Any] | None, reason: str, context: CallContext
    ) -> Written:
        """Record a call that could not be read (see ``soap`` Witness)."""
        self.admit()
        called = self._called(context)
        if exchange is None:
            return self._recorded([not_understood_event(self.url, reason, called)])
        return self._recorded([unread_event(exchange.number, exchange.name, reason, called)])

    def broke_off(self, exchange: Exchange[Any, Any], request: Any, context: CallContext) -> None:
        """Record that an answer did not leave whole (see ``soap`` Witness)."""
        self._record(
            _as(BROKEN_OFF, DESCRIBED[exchange.number](request, None, self._called(context)))
        )

    def web_begins(self, about: WebRequest, context: CallContext) -> Begun:
        """Keep, durably, what is to be recorded of a request that stores images and is cut off."""
        try:
            return self._begin([self._web(about, Outcome.MAJOR_FAILURE, context)])
        except StorageError as error:
            raise SoapFault.busy() from error

    def web(
        self,
        about: WebRequest,
        outcome: Outcome,
        context: CallContext,
        begun: Begun | None = None,
    ) -> Written:
        """Record a request for images over the web; its answer leaves when the future is done."""
        return self._recorded([self._web(about, outcome, context)], begun)

    def web_broke_off(
        self, about: WebRequest, context: CallContext, begun: Begun | None = None
    ) -> None:
        """Record that an answer over the web did not leave whole, or not at all."""
        self._record(_as(BROKEN_OFF, [self._web(about, Outcome.MAJOR_FAILURE, context)]), begun)

    def _web(self, about: WebRequest, outcome: Outcome, context: CallContext) -> AuditEvent:
        event = web_imaging_event(*about, outcome, self._called(context))
        return of_patients(event, self.whose)

    def _of_whom(self, events: Iterable[AuditEvent]) -> list[AuditEvent]:
        return [of_patients(event, self.whose) for event in events]

    def keep(self, describe: Callable[[Scene], list[AuditEvent]]) -> Begun:
        """Keep, durably, what ``record`` is to record if this process dies before. Raises
        StorageError."""
        return self._begin(describe(self._own()))

    def record(
        self, describe: Callable[[Scene], list[AuditEvent]], begun: Begun | None = None
    ) -> Future[None]:
        """Record what happens at a door that has other ends than those of calls."""
        return self._record(describe(self._own()), begun)

    def turned_away(self, reason: str, context: CallContext) -> None:
        """Record that a caller did not prove who asks, durably, before he is told."""
        self.admit()
        scene = self._called(context)
        self._record([authentication_failed_event(self.url, reason, scene)]).result()

    def emergency(self, override: Override) -> None:
        """Record that somebody broke the glass, durably, before he is shown anything."""
        scene = self._scene(Side.SERVER, Node(override.node), self._here())
        event = emergency_event(override.user, override.reason, override.patients.split(), scene)
        self._record([event]).result()

    def refused_node(self, reason: str, address: str, *, handshake: bool) -> None:
        """Record that a node was refused, without waiting; whoever calls sees to it that it is
        not done without bounds."""
        scene = self._scene(Side.SERVER, Node(address, address), self._here())
        event = authentication_failed_event(self._here().user_id, reason, scene)
        outcome = Outcome.MAJOR_FAILURE if handshake else Outcome.SERIOUS_FAILURE
        self._record([event._replace(outcome=outcome)])

    def not_understood(self, reason: str, peer: Node) -> None:
        """Record that a peer broke its protocol, without waiting and with the same proviso."""
        scene = self._scene(Side.SERVER, peer, self._here())
        self._record([not_understood_event(self._here().user_id, reason, scene)])

    def at(self, door: str) -> Auditor:
        """The auditor of one door of the process: its path is in the records."""
        return replace(self, url=f"{self.url}/{door}")

    def calling(
        self,
        number: str,
        url: str,
        call: Callable[[Request], Response],
        users: tuple[Participant, ...] = (),
    ) -> Callable[[Request], Response]:
        """``call``, which asks another node at ``url``, for ``users``, with a record of each
        time."""

        def recorded(request: Request) -> Response:
            self.trail.ready()
            response: Response | None = None
            try:
                response = call(request)
                return response
            finally:
                server = Node(url, urlsplit(url).hostname or "")
                scene = self._scene(Side.CLIENT, self._here(), server)._replace(users=users)
                self._record(DESCRIBED[number](request, response, scene)).result()

        return recorded

    @contextmanager
    def living(self, settings: Settings) -> Iterator[None]:
        """Record that the process starts, with another configuration than the last time if it is
        one, and that it stops."""
        self._record([application_event(True, self._own())]).result()
        self._configured(settings)
        try:
            yield
        finally:
            self._record([application_event(False, self._own())]).result()

    def _configured(self, settings: Settings) -> None:
        """Record a changed configuration; its digest is kept beside the trail afterwards."""
        with _configuring:
            digest = _digest(settings)
            kept = trail_folder(settings) / f"{self.trail.source.rpartition('/')[2]}.configuration"
            before = kept.read_text() if kept.exists() else digest
            if before != digest:
                self._record([configuration_event(digest, self._own())]).result()
            kept.write_text(digest)

    def reconfigured(self, settings: Settings) -> None:
        """Record what this process has taken over while it serves, if it is another than before;
        never raises."""
        try:
            self._configured(settings)
        except (StorageError, OSError) as error:
            log.critical("not recorded", code="AUDIT-LOST", error=type(error).__name__)

    def looked(self, user: str) -> None:
        """Record that somebody reads the trails."""
        self._record([trail_used_event(user, self._own(self.trail.source))]).result()

    def pruned(self, user: str, trail: str, before: datetime) -> None:
        """Record that an operator lets records of a trail go."""
        self._record([trail_pruned_event(user, before.isoformat(), self._own(trail))]).result()

    def access_changed(self, user: str, patient: str, change: str) -> None:
        """Record that an operator changed who may see documents of a patient."""
        self._record([access_changed_event(user, patient, change, self._own())]).result()

    def unmerging(self, undo: Callable[[CX, str, str], Undone]) -> Callable[[CX, str, str], Undone]:
        """``undo``, which undoes the merge of a patient for an operator and a reason, with its
        records."""

        def recorded(subsumed: CX, operator: str, reason: str) -> Undone:
            def events(outcome: Outcome, *patients: str) -> list[AuditEvent]:
                return merge_undone_events(operator, patients, reason, outcome, self._own())

            begun = self._begin(events(Outcome.SERIOUS_FAILURE, str(subsumed)))
            try:
                undone = undo(subsumed, operator, reason)
            except NotMerged:
                self._record(events(Outcome.SERIOUS_FAILURE, str(subsumed)), begun).result()
                raise
            done = undone.merge
            self._record(events(Outcome.SUCCESS, done.subsumed, done.surviving), begun).result()
            return undone

        return recorded

    def _here(self) -> Node:
        return _process(self.url, self.trail.source, os.getpid())

    def _called(self, context: CallContext) -> Scene:
        """Somebody calls a door of this process."""
        user = context.user.claims if context.user else None
        return self._scene(Side.SERVER, _client(context), self._here(), user)

    def _own(self, trail: str | None = None) -> Scene:
        """What happens is this process's own doing; with ``trail``, to that trail."""
        here = self._here()
        return self._scene(Side.SERVER, here, here._replace(user_id=trail) if trail else here)

    def _scene(self, side: Side, client: Node, server: Node, user: Claims | None = None) -> Scene:
        users, purposes = _behind(user)
        return Scene(
            side=side,
            when=datetime.now(UTC),
            client=client,
            server=server,
            source_id=self.source_id,
            site_id=self.site_id,
            users=users,
            purpose_of_use=purposes,
        )

    def _begin(self, events: Iterable[AuditEvent]) -> Begun:
        """Keep these events, as interrupted ones, until their act ends. Raises StorageError."""
        begun = self.trail.begin([record_of(event) for event in _as(INTERRUPTED, events)])
        begun.durable.result()
        return begun

    def _recorded(self, events: Iterable[AuditEvent], begun: Begun | None = None) -> Written:
        """Record a call: where it is performed in the event loop, with the others of its turn."""
        if begun is None and _in_event_loop():
            return self.trail.appended(self._records(events))
        return self._record(events, begun)

    def _record(self, events: Iterable[AuditEvent], begun: Begun | None = None) -> Future[None]:
        return self.trail.append(self._records(events), begun)

    def _records(self, events: Iterable[AuditEvent]) -> list[Record]:
        """What a trail keeps of these events, and that the clock was put back before them."""
        if (before := self.clock.put_back()) is not None:
            log.warning("clock put back", code="AUDIT-CLOCK", before=before.isoformat())
            events = [clock_event(before.isoformat(), self._own()), *events]
        return [record_of(event) for event in events]


# Of one process: several kinds of files are taken over by threads of their own.
_configuring = threading.Lock()


def _digest(settings: Settings) -> str:
    """SHA-256 of a configuration as it is understood, and of the files by which it is decided who
    is believed, who sees what and what may be registered."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    named = [settings.affinity_domain.codes, settings.assertions.profile, settings.policy.file]
    named += [one.certificates for one in settings.assertions.issuers]
    if settings.tls.enabled:
        named += [one for one in tls_files(settings) if one != settings.tls.key]
    for place in dict.fromkeys(one for one in named if isinstance(one, Path)):
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in filter(Path.is_file, files):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def by_user(scene: Scene, user: Claims | None) -> Scene:
    """The scene with the person behind it, if there is one."""
    users, purposes = _behind(user)
    return scene._replace(users=users, purpose_of_use=purposes)


def _as(description: str, events: Iterable[AuditEvent]) -> Iterator[AuditEvent]:
    """The same, as failures of this description."""
    for event in events:
        yield event._replace(outcome=Outcome.MAJOR_FAILURE, outcome_description=description)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def record_of(event: AuditEvent) -> Record:
    """An event as a trail keeps it."""
    return Record(
        message=to_xml(event),
        when=event.when,
        type=event.type.code,
        action=event.action.value,
        outcome=int(event.outcome),
        patients=[one.id for one in event.objects if (one.type_code, one.role) == (1, 1)],
        users=[name for one in event.participants for name in (one.user_id, one.user_name) if name],
    )


def open_auditor(
    settings: Settings,
    stack: ExitStack,
    name: str,
    url: str = "",
    *,
    send: bool = True,
    patience: float = 0.0,
) -> Auditor | None:
    """The auditor of the process ``name``; None where nothing is audited.

    With ``send`` its trail is sent to every repository of the configuration until ``stack``
    ends. ``patience``: see ``open_trail``. Raises StorageError, ConfigError and TlsError.
    """
    section = settings.audit
    if not section.enabled:
        return None
    trail = open_trail(settings, stack, name, patience)
    auditor = Auditor(trail, section.source_id or settings.node.name, section.site_id, url)
    for target in settings.audit.send_to if send else ():
        sending = Sending(trail, Target.parse(target), _sender(), client_tls(settings))
        sending.start()
        stack.callback(sending.stop)
    return auditor


def send_resting(settings: Settings, stack: ExitStack) -> None:
    """Send what commands have left in their trails to each repository of the configuration, until
    ``stack`` ends. Raises ConfigError and TlsError."""
    if not (settings.audit.enabled and settings.audit.send_to):
        return
    names = (OPERATOR, f"{CLIENT}-*")
    resting = Resting(trail_folder(settings), names, deliveries(settings))
    resting.start()
    stack.callback(resting.stop)


def deliveries(settings: Settings) -> Deliveries:
    """What brings a trail to each repository of the configuration, in the thread of who calls.
    Raises ConfigError and TlsError."""
    targets, tls = [Target.parse(one) for one in settings.audit.send_to], client_tls(settings)
    return lambda kept: [Delivery(kept, target, _sender(), tls) for target in targets]


def _sender() -> Sender:
    return Sender(socket.gethostname(), "kosmos", str(os.getpid()))


@contextmanager
def acting(settings: Settings) -> Iterator[Auditor | None]:
    """The auditor of what an operator's command does; None where nothing is audited.

    What it records is sent on by the node that serves (see ``send_resting``). Raises StorageError
    and OSError.
    """
    migrate_audit(settings)
    with ExitStack() as stack:
        yield open_auditor(settings, stack, OPERATOR, send=False, patience=PATIENCE_SECONDS)


def open_trail(settings: Settings, stack: ExitStack, name: str, patience: float = 0.0) -> Trail:
    """The trail ``name`` of the node, its schema brought up to date.

    Waits ``patience`` seconds for whoever writes it. Raises StorageError, which is DatabaseLocked
    where that is still so afterwards.
    """
    folder, deadline = trail_folder(settings), time.monotonic() + patience
    low_water = LowWaterMark(RECORDS_MINIMUM_FREE_BYTES)
    with script_location("security") as scripts:
        while True:
            try:
                trail = Trail(folder, settings.node.name, name, low_water, scripts)
                return stack.enter_context(trail)
            except DatabaseLocked as error:
                if time.monotonic() >= deadline:
                    words = tr(
                        "another process writes the audit trail {trail}: try again", trail=name
                    )
                    raise DatabaseLocked(words) from error
                time.sleep(_PAUSE_SECONDS)


def trail_folder(settings: Settings) -> Path:
    """Where the trails of the node are."""
    assert settings.audit.folder is not None  # filled in when the configuration was read
    return settings.audit.folder


@lru_cache  # of the doors of this process
def _process(url: str, source: str, pid: int) -> Node:
    host = urlsplit(url).hostname or socket.gethostname()
    return Node(url or source, host, str(pid))


def _client(context: CallContext) -> Node:
    subject = names_of(context.certificate)[1] if context.certificate else ""
    return Node(subject or context.peer, context.peer)


@lru_cache(_USERS)
def _behind(user: Claims | None) -> tuple[tuple[Participant, ...], tuple[Coded, ...]]:
    """The person behind a call (ITI TF-2 3.40.4.2), and why he asks."""
    if user is None:
        return (), ()
    roles = tuple(map(_coded, user.roles))
    person = Participant(user.subject, is_requestor=True, roles=roles, user_name=user.audit_name)
    return (person,), tuple(map(_coded, user.purposes))


def _coded(code: Code) -> Coded:
    return Coded(code.code, code.scheme, str(code.display_name))
