"""The storage provider that takes what was asked for by C-MOVE (PS3.4 C.4.2, Annex B).

It listens while images are fetched, hears the applications alone that are asked, at their own
addresses, and takes nothing but what was asked of them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, Association, build_context
from pynetdicom.transport import ThreadedAssociationServer

from consumer.applications import Application, Ourselves
from consumer.association import (
    CONNECT_SECONDS,
    PDU_BYTES,
    Head,
    Sink,
    handlers,
    hang_up,
)
from consumer.errors import NotListening
from consumer.portion import NOT_WANTED, Portion

# Associations at once: sources open one for each C-MOVE, some one for each instance.
_ASSOCIATIONS = 32

# Seconds until the listener sees that it is to end.
_POLL = 0.05


class Destination:
    """Listens from the first portion that is ``expecting`` until it is closed."""

    def __init__(
        self,
        ourselves: Ourselves,
        peers: Collection[Application],
        transfer_syntaxes: Sequence[str],
        silence: float,
    ) -> None:
        self._ourselves = ourselves
        self._peers = peers
        self._transfer_syntaxes = list(transfer_syntaxes)
        self._silence = silence
        self._lock = threading.Lock()
        self._expected: list[tuple[str, Portion]] = []
        self._classes: set[str] = set()
        self._server: _Server | None = None

    @contextmanager
    def expecting(
        self, peer: Application, classes: Collection[str], portion: Portion
    ) -> Iterator[None]:
        """Take what belongs to ``portion`` from ``peer``. Raises NotListening."""
        with self._lock:
            self._server = self._server or self._listening()
            self._classes.update(classes)
            self._server.contexts = [
                build_context(one, self._transfer_syntaxes) for one in self._classes
            ]
            self._expected.append((peer.title, portion))
        try:
            yield
        finally:
            with self._lock:
                self._expected.remove((peer.title, portion))

    def close(self) -> None:
        """Listen no more, and end what is on its way."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()

    def _listening(self) -> _Server:
        try:
            server = _Server(self._ourselves, self._peers, self._sink, self._silence)
        except OSError as error:
            place = f"{self._ourselves.host}:{self._ourselves.port}"
            raise NotListening(f"cannot listen at {place}: {error.strerror}") from error
        self._ourselves.opened(server.server_address[1])
        return server

    def _sink(self, association: Association, head: Head) -> Sink:
        """The portion that asked for an instance has it; of what nobody asked for, any is told."""
        title = association.requestor.ae_title.strip()
        with self._lock:
            portions = [portion for of, portion in self._expected if of == title]
        asking = [portion for portion in portions if head.sop_instance_uid in portion]
        for portion in (*asking, *portions):
            return portion.sink(head)
        return _Nowhere()


class _Nowhere:
    """Where goes what comes when nothing is expected (association.Sink)."""

    def write(self, data: bytes) -> bool:
        """Let it go."""
        return bool(data)

    def finish(self) -> int:
        """Not wanted."""
        return NOT_WANTED

    def abort(self) -> None:
        """There is nothing to forget."""


class _Server(ThreadedAssociationServer):
    """pynetdicom's, which would wait for each TLS handshake before it takes the next caller."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        ourselves: Ourselves,
        peers: Collection[Application],
        make_sink: Callable[[Association, Head], Sink],
        silence: float,
    ) -> None:
        entity = AE(ourselves.title)
        entity.require_called_aet = True
        entity.require_calling_aet = sorted({peer.title for peer in peers})
        entity.maximum_associations = _ASSOCIATIONS
        entity.maximum_pdu_size = PDU_BYTES
        entity.acse_timeout = CONNECT_SECONDS
        entity.dimse_timeout = None
        entity.network_timeout = silence
        self._tls = ourselves.tls
        self._addresses = _addresses({peer.host for peer in peers})
        place = (ourselves.host, ourselves.port or 0)
        guard = handlers(make_sink, silence)
        super().__init__(entity, place, ourselves.title, [], evt_handlers=guard)
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL,), daemon=True)
        self._thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; of TLS nothing is said yet."""
        assert self.socket is not None  # it listens
        connection, address = self.socket.accept()
        connection.settimeout(CONNECT_SECONDS)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a peer calls."""
        return str(client_address[0]).removeprefix("::ffff:") in self._addresses

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Talk to a peer, in a thread of its own."""
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who fails in a handshake is no peer."""

    def service_actions(self) -> None:
        """There is nothing to do between two connections."""

    def stop(self) -> None:
        """Listen no more, and hang up."""
        BaseServer.shutdown(self)
        self.server_close()
        self._thread.join()
        for association in self.active_associations:
            hang_up(association)


def _addresses(hosts: Collection[str]) -> set[str]:
    """The network addresses of peers; one whose name nobody knows cannot call."""
    found = set()
    for host in hosts:
        try:
            found |= {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
        except OSError:
            continue
    return found
