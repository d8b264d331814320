"""The processes under measurement: those of a node, by the node's own wiring.

``web-0`` serves the node's SOAP endpoints and its identity feed, and the bare paths beside
them, ``web-1`` and so on all but the feed from the same socket; ``dicom`` receives images. Each
prints its ports as one line of JSON when it accepts, and stops when its standard input ends. It
differs from ``kosmos serve`` in that nobody supervises it and nothing is published.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import uvloop
from sqlalchemy import make_url

from benchmarks import bare
from hl7.mllp import MllpServer
from imaging_source.ledger import NoLedger
from imaging_source.receiver import run
from node import logs
from node.config import PID_FOLDER, Settings
from node.config_file import load
from node.dicom import listening
from node.migrate import open_database
from node.process import COLLECT_EVERY
from node.wiring.blobs import open_images
from node.wiring.common import affinity_domain, server_tls
from node.wiring.dicom import dicom_services
from node.wiring.nodes import open_guard
from node.wiring.pictures import open_variants
from node.wiring.rooms import Rooms, open_rooms
from registry import Registry
from soap.asgi import Application
from soap.server import Router, WebServer

# Opening a socket that is bound takes milliseconds.
_START_SECONDS = 10.0


def announce(ports: Mapping[str, int]) -> None:
    """Tell the process that started this one."""
    print(json.dumps(dict(ports)), flush=True)


async def web(settings: Settings, name: str, listener: socket.socket) -> None:
    """Serve what comes to ``listener`` until standard input ends."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    with ExitStack() as stack:
        http = listener.getsockname()[1]
        rooms = open_rooms(settings, stack, http, name)
        routes: dict[str, Application] = {**rooms.endpoints, **_bare_paths(settings, stack)}
        server = WebServer(Router(routes, rooms.mounts), tls=server_tls(settings, "http"))
        serving = asyncio.create_task(server.serve([listener]))
        await asyncio.to_thread(server.ready.wait, _START_SECONDS)
        ports, feeds = {"http": http}, []
        if name == "web-0":
            feeds.append(await _feed(rooms))
            ports["mllp"] = feeds[0].port
        announce(ports)
        _when_input_ends(lambda: loop.call_soon_threadsafe(stopping.set))
        await stopping.wait()
        server.should_exit = True
        await asyncio.gather(serving, *(feed.stop() for feed in feeds))


async def _feed(rooms: Rooms) -> MllpServer:
    assert rooms.feed is not None
    feed = MllpServer(rooms.feed)
    await feed.start()
    return feed


def _bare_paths(settings: Settings, stack: ExitStack) -> dict[str, Application]:
    return {
        "/bare/query": _bare_query(settings, stack),
        "/bare/upload": bare.Upload(settings.node.data_dir),
        "/bare/download": bare.Download(),
    }


def _bare_query(settings: Settings, stack: ExitStack) -> Application:
    domain, url = affinity_domain(settings), make_url(settings.registry.database)
    if url.get_backend_name() == "postgresql":
        return bare.PostgreSQLQuery(settings.registry.database, domain)
    database = stack.enter_context(open_database(settings.registry, "registry", read_only=True))
    return bare.Query(database, url.database or "", Registry(database, domain))


def dicom(settings: Settings) -> None:
    """Receive images until standard input ends."""
    stop = threading.Event()
    _when_input_ends(stop.set)
    with open_database(settings.imaging_source, "imaging_source") as database, ExitStack() as stack:
        ledger, variants = NoLedger(), open_variants(settings, stack)
        services = dicom_services(settings, database, variants, ledger)
        run(
            database,
            open_images(settings),
            listening(settings, services.offered, open_guard(settings, None), ledger),
            handed_over=settings.node.data_dir / PID_FOLDER,
            ready=lambda port: announce({"dicom": port}),
            stop=stop,
        )


def _when_input_ends(stop: Callable[[], object]) -> None:
    def watch() -> None:
        sys.stdin.buffer.read()
        stop()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """``python -m benchmarks.server dicom|web-0|web-1... CONFIG [SOCKET]``: its descriptor."""
    process, config, *given = sys.argv[1:]
    settings = load(Path(config))
    logs.configure(process, settings.node.log_format, settings.node.log_level)
    gc.freeze()  # as node.preload and node.process do
    gc.set_threshold(COLLECT_EVERY)
    if process == "dicom":
        dicom(settings)
    else:
        uvloop.run(web(settings, process, socket.socket(fileno=int(given[0]))))


if __name__ == "__main__":
    main()
