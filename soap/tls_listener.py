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
from typing import Any

Refused = Callable[[str, str], None]
"""Told the address of a peer that was refused, and why."""

# How long to wait when the system has no descriptors left for another connection.
_PAUSE_SECONDS = 0.1


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""Serves one connection."""


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
        self._greetings: set[asyncio.Task[None]] = set()
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
            task = loop.create_task(self._greet(connection, address[0]))
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        done = False
        try:
            await loop.connect_accepted_socket(
                self._make, connection, ssl=self._tls, ssl_handshake_timeout=self._handshake
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
    said = getattr(error, "verify_message", "") or error.reason
    return str(said or (error.args[-1] if error.args else "no TLS"))
