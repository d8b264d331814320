"""Actors in the kit's hands, on a port of this machine: a registry, a notification recipient.

The registry answers ITI-42 as a case wants. The recipient takes ITI-53: each of its addresses
is told apart from the others, and what comes there is kept in order.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from conformance.evidence import Exchange, Record, Side, now
from soap.asgi import Application, Receive, Scope, Send, respond
from soap.endpoint import CallContext, Endpoint, Operation
from soap.server import WebServer, listen
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_53 import ITI_53, Notification, Notify
from transactions.registry_response import RegistryResponse

READY_SECONDS = 10
"""How long the listener may take to start: far longer than it does on any machine."""

THREADS = 4
"""Calls answered at once: more than one peer makes."""

Register = Callable[[SubmitObjectsRequest], RegistryResponse]


@contextmanager
def simulated_registry(port: int, register: Register) -> Iterator[None]:
    """Serve ITI-42 at any path of ``port`` meanwhile.

    ``register`` makes the answer; what it raises becomes a SOAP fault.
    """
    operation = Operation(ITI_42, lambda request, context: register(request))
    with ThreadPoolExecutor(THREADS, thread_name_prefix="simulator") as pool:
        endpoint = Endpoint(
            [operation], pool=pool, title="Simulated registry", service_name="DocumentRegistry"
        )
        with listening(port, endpoint):
            yield


@contextmanager
def listening(port: int, app: Application) -> Iterator[None]:
    """Serve ``app`` on all interfaces meanwhile: the system under test may be another machine."""
    server = WebServer(app)
    socket = listen("0.0.0.0", port)
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        if not server.ready.wait(READY_SECONDS):
            raise RuntimeError("the listener did not start")
        yield
    finally:
        server.should_exit = True
        thread.join()


class Inbox:
    """What comes to one address, in order."""

    def __init__(self, address: str, record: Record, pool: ThreadPoolExecutor) -> None:
        self.address = address
        self._record = record
        self._arrived: queue.Queue[Notification] = queue.Queue()
        self.endpoint = Endpoint(
            [Operation(ITI_53, self._take)],
            pool=pool,
            title="Notification recipient",
            service_name="NotificationConsumer",
        )

    def next(self, seconds: float) -> Notification | None:
        """The next notification, waited for so long; None when there is none."""
        try:
            return self._arrived.get(timeout=seconds)
        except queue.Empty:
            return None

    def _take(self, request: Notify, context: CallContext) -> None:
        started = time.monotonic()
        for notification in request.notifications:
            self._arrived.put(notification)
        text = b"".join(ITI_53.write_request(request).body).decode("utf-8", "replace")
        self._record.add(
            Exchange(
                f"{ITI_53.number} {ITI_53.name}",
                self.address,
                now(),
                time.monotonic() - started,
                Side(f"POST {self.address}", {}, text, len(text.encode())),
                Side("HTTP 202 Accepted", {}, "", 0),
            )
        )


class Recipient:
    """A Notification Recipient at ``HOST:PORT``, which listens only when told to."""

    def __init__(self, host: str, port: int, record: Record, pool: ThreadPoolExecutor) -> None:
        self._base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._port = port
        self._record = record
        self._pool = pool
        self._inboxes: dict[str, Inbox] = {}

    def inbox(self) -> Inbox:
        """A new address of this recipient."""
        path = f"/notify/{uuid.uuid4()}"
        made = self._inboxes[path] = Inbox(f"{self._base}{path}", self._record, self._pool)
        return made

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take notifications meanwhile."""
        with listening(self._port, self._serve):
            yield

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        inbox = self._inboxes.get(scope["path"])
        if inbox is None:  # of a case before
            await respond(send, 404, b"nothing is served at this address")
        else:
            await inbox.endpoint(scope, receive, send)


@contextmanager
def recipient(host: str, port: int, record: Record) -> Iterator[Recipient]:
    """A recipient whose messages are noted in ``record``."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="recipient") as pool:
        yield Recipient(host, port, record, pool)
