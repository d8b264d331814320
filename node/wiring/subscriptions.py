"""The notification broker of a node: its operations, its delivery, its daily work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from metadata import ebrim
from metadata.model import Submission
from node import metrics
from node.config import Settings
from node.endpoints import broker_address
from node.wiring.common import client_tls
from node.wiring.sights import Sights
from registry import Registry
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import Notifier
from registry.subscriptions.records import tidy
from security.access.sight import Sight, facts_of
from soap.client import SoapClient
from soap.endpoint import CallContext, Operation
from soap.faults import PeerUnreachable
from storage.database import Database
from storage.errors import StorageError
from transactions.iti_52 import ITI_52, ITI_52_UNSUBSCRIBE
from transactions.iti_53 import ITI_53, Notification, Notify
from transactions.iti_54 import ITI_54
from transactions.transaction import Transaction

log = structlog.get_logger(__name__)

SECONDS_AN_HOUR = 3600

Request = TypeVar("Request")
Response = TypeVar("Response")


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
    shown: Callable[[Notify], Notify | None],
) -> OpenBroker:
    """The broker over the registry's database; what it holds is given back by ``stack``.

    ``shown`` is what of a notification may be told, if anything. Raises ConfigError and TlsError.
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
    notifier = Notifier(
        database,
        _sender(client, consumers, shown),
        address,
        give_up_seconds=section.give_up_hours * SECONDS_AN_HOUR,
        report=lambda outcome: metrics.NOTIFICATIONS.labels(outcome).inc(),
        count=metrics.WAITING.set,
    )
    operations = (
        Operation(ITI_52, _answering(ITI_52, broker.subscribe)),
        Operation(ITI_52_UNSUBSCRIBE, _answering(ITI_52_UNSUBSCRIBE, broker.unsubscribe)),
        Operation(ITI_54, _answering(ITI_54, broker.publish)),
    )
    return OpenBroker(operations, notifier, lambda: _tidy(database))


def all_is_told(request: Notify) -> Notify | None:
    """Nothing is hidden from anybody."""
    return request


def told_to_nodes(registry: Registry, sights: Sights) -> Callable[[Notify], Notify | None]:
    """What a subscriber may be told, who is a node without user, as it is when he is told."""

    def shown(request: Notify) -> Notify | None:
        sight = sights.of()
        kept = [
            told
            for one in request.notifications
            if (told := _without(one, _hidden(registry, sight, one.objects())))
        ]
        return Notify(kept) if kept else None

    return shown


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
    client: SoapClient, consumers: Consumers, shown: Callable[[Notify], Notify | None]
) -> Callable[[str, Notify], None]:
    def send(address: str, request: Notify) -> None:
        if not consumers.allow(address):  # the configuration has changed since it subscribed
            raise PeerUnreachable("this node may not send notifications to that address")
        try:
            told = shown(request)
        except StorageError as error:  # it cannot be known what may be told: later
            raise PeerUnreachable(type(error).__name__) from error
        if told is not None:
            client.send(address, ITI_53, told)

    return send


def _answering(
    exchange: Transaction[Request, Response], perform: Callable[[Request], Response]
) -> Callable[[Request, CallContext], Response]:
    """``perform`` as a handler: what it logs has the correlation id, what it answers is counted."""

    def handle(request: Request, context: CallContext) -> Response:
        status = "Fault"
        try:
            with bound_contextvars(correlation_id=context.correlation_id):
                response = perform(request)
            status = "Success"
        finally:
            metrics.RESPONSES.labels(exchange.number, status).inc()
        return response

    return handle


def _tidy(database: Database) -> None:
    count = tidy(database, datetime.now(UTC))
    log.info("ended subscriptions dropped", code="NODE-SUBSCRIPTIONS", count=count)
