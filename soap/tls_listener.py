"""Accepting connections under TLS, one handshake each, and telling who failed in it.

The servers of asyncio keep the address of a peer that fails in the handshake to themselves; here
a connection is accepted first and spoken TLS with then, within a deadline. It stands in for
``asyncio.Server`` where a server is only closed and waited for. Meant for every protocol that runs
on an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

Refused = Callable[[str, str], None]
"""Told the address of a peer that was refused, and why."""

# How long to wait when the system has no descriptors left for another connection.
_PAUSE_SECONDS = 0.1
# Handshakes at once: a node speaks hundreds in a second, so only silent peers are as many. The
# longest waiting one makes room for the next.
_MOST_GREETINGS = 512


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""Serves one connection."""


class Places:
    """Counts the connections of a listener. Where all places are taken, the peer that has been
    waited for longest makes room: silent ones do not keep out those that have something to say.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waited_for: dict[object, Callable[[], None]] = {}  # the longest first
        self._heard: set[object] = set()

    def enter(self, connection: object, cut: Callable[[], None]) -> bool:
        """Count one that is waited for, which ``cut`` ends; False where there is no room."""
        if len(self._waited_for) + len(self._heard) >= self._most:
            if not self._waited_for:
                return False
            oldest = next(iter(self._waited_for))
            self._waited_for.pop(oldest)()
        self._waited_for[connection] = cut
        return True

    def heard(self, connection: object) -> None:
        """It has said something: it keeps its place from now on."""
        if self._waited_for.pop(connection, None) is not None:
            self._heard.add(connection)

    def waits(self, connection: object, cut: Callable[[], None]) -> None:
        """It was heard, and is waited for again."""
        if connection in self._heard:
            self._heard.remove(connection)
            self._waited_for[connection] = cut

    def leave(self, connection: object) -> None:
        """It has ended; one that was cut, or had no room, may say so too."""
        self._waited_for.pop(connection, None)
        self._heard.discard(connection)


class TlsListener:
    """Accepts on ``listener``, a bound and listening socket, until closed.

    ``make`` makes the protocol of a connection once its handshake is done; ``refused`` is told
    of handshakes that fail, not of peers that only leave or are silent for ``handshake`` seconds.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext,
        handshake: float,
        refused: Refused | None = None,
    ) -> None:
        self._listener = listener
        self._make = make
        self._tls = tls
        self._handshake = handshake
        self._refused = refused
        self._greetings: dict[asyncio.Task[None], None] = {}  # in order of arrival
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to accept, on the running event loop."""
        self._listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more, and end the handshakes under way; connections that stand live on."""
        for task in (self._accepting, *self._greetings):
            if task is not None:
                task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing is accepted any more."""
        tasks = [one for one in (self._accepting, *self._greetings) if one is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if len(self._greetings) >= _MOST_GREETINGS:
                oldest = next(iter(self._greetings))
                del self._greetings[oldest]
                oldest.cancel()
            task = loop.create_task(self._greet(connection, address[0]))
            self._greetings[task] = None
            task.add_done_callback(partial(self._greeted, connection))

    def _greeted(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._greetings.pop(task, None)
        if task.cancelled():  # perhaps before it had begun
            connection.close()

    async def _greet(self, connection: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        done = False
        try:
            await loop.connect_accepted_socket(
                self._make,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake,
                # A peer that does not answer a farewell holds its connection no longer either.
                ssl_shutdown_timeout=self._handshake,
            )
            done = True
        except ssl.SSLError as error:
            if self._refused is not None and not isinstance(error, ssl.SSLEOFError):
                self._refused(address, why(error))
        except OSError:
            pass  # gone, or silent
        finally:
            if not done:
                with contextlib.suppress(OSError):
                    connection.close()


async def start_streams(
    serve: Serve,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    handshake: float,
    refused: Refused | None = None,
) -> asyncio.Server | TlsListener:
    """``asyncio.start_server`` on ``listener``, with a ``TlsListener`` where there is TLS."""
    if tls is None:
        return await asyncio.start_server(serve, sock=listener)
    loop = asyncio.get_running_loop()

    def make() -> asyncio.BaseProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), serve, loop=loop)

    secure = TlsListener(listener, make, tls, handshake, refused)
    secure.start()
    return secure


async def stop_streams(server: asyncio.Server | TlsListener) -> None:
    """Accept no more; connections that stand live on."""
    server.close()
    if isinstance(server, TlsListener):  # the other would wait for its connections
        await server.wait_closed()


def peer_certificate(writer: asyncio.StreamWriter) -> bytes | None:
    """The certificate (DER) that a peer has shown; None without TLS."""
    secured = writer.get_extra_info("ssl_object")
    return secured.getpeercert(binary_form=True) if secured else None


def why(error: ssl.SSLError) -> str:
    """What was wrong with a handshake, in a few words."""
    # OpenSSL sets these; who judges a peer after it has neither.
    said = getattr(error, "verify_message", "") or getattr(error, "reason", "")
    return str(said or (error.args[-1] if error.args else "no TLS"))
