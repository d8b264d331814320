"""The process ``dicom``: takes images and reports in, publishes manifests and reports.

The only writer of the imaging source's database. Publishes through the SOAP endpoints of
this node (or of others, by configuration), like any other source would. Takes over a changed
file of code sets by itself and on SIGHUP. Stops on SIGTERM, or when the supervisor is gone.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import structlog

from imaging_source.evicted import figures
from imaging_source.eviction import Evictor
from imaging_source.following import follow
from imaging_source.ledger import Ledger, NoLedger
from imaging_source.negotiation import Titles
from imaging_source.overview import count_put_aside, waiting
from imaging_source.publisher import Publisher
from imaging_source.receiver import Listening, run
from imaging_source.retention import keep_for
from imaging_source.service import Services
from imaging_source.users import nobody
from node import metrics
from node.config import DICOM, PID_FOLDER, Settings
from node.endpoints import web_url
from node.lifeline import Lifeline
from node.migrate import open_database
from node.process import run_process
from node.watch import Watch, watching
from node.wiring.associations import Users, open_users
from node.wiring.audit import open_auditor
from node.wiring.blobs import open_images
from node.wiring.common import server_tls, soap_client
from node.wiring.dicom import dicom_services, open_veil
from node.wiring.gate import watch_issuers
from node.wiring.identity import authorities, inbox
from node.wiring.ledger import ledger_of
from node.wiring.nodes import NodeGuard, open_guard, watch_tls
from node.wiring.pictures import open_variants
from node.wiring.source import publication_policy, publisher, report_listener, report_policy
from storage.database import Database
from storage.errors import StorageError

log = structlog.get_logger(__name__)

# Metrics are fetched every 15 to 60 seconds.
COUNT_SECONDS = 15.0


def listening(
    settings: Settings,
    services: Services,
    guard: NodeGuard,
    ledger: Ledger,
    users: Users | None = None,
) -> Listening:
    """Where and how the provider listens. Raises TlsError and ConfigError."""
    section = settings.imaging_source
    return Listening(
        host=section.host or settings.node.host,
        port=settings.port(DICOM),
        titles=Titles(
            section.ae_title,
            frozenset(section.calling_titles),
            querying=frozenset({*section.peers, *section.query_titles}),
        ),
        tls=server_tls(settings, "dicom") if settings.dicom_over_tls else None,
        services=services,
        permit=guard.permit,
        refused=guard.refused,
        turned_away=guard.turned_away,
        not_understood=guard.not_understood,
        ledger=ledger,
        identify=users or nobody,
    )


def serve(settings: Settings, lifeline: Lifeline, *, http_port: int) -> None:
    """Receive and publish until told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    lifeline.when_cut(stop.set)
    section = settings.imaging_source
    client = soap_client(settings)
    web = web_url(settings, http_port)
    with open_database(section, "imaging_source") as database, ExitStack() as stack:
        auditor = open_auditor(settings, stack, "dicom")
        if auditor is not None:
            stack.enter_context(auditor.living(settings))
        publishing = publisher(settings, database, web, client, auditor)
        guard = open_guard(settings, auditor)
        users = open_users(settings, stack, auditor)
        veil = open_veil(settings, stack, database, client, auditor)
        ledger = NoLedger() if auditor is None else ledger_of(settings, auditor)
        variants = open_variants(settings, stack)
        services = dicom_services(settings, database, variants, ledger, veil)
        stack.callback(services.stop)
        listener = report_listener(settings, database, publishing.reporting, guard, auditor)
        if listener is not None:
            stack.callback(listener.stop)

        def ready(port: int) -> None:
            services.start()
            reports = {} if listener is None else {"reports": listener.start()}
            lifeline.ready({"dicom": port, **reports})

        watches = [_watch_codes(settings, publishing), *watch_tls(settings, guard)]
        if users is not None:
            watches.append(watch_issuers(settings, users.verifier))
        then = partial(auditor.reconfigured, settings) if auditor else None
        tell = stack.enter_context(watching(*watches, then=then))
        signal.signal(signal.SIGHUP, lambda _number, _frame: tell())
        for work in _works(settings, database, services.evictor, stop):
            thread = threading.Thread(target=work, name=work.func.__name__)
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
        run(
            database,
            open_images(settings),
            listening(settings, services.offered, guard, ledger, users),
            handed_over=settings.node.data_dir / PID_FOLDER,
            asker=services.recaller,
            publisher=publishing,
            ready=ready,
            stop=stop,
        )
    client.close()


def _works(
    settings: Settings, database: Database, evictor: Evictor | None, stop: threading.Event
) -> Iterator[partial[None]]:
    """What goes on beside receiving and publishing, each in a thread of its own."""
    section = settings.imaging_source
    yield partial(follow, database, inbox(settings), authorities(settings), stop)
    yield partial(_count, database, stop)
    if section.retention_days is not None:
        yield partial(keep_for, section.retention_days, database, open_images(settings), stop)
    if evictor is not None:
        yield partial(evictor.run, stop)


def _count(database: Database, stop: threading.Event) -> None:
    """Keep the gauges of what waits."""
    while not stop.is_set():
        try:
            with database.read() as connection:
                counts, evicted = waiting(connection), figures(connection)
                metrics.QUARANTINE.set(count_put_aside(connection))
            for stage, count in counts.items():
                metrics.STUDIES.labels(stage.value).set(count)
            metrics.EVICTED.labels("all").set(evicted.instances)
            metrics.EVICTED.labels("hindered").set(evicted.hindered)
        except StorageError as error:
            log.warning("not counted", code="imaging-counts", error=type(error).__name__)
        stop.wait(COUNT_SECONDS)


def _watch_codes(settings: Settings, publishing: Publisher) -> Watch:
    """What keeps what manifests say equal to the code sets."""

    def take_over() -> None:
        publishing.policy = publication_policy(settings)
        if publishing.reporting is not None:
            publishing.reporting.policy = report_policy(settings)

    return Watch(
        "code sets", "NODE-CODES", "NODE-CODES-REFUSED", [settings.affinity_domain.codes], take_over
    )


def main(config: Path, line: socket.socket, http_port: int) -> None:
    """What the process does; ``http_port`` is the node's own, ``line`` leads to the supervisor."""
    run_process("dicom", config, line, partial(serve, http_port=http_port))
