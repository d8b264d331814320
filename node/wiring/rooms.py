"""The rooms of a process ``web``: registry, repository and imaging source behind their doors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Never, Protocol, TypeVar, Unpack

import structlog
from sqlalchemy import text

from hl7.ack import ACCEPT, REJECT
from hl7.adt import FeedOutcome, IdentityFeed
from hl7.errors import RECORD_LOCKED
from hl7.v3.acknowledgement import Acknowledgement
from hl7.v3.feed import answer as answer_v3
from hl7.v3.request import IdentityRequest
from imaging_source.dicomweb.application import QIDO, ROOT, WADO, DicomWeb
from imaging_source.dicomweb.qido import Paging
from imaging_source.dicomweb.wado_uri import URI, URI_ROOT, WadoUri
from imaging_source.retrieve import ImagingSource
from imaging_source.shown import Unseen, all_is_seen
from imaging_source.variants import Variants
from manifest.cda import moment
from metadata.affinity_domain import AffinityDomain, DomainInForce
from node import metrics
from node.admin import Check
from node.calls import Calls
from node.config import Settings
from node.endpoints import takes_subscriptions, web_url
from node.logs import within_call
from node.migrate import open_database
from node.operator import operator_name
from node.progress import Progress
from node.texts import tr
from node.wiring.audit import Auditor, open_auditor
from node.wiring.blobs import distant_recaller, open_blobs, open_recalling
from node.wiring.common import Asked, affinity_domain, soap_client, unrecorded
from node.wiring.doorman import for_nodes, guarded, recorded
from node.wiring.gate import UserGate, open_gate
from node.wiring.identity import handing_on, listener
from node.wiring.ledger import whose
from node.wiring.nodes import NodeGuard, open_guard
from node.wiring.on_demand import on_demand
from node.wiring.pictures import open_variants, stow
from node.wiring.sights import Sights
from node.wiring.subscriptions import all_is_told, open_broker, told_to
from registry import Registry
from registry.patients import Patients
from registry.subscriptions.notifier import Notifier
from repository import Repository
from repository.reconciliation import Options, Reconciliation
from repository.repository import Register
from security.access.carried import CarriedChoices
from security.access.sight import Sight
from soap.asgi import Application
from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.limits import Limits
from soap.message import Spool
from soap.service import Observe
from storage.arrival import Arrival
from storage.blobs import BlobStore
from storage.contract import Blobs
from storage.database import Database
from storage.errors import DatabaseBusy
from storage.objects import ObjectStore
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43
from transactions.iti_44 import ITI_44
from transactions.iti_51 import ITI_51
from transactions.iti_57 import ITI_57
from transactions.iti_61 import ITI_61
from transactions.iti_62 import ITI_62
from transactions.iti_86 import ITI_86
from transactions.iti_92 import ITI_92
from transactions.rad_69 import RAD_69
from transactions.transaction import Transaction

log = structlog.get_logger(__name__)

# How long a sender may repeat an identity message and still get its first answer: a month
# covers any outage after which somebody sends again what was not acknowledged.
RETRY_HORIZON = timedelta(days=31)


class _HasStatus(Protocol):
    @property
    def status(self) -> str: ...


Request = TypeVar("Request")
Response = TypeVar("Response", bound=_HasStatus)


@dataclass(slots=True)
class Rooms:
    """What one web process serves: ASGI applications by path, the identity feed, its checks.

    ``mounts`` have all paths below theirs. ``domain`` is what its registry judges by, where it
    has one; ``guard`` knows the nodes that may connect, ``gate`` the issuers that are believed.
    """

    guard: NodeGuard
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    mounts: dict[str, Application] = field(default_factory=dict)
    feed: Callable[[bytes, str], bytes] | None = None
    checks: dict[str, Check] = field(default_factory=dict)
    daily: list[Callable[[], None]] = field(default_factory=list)
    domain: DomainInForce | None = None
    notifier: Notifier | None = None
    auditor: Auditor | None = None
    gate: UserGate | None = None


@dataclass(slots=True)
class _Doors:
    """What the endpoints of one process share."""

    settings: Settings
    stack: ExitStack
    pool: ThreadPoolExecutor
    spool: Callable[[], Spool]
    auditor: Auditor | None
    gate: UserGate | None
    guard: NodeGuard

    def at(self, door: str) -> Auditor | None:
        """The auditor of a door."""
        return self.auditor and self.auditor.at(door)

    @property
    def sights(self) -> Sights | None:
        """What callers may see; None where nobody is asked who he is."""
        return self.gate.sights if self.gate else None

    def observe(self, count: Observe) -> Observe:
        """What is told of the calls of an endpoint that have ended, to count and to log them."""
        calls = Calls(count)
        self.stack.callback(calls.tell)
        return calls

    def endpoint(self, title: str, service: str, *operations: Operation[Any, Any]) -> Endpoint:
        limits = self.settings.limits
        public = self.settings.node.public_url
        auditor = self.at(title)
        count = metrics.observer(operation.exchange for operation in operations)
        return Endpoint(
            operations,
            pool=self.pool,
            title=title,
            service_name=service,
            spool=self.spool,
            limits=Limits(
                envelope=limits.xml_bytes, message=limits.message_bytes, idle=limits.idle_seconds
            ),
            max_in_flight=limits.queue,
            address=f"{public.rstrip('/')}/{title}" if public else None,
            observe=self.observe(count),
            witness=auditor,
            gate=self.guard.soap(self.gate and self.gate.at(auditor)),
        )


def open_rooms(settings: Settings, stack: ExitStack, port: int, name: str = "web-0") -> Rooms:
    """Build the actors of a web process; what they hold is given back by ``stack``.

    ``port`` is the one of the SOAP endpoints, which subscriptions are told; ``name`` that of the
    process, whose audit trail is called so.
    Raises ConfigError, StorageError and TlsError.
    """
    client = soap_client(settings)
    stack.callback(client.close)
    blobs = open_blobs(settings)
    url = (settings.node.public_url or web_url(settings, port)).rstrip("/")
    auditor = open_auditor(settings, stack, name, url)  # outlives the calls of the pool
    opened = open_gate(settings, stack, auditor)
    pool = stack.enter_context(ThreadPoolExecutor(settings.limits.workers, "call"))
    gate, forget = opened or (None, None)
    guard = open_guard(settings, auditor)
    doors = _Doors(settings, stack, pool, partial(Arrival, blobs), auditor, gate, guard)
    rooms = Rooms(guard, auditor=auditor, gate=gate, daily=[forget] if forget else [])
    registry = _open_registry(doors, rooms, port) if settings.registry.enabled else None
    if settings.repository.enabled:
        asked = _asked(settings, registry, client, auditor=doors.at("repository"))
        _open_repository(doors, rooms, blobs, asked)
    if settings.imaging_source.enabled:
        place = settings.imaging_source.registry
        asked = _asked(settings, registry, client, place, doors.at("imaging"))
        _open_imaging_source(doors, rooms, asked)
    return rooms


def _open_registry(doors: _Doors, rooms: Rooms, port: int) -> Registry:
    settings = doors.settings
    domain = affinity_domain(settings)
    database = doors.stack.enter_context(open_database(settings.registry, "registry"))
    rooms.domain = DomainInForce(domain)
    registry, patients = Registry(database, rooms.domain), Patients(database, domain)
    carried = doors.sights.carried if doors.sights else None
    feed_v3 = _feed_v3(_applying(patients, carried), domain, settings)
    rooms.endpoints["/registry"] = doors.endpoint(
        "registry",
        "DocumentRegistry",
        # An indexed read of a local file is shorter than a hop to a thread. PostgreSQL is not asked
        # in the event loop: a server that hangs, or whose machine is gone, would hold up every
        # caller, and what bounds it is in the server's hands (30 s of a statement). The hop is lost
        # in what a query costs there: 0.90 ms of processor time in this process with it or without.
        Operation(
            ITI_18,
            _showing(ITI_18, _to_the_sight_of_each(doors.sights, registry.query)),
            database.backend == "sqlite",
        ),
        # Across patients a query is long: never in the event loop.
        Operation(
            ITI_51, _showing(ITI_51, _to_the_sight_of_each(doors.sights, registry.query_patients))
        ),
        Operation(ITI_42, _answering(ITI_42, registry.register)),
        Operation(ITI_61, _answering(ITI_61, registry.register_on_demand)),
        *(_administration(registry) if settings.registry.administration else ()),
        *(Operation(one, _answering(one, feed_v3)) for one in ITI_44.values()),
    )
    rooms.checks["registry"] = _readable(database)
    if takes_subscriptions(settings):
        shown = told_to(registry, doors.sights) if doors.sights else all_is_told
        broker = open_broker(
            settings, database, doors.stack, port, shown, doors.at("subscriptions")
        )
        rooms.endpoints["/subscriptions"] = doors.endpoint(
            "subscriptions", "NotificationBroker", *broker.operations
        )
        rooms.notifier = broker.notifier
        rooms.daily.append(broker.tidy)
    if settings.mllp.enabled:
        rooms.feed = listener(settings, doors.auditor, _applying(patients, carried))
    rooms.daily.append(partial(_forget_messages, patients))
    return registry


def _administration(registry: Registry) -> list[Operation[Any, Any]]:
    """What only administrators ask of a registry."""
    return [
        Operation(ITI_57, _answering(ITI_57, registry.update)),
        Operation(ITI_62, _answering(ITI_62, registry.remove)),
        Operation(ITI_92, _answering(ITI_92, registry.restricted_update)),
    ]


def _open_repository(doors: _Doors, rooms: Rooms, blobs: Blobs, asked: Asked) -> None:
    section = doors.settings.repository
    database = doors.stack.enter_context(open_database(section, "repository"))
    repository = Repository(
        database,
        blobs,
        section.unique_id,
        asked.register,
        administration=section.administration,
        on_demand=on_demand(doors.settings, asked, doors.sights),
    )
    unseen = doors.sights.documents(asked) if doors.sights else None
    rooms.endpoints["/repository"] = doors.endpoint(
        "repository",
        "DocumentRepository",
        Operation(ITI_41, _answering(ITI_41, repository.provide_and_register)),
        Operation(ITI_43, _showing(ITI_43, _without_unseen(unseen, repository.retrieve))),
        Operation(ITI_86, _answering(ITI_86, repository.remove)),
    )
    rooms.checks["repository"] = _readable(database)
    if isinstance(blobs, ObjectStore):
        rooms.checks["object_store"] = blobs.answers
    rooms.daily.append(partial(_reconcile, repository, asked))


def _reconcile(repository: Repository, asked: Asked) -> None:
    found = repository.reconcile(asked.knows, inventory=asked.inventory)
    level = log.error if found.alarm else log.info
    level(
        "reconciled",
        code="NODE-RECONCILED",
        missing=len(found.missing),
        damaged=len(found.damaged),
        unheld=len(found.unheld),
    )


def _forget_messages(patients: Patients) -> None:
    count = patients.forget_messages(datetime.now(UTC) - RETRY_HORIZON)
    log.info("identity messages forgotten", code="NODE-FORGOTTEN", count=count)


def _open_imaging_source(doors: _Doors, rooms: Rooms, asked: Asked) -> None:
    settings, section = doors.settings, doors.settings.imaging_source
    # Written by the process ``dicom`` alone.
    database = doors.stack.enter_context(open_database(section, "imaging_source", read_only=True))
    variants = open_variants(settings, doors.stack)
    blobs = open_recalling(settings, database, distant_recaller(settings))
    source = ImagingSource(database, blobs, section.unique_id, variants)
    if doors.auditor is not None:
        doors.auditor = replace(doors.auditor, whose=whose(settings, database))
    unseen = doors.sights.studies(asked, database) if doors.sights else None
    rooms.endpoints["/imaging"] = doors.endpoint(
        "imaging",
        "ImagingDocumentSource",
        Operation(RAD_69, _showing(RAD_69, _without_unseen(unseen, source.retrieve))),
    )
    if section.dicomweb.enabled:
        images = _dicomweb(doors, database, blobs, variants)
        mounts = recorded(images, doors.at("dicomweb"), doors.pool)
        if doors.gate is not None and unseen is not None:
            gate = doors.gate.at(doors.at("dicomweb"))
            mounts = guarded(mounts, gate, doors.pool, unseen)
        rooms.mounts |= for_nodes(mounts, doors.guard)
    rooms.checks["imaging_source"] = _readable(database)
    if settings.mllp.enabled:
        feed = rooms.feed or listener(settings, doors.auditor)
        rooms.feed = handing_on(feed, settings, doors.auditor)


def _dicomweb(
    doors: _Doors, database: Database, blobs: BlobStore, variants: Variants
) -> dict[str, Application]:
    settings, section = doors.settings, doors.settings.imaging_source
    shared: dict[str, Any] = {
        "public_url": settings.node.public_url,
        "most_in_flight": settings.limits.queue,
        "observe": doors.observe(
            metrics.observing({number: number for number in (QIDO, WADO, URI)})
        ),
    }
    return {
        ROOT: DicomWeb(
            database,
            blobs,
            doors.pool,
            paging=Paging(section.dicomweb.query_limit, section.dicomweb.query_most),
            variants=variants,
            stow=stow(settings, doors.pool) if section.dicomweb.store else None,
            **shared,
        ),
        URI_ROOT: WadoUri(database, blobs, doors.pool, variants, **shared),
    }


def _answering(
    exchange: Transaction[Request, Response], perform: Callable[[Request], Response]
) -> Callable[[Request, CallContext], Response]:
    """``perform`` as a handler, whoever asks: see ``_showing``."""
    return _showing(exchange, lambda request, _context: perform(request))


def _showing(
    exchange: Transaction[Request, Response], show: Callable[[Request, CallContext], Response]
) -> Callable[[Request, CallContext], Response]:
    """``show`` as a handler: what it logs has the correlation id, what it answers is counted."""

    count = metrics.response_counter(exchange.number)

    def handle(request: Request, context: CallContext) -> Response:
        with within_call(context.correlation_id):
            response = show(request, context)
        count(response.status)
        return response

    return handle


def _to_the_sight_of_each(
    sights: Sights | None, answer: Callable[[Request, Sight | None], Response]
) -> Callable[[Request, CallContext], Response]:
    """``answer`` with what each caller may see; with everything where nobody is asked who he is."""
    if sights is None:
        return lambda request, _context: answer(request, None)
    return lambda request, context: answer(request, sights.of(context.user))


def _without_unseen(
    unseen: Callable[[CallContext], Unseen] | None,
    serve: Callable[[Request, Unseen], Response],
) -> Callable[[Request, CallContext], Response]:
    """``serve`` all that is asked for, or all but what the caller may not see."""
    if unseen is None:
        return lambda request, _context: serve(request, all_is_seen)
    return lambda request, context: serve(request, unseen(context))


def _applying(
    patients: Patients, carried: CarriedChoices | None
) -> Callable[[IdentityFeed], FeedOutcome]:
    """``patients.apply``; what others are at is told from trouble of our own (AR 206, not 207).

    What an accepted message says of a patient's opposition is kept before it is acknowledged.
    """

    def apply(feed: IdentityFeed) -> FeedOutcome:
        try:
            outcome = patients.apply(feed)
            if carried and feed.protected is not None and outcome.ack_code == ACCEPT:
                names = [one.normalised() for one in feed.identifiers]
                said = feed.protected, feed.sender, datetime.now(UTC), moment(feed.said_at)
                carried.keep(names, *said)
            return outcome
        except DatabaseBusy as error:
            log.warning("identity event not applied", code="HL7-206", error=type(error).__name__)
            return FeedOutcome(REJECT, RECORD_LOCKED, "not applied, the patient is in use")

    return apply


def _feed_v3(
    apply: Callable[[IdentityFeed], FeedOutcome], domain: AffinityDomain, settings: Settings
) -> Callable[[IdentityRequest], Acknowledgement]:
    """What the registry does with a request of ITI-44."""
    return partial(
        answer_v3,
        apply=apply,
        domain_authority=domain.assigning_authority,
        ignore_foreign=settings.affinity_domain.foreign_patients == "ignore",
    )


def _readable(database: Database) -> Check:
    def check() -> None:
        with database.read() as connection:
            connection.execute(text("SELECT 1"))

    return check


def _asked(
    settings: Settings,
    registry: Registry | None,
    client: SoapClient,
    place: str | None = None,
    auditor: Auditor | None = None,
) -> Asked:
    """The registry at ``place``, else that of the repository: in this process, or far away."""
    place = place or settings.repository.registry
    if registry is None or place != "local":
        return Asked.remote(place, client, auditor.calling if auditor else unrecorded)
    return Asked(
        register=registry.register,
        update=registry.update,
        query=registry.query,
        unseen=registry.unseen,
        inventory=registry.inventory(settings.repository.unique_id),
    )


def reconcile(settings: Settings, progress: Progress, **options: Unpack[Options]) -> Reconciliation:
    """Settle what a crash left between repository and registry (``Repository.reconcile``).

    A running node does so every day; on embedded databases this needs the node stopped.
    ``progress`` shows how far it has come. Raises ConfigError and StorageError.
    """
    from node.wiring.commands import calling  # the consumer's code, of no use to who serves

    with ExitStack() as stack:
        client = stack.enter_context(calling(settings, operator_name()))
        asked = _asked(settings, _registry(settings, stack), client)
        repository = _repository(settings, stack, asked.register)
        options["inventory"] = asked.inventory
        with progress(tr("documents"), repository.count()) as options["step"]:
            return repository.reconcile(asked.knows, **options)


def cross_check(settings: Settings, progress: Progress) -> Reconciliation:
    """Only look: what ``reconcile`` would find of documents that cannot be served.

    Nobody is called, so that a node that is being restored needs none of its keys for it.
    """
    with ExitStack() as stack:
        registry, inventory = _registry(settings, stack), None
        if registry is not None and settings.repository.registry == "local":
            inventory = registry.inventory(settings.repository.unique_id)
        repository = _repository(settings, stack, _unregistered)
        with progress(tr("cross check"), repository.count()) as step:
            return repository.inspect(inventory, step)


def _registry(settings: Settings, stack: ExitStack) -> Registry | None:
    """The registry of a node that does not serve, if it has one."""
    if not settings.registry.enabled:
        return None
    database = stack.enter_context(open_database(settings.registry, "registry"))
    return Registry(database, affinity_domain(settings))


def _repository(settings: Settings, stack: ExitStack, register: Register) -> Repository:
    """The repository of a node that does not serve."""
    section = settings.repository
    database = stack.enter_context(open_database(section, "repository"))
    return Repository(database, open_blobs(settings), section.unique_id, register)


def _unregistered(*_: object) -> Never:
    raise AssertionError("who only looks registers nothing")
