"""A running MLLP server, and the parts of an ADT message to vary."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from hl7.message import build
from hl7.mllp import DEFAULT_LIMITS, Handler, MllpLimits, MllpServer
from metadata.datatypes import HD

OID = "1.2.250.1.99.1"
AUTHORITY = HD("KOSMOS", OID, "ISO")


class AdtFactory(Protocol):
    """Builds an ADT; keywords name fields (``PID_3``), None drops the segment."""

    def __call__(self, event: str = "A04", **fields: Any) -> bytes: ...


class RunServer(Protocol):
    """Runs a server for a ``with`` block."""

    def __call__(
        self,
        handler: Handler,
        limits: MllpLimits = DEFAULT_LIMITS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> AbstractContextManager[Running]: ...


class Running:
    """A server on its own event loop in its own thread."""

    def __init__(self, server: MllpServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop

    @property
    def port(self) -> int:
        return self.server.port

    def stop(self, grace: float = 5.0) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(grace), self._loop).result(10)


@contextmanager
def running(
    handler: Handler,
    limits: MllpLimits = DEFAULT_LIMITS,
    ssl_context: ssl.SSLContext | None = None,
) -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = MllpServer(handler, limits=limits, ssl_context=ssl_context)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(5)
    run = Running(server, loop)
    try:
        yield run
    finally:
        run.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@pytest.fixture
def run_server() -> RunServer:
    return running


@pytest.fixture
def authority() -> HD:
    return AUTHORITY


@pytest.fixture
def adt() -> AdtFactory:
    return make_adt


def make_adt(event: str = "A04", **fields: Any) -> bytes:
    """An ADT that is right unless ``fields`` say otherwise."""
    structure = {"A40": "ADT_A39", "A43": "ADT_A43"}.get(event, "ADT_A01")
    values: dict[str, list[Any]] = {
        "MSH": [
            *("HIS", "GENERAL", "KOSMOS", "REGION", "20261122080000", ""),
            *(("ADT", event, structure), "42", "P", "2.3.1", "", "", "", "", "", "UNICODE UTF-8"),
        ],
        "EVN": [event, "20261122080000"],
        "PID": ["", "", ("4711", "", "", ("", OID, "ISO")), "", ("DUPONT", "ANNE")],
    }
    if event in ("A40", "A43"):
        values["MRG"] = [("4712", "", "", ("", OID, "ISO"))]
    else:
        values["PV1"] = ["", "O"]
    for name, value in fields.items():
        segment, _, number = name.partition("_")
        if not number:
            del values[segment]
            continue
        first = 3 if segment == "MSH" else 1
        values[segment][int(number) - first] = value
    return build([(name, *content) for name, content in values.items()])


@pytest.fixture(scope="session")
def samples() -> Path:
    folder = Path(__file__).parents[2].parent / "shared" / "standards" / "samples" / "hl7"
    if not folder.is_dir():
        pytest.skip("the standards' sample messages are not on this machine")
    return folder
