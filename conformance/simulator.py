"""A registry in the kit's hands: answers ITI-42 as a case wants, on a port of this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from soap.endpoint import Endpoint, Operation
from soap.server import WebServer, listen
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.registry_response import RegistryResponse

READY_SECONDS = 10
"""How long the listener may take to start: far longer than it does on any machine."""


class RegistrySimulator:
    """Serves ITI-42 at any path of ``port`` while the ``with`` block lasts.

    ``register`` makes the answer; what it raises becomes a SOAP fault. ``url`` is where it
    listens: on all interfaces, since the repository under test may be another machine.
    """

    def __init__(
        self,
        port: int,
        register: Callable[[SubmitObjectsRequest], RegistryResponse],
        host: str = "0.0.0.0",
    ) -> None:
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="simulator")
        operation = Operation(ITI_42, lambda request, context: register(request))
        endpoint = Endpoint(
            [operation],
            pool=self._pool,
            title="Simulated registry",
            service_name="DocumentRegistry",
        )
        self._server = WebServer(endpoint)
        self._socket = listen(host, port)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/registry"

    def __enter__(self) -> RegistrySimulator:
        self._thread.start()
        if not self._server.ready.wait(READY_SECONDS):
            raise RuntimeError("the simulated registry did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._pool.shutdown()
