"""The notification broker of a node: its operations, its delivery, its daily work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from node import metrics
from node.config import Settings
from node.endpoints import broker_address
from node.wiring.common import client_tls
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import Notifier
from registry.subscriptions.records import tidy
from soap.client import SoapClient
from soap.endpoint import CallContext, Operation
from soap.faults import PeerUnreachable
from storage.database import Database
from transactions.iti_52 import ITI_52, ITI_52_UNSUBSCRIBE
from transactions.iti_53 import ITI_53, Notify
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


def open_broker(settings: Settings, database: Database, stack: ExitStack, port: int) -> OpenBroker:
    """The broker over the registry's database; what it holds is given back by ``stack``.

    Raises ConfigError and TlsError.
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
        _sender(client, consumers),
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


def _sender(client: SoapClient, consumers: Consumers) -> Callable[[str, Notify], None]:
    def send(address: str, request: Notify) -> None:
        if not consumers.allow(address):  # the configuration has changed since it subscribed
            raise PeerUnreachable("this node may not send notifications to that address")
        client.send(address, ITI_53, request)

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
