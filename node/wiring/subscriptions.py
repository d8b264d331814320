"""The notification broker of a node: its operations, its delivery, its daily work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from metadata import ebrim
from metadata.model import Submission
from node import metrics
from node.config import Settings
from node.endpoints import broker_address
from node.logs import within_call
from node.wiring.common import client_tls
from node.wiring.sights import Caller, Sights
from registry import Registry
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import Notifier
from registry.subscriptions.pull_points import Owner, PullPoints
from registry.subscriptions.records import tidy
from security.access.sight import Sight, facts_of
from security.nodes import names_of
from soap.client import SoapClient
from soap.endpoint import CallContext, Operation
from soap.faults import PeerUnreachable, SoapFault
from storage.database import Database
from storage.errors import StorageError
from transactions.iti_52 import ITI_52, ITI_52_UNSUBSCRIBE
from transactions.iti_53 import ITI_53, Notification, Notify
from transactions.iti_54 import ITI_54
from transactions.iti_69 import ITI_69, ITI_69_DESTROY
from transactions.iti_70 import ITI_70
from transactions.transaction import Transaction

if TYPE_CHECKING:
    from node.wiring.audit import Auditor

log = structlog.get_logger(__name__)

SECONDS_AN_HOUR = 3600

Request = TypeVar("Request")
Response = TypeVar("Response")

Showing = Callable[["Caller | None"], Callable[[Notify], Notify | None]]
"""Of each caller, None for who is told without asking: what of a notification he may be told."""


@dataclass(frozen=True, slots=True)
class OpenBroker:
    """What a web process serves and does for subscriptions."""

    operations: Sequence[Operation[Any, Any]]
    notifier: Notifier
    tidy: Callable[[], None]


def open_broker(
    settings: Settings,
    database: Database,
    stack: ExitStack,
    port: int,
    shown: Showing,
    auditor: Auditor | None = None,
) -> OpenBroker:
    """The broker over the registry's database; what it holds is given back by ``stack``.

    ``shown`` is what of a notification each may be told, if anything; ``auditor`` records what is
    told. Raises ConfigError and
    TlsError.
    """
    section, address = settings.subscriptions, broker_address(settings, port)
    # A test node has no peers beyond this machine, and every program on it is one.
    consumers = Consumers(section.consumers, loopback=not settings.tls.enabled)
    client = SoapClient(timeout=section.send_seconds, ssl_context=client_tls(settings))
    stack.callback(client.close)
    broker = Broker(
        database,
        address,
        consumers,
        longest=timedelta(days=section.longest_days),
        most=section.most,
    )
    points = PullPoints(
        database,
        address,
        most=section.pull_points,
        messages=section.pull_messages,
        longest=timedelta(days=section.pull_days),
    )
    notifier = Notifier(
        database,
        _sender(client, consumers, shown(None), auditor),
        address,
        give_up_seconds=section.give_up_hours * SECONDS_AN_HOUR,
        report=lambda outcome: metrics.NOTIFICATIONS.labels(outcome).inc(),
        count=metrics.WAITING.set,
        trim=lambda: _trim(points),
    )
    operations = (
        _operation(ITI_52, lambda request, context: broker.subscribe(request, _owner(context))),
        _operation(ITI_52_UNSUBSCRIBE, lambda request, _context: broker.unsubscribe(request)),
        _operation(ITI_54, lambda request, _context: broker.publish(request)),
        _operation(ITI_69, lambda request, context: points.create(request, _owner(context))),
        _operation(
            ITI_69_DESTROY, lambda request, context: points.destroy(request, _owner(context))
        ),
        _operation(
            ITI_70,
            lambda request, context: points.get(
                request, _owner(context), _or_busy(shown(context.user))
            ),
        ),
    )
    return OpenBroker(operations, notifier, lambda: _tidy(database, points))


def _owner(context: CallContext) -> Owner:
    """Whose a pull point is that this caller makes: the node's, and the user's where one asks.

    A node keeps its subject when it renews its certificate.
    """
    node = names_of(context.certificate)[1] if context.certificate else context.peer
    claims = context.user.claims if context.user else None
    return Owner(node, f"{claims.subject}@{claims.issuer}" if claims else "")


def all_is_told(_caller: Caller | None) -> Callable[[Notify], Notify | None]:
    """Nothing is hidden from anybody."""
    return lambda request: request


def told_to(registry: Registry, sights: Sights) -> Showing:
    """What may be told, as it is at that moment: to a subscriber, who is a node without user, or
    to the caller who fetches it."""

    def of(caller: Caller | None) -> Callable[[Notify], Notify | None]:
        def shown(request: Notify) -> Notify | None:
            sight = sights.of(caller)
            kept = [
                told
                for one in request.notifications
                if (told := _without(one, _hidden(registry, sight, one.objects())))
            ]
            return Notify(kept) if kept else None

        return shown

    return of


def _or_busy(shown: Callable[[Notify], Notify | None]) -> Callable[[Notify], Notify | None]:
    """``shown``; where it cannot be known what may be told, nothing is."""

    def known(request: Notify) -> Notify | None:
        try:
            return shown(request)
        except StorageError as error:
            log.error("nothing told", code="ACCESS-UNKNOWN", error=type(error).__name__)
            raise SoapFault.busy() from error

    return known


def _hidden(registry: Registry, sight: Sight, told: Submission) -> set[str]:
    """What must not be told; documents of other publishers (ITI-54) by their metadata."""
    ids = [*(one.entry_uuid for one in told.objects()), *told.object_refs]
    hidden = registry.hidden(sight, ids)
    for entry in told.documents:
        facts = facts_of(entry)
        if not sight.sees(sight.choices(facts.patients, ()), facts):
            hidden.add(entry.entry_uuid)
    return hidden


def _without(one: Notification, hidden: Collection[str]) -> Notification | None:
    if not hidden:
        return one
    told = one.objects()
    fragments = [ebrim.write_object(obj) for obj in told.objects() if obj.entry_uuid not in hidden]
    fragments += [ebrim.object_ref(ref) for ref in told.object_refs if ref not in hidden]
    return replace(one, fragments=fragments) if fragments else None


def _sender(
    client: SoapClient,
    consumers: Consumers,
    shown: Callable[[Notify], Notify | None],
    auditor: Auditor | None,
) -> Callable[[str, Notify], None]:
    def send(address: str, request: Notify) -> None:
        if not consumers.allow(address):  # the configuration has changed since it subscribed
            raise PeerUnreachable("this node may not send notifications to that address")
        tell = partial(_tell, client, address)
        try:
            if (told := shown(request)) is not None:
                (auditor.calling("ITI-53", address, tell) if auditor else tell)(told)
        except StorageError as error:  # it cannot be known what may be told, or recorded: later
            raise PeerUnreachable(type(error).__name__) from error

    return send


def _tell(client: SoapClient, address: str, told: Notify) -> bool:
    client.send(address, ITI_53, told)
    return True


def _operation(
    exchange: Transaction[Request, Response], perform: Callable[[Request, CallContext], Response]
) -> Operation[Request, Response]:
    """``perform`` as an operation: what it logs has the correlation id, what it answers is
    counted."""

    def handle(request: Request, context: CallContext) -> Response:
        status = "Fault"
        try:
            with within_call(context.correlation_id):
                response = perform(request, context)
            status = "Success"
        finally:
            metrics.RESPONSES.labels(exchange.number, status).inc()
        return response

    return Operation(exchange, handle)


def _tidy(database: Database, points: PullPoints) -> None:
    count, unasked = tidy(database, datetime.now(UTC)), points.tidy()
    log.info("ended subscriptions dropped", code="NODE-SUBSCRIPTIONS", count=count)
    log.info("pull points nobody asks dropped", code="NODE-PULL-POINTS", count=unasked)


def _trim(points: PullPoints) -> None:
    if count := points.trim():
        log.error("notifications nobody fetches dropped", code="PULL-POINT-FULL", count=count)
        metrics.NOTIFICATIONS.labels("dropped").inc(count)
