"""The process ``web``: SOAP endpoints and pages, the identity feed, the admin port.

Started by the supervisor, which hands over the bound HTTP socket; on PostgreSQL several such
processes share it. The first, ``--primary``, alone has the admin port, the feed, the daily
reconciliation and the delivery of notifications. Takes over a changed file of code sets by itself
and on SIGHUP. Stops on SIGTERM, or when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import structlog
import uvloop

from hl7.mllp import MllpLimits, MllpServer
from metadata.affinity_domain import DomainInForce
from node import metrics
from node.admin import Admin
from node.config import ADMIN, AUDIT, MLLP, MLLPS, Settings
from node.endpoints import mllp_host
from node.home import Home
from node.lifeline import Lifeline, Listeners
from node.process import run_process
from node.version import kosmos_version
from node.watch import Watch, watching
from node.wiring.audit import RECEIVED, open_trail, send_resting
from node.wiring.common import affinity_domain, server_tls
from node.wiring.gate import watch_issuers
from node.wiring.nodes import watch_tls
from node.wiring.proxies import ProxyDoor
from node.wiring.rooms import Rooms, open_rooms
from security.audit.receiver import Receiver
from security.audit.trail import Trail
from soap.server import Deadlines, Router, WebServer, listen
from storage.errors import StorageError

log = structlog.get_logger(__name__)

# Below the supervisor's patience, so that calls under way end by themselves.
GRACE_SECONDS = 20
# Opening sockets that are bound already takes milliseconds.
START_SECONDS = 10.0
# Reconciling looks at every document: often enough for what is at most harmless.
DAY_SECONDS = 86_400.0
# Framing around the largest HL7 message.
BLOCK_OVERHEAD = 1024


class Web:
    """The listeners of one process over its rooms."""

    def __init__(
        self,
        settings: Settings,
        rooms: Rooms,
        http: socket.socket,
        primary: bool,
        received: Trail | None,
    ) -> None:
        self._settings = settings
        self._rooms = rooms
        self._http = http
        self._primary = primary
        self._guard = rooms.guard
        self._servers: list[WebServer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._feeds: list[MllpServer] = []
        self._received = received
        self._receiver: Receiver | None = None

    async def start(self) -> Listeners:
        """Open every listener; their ports. Raises OSError when one cannot be had."""
        rooms = self._rooms
        home = Home(self._settings.node.name, (*rooms.endpoints, *rooms.mounts))
        served = Router({**rooms.endpoints, "": home}, rooms.mounts)
        limits = self._settings.limits
        deadlines = Deadlines(head=limits.header_seconds, shutdown=GRACE_SECONDS)
        front = WebServer(
            ProxyDoor(self._guard, served),
            tls=server_tls(self._settings, "http"),
            deadlines=deadlines,
            connections=limits.connections,
            refused=self._guard.refused,
        )
        ports = {"http": await self._serve(front, self._http)}
        if self._primary:
            ports |= await self._start_admin()
            ports |= await self._start_feeds()
        if self._received is not None:
            ports |= await self._start_receiver(self._received)
        return ports

    async def stop(self) -> None:
        """Let what is under way end, then close everything."""
        for server in self._servers:
            server.should_exit = True
        if self._receiver is not None:
            await self._receiver.stop()
        await asyncio.gather(*self._tasks, *(feed.stop(GRACE_SECONDS) for feed in self._feeds))

    async def _serve(self, server: WebServer, listener: socket.socket) -> int:
        self._servers.append(server)
        self._tasks.append(asyncio.create_task(server.serve([listener])))
        await asyncio.to_thread(server.ready.wait, START_SECONDS)
        port: int = listener.getsockname()[1]
        return port

    async def _start_admin(self) -> Listeners:
        listener = listen(self._settings.node.admin_host, self._settings.port(ADMIN))
        return {"admin": await self._serve(WebServer(Admin(self._rooms.checks)), listener)}

    async def _start_receiver(self, trail: Trail) -> Listeners:
        host, port = self._settings.node.host, self._settings.port(AUDIT)
        self._receiver = Receiver(
            trail,
            host,
            port,
            server_tls(self._settings, "syslog"),
            admits=partial(self._guard.admits, transaction="ITI-20"),
            refused=self._guard.refused,
            udp=self._settings.audit.udp is not False,
        )
        await self._receiver.start()
        return {"audit": self._receiver.port}

    async def _start_feeds(self) -> Listeners:
        ports: Listeners = {}
        if self._rooms.feed is None:
            return ports
        settings, limits = self._settings, self._settings.limits
        most = MllpLimits(
            max_block=limits.hl7_message_bytes + BLOCK_OVERHEAD, connections=limits.connections
        )
        places: dict[str, tuple[str, int, ssl.SSLContext | None]] = {
            "mllp": (mllp_host(settings), MLLP, None)
        }
        if (secured := server_tls(settings, "mllp")) is not None:
            places["mllps"] = (settings.node.host, MLLPS, secured)
        for name, (host, offset, tls) in places.items():
            feed = MllpServer(
                self._rooms.feed,
                host,
                settings.port(offset),
                ssl_context=tls,
                limits=most,
                by_node=self._guard.mllp(self._rooms.feed) if tls else None,
                refused=self._guard.refused,
                overlong=self._guard.overlong,
            )
            await feed.start()
            self._feeds.append(feed)
            ports[name] = feed.port
        return ports


async def run(
    settings: Settings, http: socket.socket, primary: bool, trail: str, lifeline: Lifeline
) -> None:
    """Serve until told to stop."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    lifeline.when_cut(lambda: loop.call_soon_threadsafe(stopping.set))
    with ExitStack() as stack:
        rooms = open_rooms(settings, stack, http.getsockname()[1], trail)
        if rooms.auditor is not None:
            stack.enter_context(rooms.auditor.living(settings))
        received = None
        if primary and settings.audit.listen:
            received = open_trail(settings, stack, RECEIVED)
        web = Web(settings, rooms, http, primary, received)
        try:
            ports = await web.start()
            log.info("listening", **ports)
            lifeline.ready(ports)
            if primary:
                _keep_house(rooms, stack)
                _notify(rooms, stack)
                send_resting(settings, stack)
            watches = watch_tls(settings, rooms.guard)
            if rooms.gate is not None:
                watches.append(watch_issuers(settings, rooms.gate.verifier))
            if rooms.domain is not None:
                watches.append(_watch_codes(settings, rooms.domain))
            then = partial(rooms.auditor.reconfigured, settings) if rooms.auditor else None
            tell = stack.enter_context(watching(*watches, then=then))
            loop.add_signal_handler(signal.SIGHUP, tell)
            await stopping.wait()
        finally:
            await web.stop()
    log.info("stopped")


def _keep_house(rooms: Rooms, stack: ExitStack) -> None:
    """Do the daily work, at once and then every day, in a thread nobody waits for."""
    stopping = threading.Event()
    stack.callback(stopping.set)

    def work() -> None:
        while not stopping.is_set():
            for job in rooms.daily:
                try:
                    job()
                except StorageError as error:
                    log.warning("not done today", code="NODE-DAILY", exc_info=error)
            stopping.wait(DAY_SECONDS)

    threading.Thread(target=work, name="daily work", daemon=True).start()


def _watch_codes(settings: Settings, domain: DomainInForce) -> Watch:
    """What keeps ``domain`` equal to its file."""

    def take_over() -> None:
        domain.current = affinity_domain(settings)

    return Watch(
        "code sets", "NODE-CODES", "NODE-CODES-REFUSED", [settings.affinity_domain.codes], take_over
    )


def _notify(rooms: Rooms, stack: ExitStack) -> None:
    """Deliver notifications until the end."""
    if rooms.notifier is not None:
        stack.callback(rooms.notifier.stop)
        rooms.notifier.start()


def serve(
    settings: Settings,
    lifeline: Lifeline,
    *,
    http: socket.socket,
    primary: bool,
    trail: str,
) -> None:
    """The work of the process."""
    metrics.BUILD.labels(kosmos_version()).set(1)
    uvloop.run(run(settings, http, primary, trail, lifeline))


def main(config: Path, line: socket.socket, http: socket.socket, primary: bool, trail: str) -> None:
    """What the process does; ``http`` is the bound socket, ``line`` leads to the supervisor,
    ``trail`` is the name of its audit trail."""
    run_process("web", config, line, partial(serve, http=http, primary=primary, trail=trail))
