"""The door of HTTP where proxies are believed who their client is (``security.forwarded``)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from node.wiring.nodes import NodeGuard, der_of
from security.forwarded import HEADERS, BadForward
from security.nodes import NodeRefused
from soap.asgi import Application, Receive, Scope, Send, certificate_of, peer_of, respond


@dataclass(frozen=True, slots=True)
class ProxyDoor:
    """Stands before all that is served by HTTP: behind it the certificate of a request is that of
    who asks. 400 for a header that nobody may send, 403 for a client who cannot be trusted, or who
    was revoked since he connected."""

    guard: NodeGuard
    application: Application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            self.guard.check_standing("http", certificate_of(scope), peer_of(scope))
        except NodeRefused as refused:
            await respond(send, 403, f"{refused}\n".encode())
            return
        if self.guard.proxies or any(name in HEADERS for name, _ in scope["headers"]):
            try:
                self._tell_apart(scope)
            except (BadForward, NodeRefused) as refused:
                self.guard.turned_away(peer_of(scope), str(refused))
                status = 400 if isinstance(refused, BadForward) else 403
                await respond(send, status, f"{refused}\n".encode())
                return
        await self.application(scope, receive, send)

    def _tell_apart(self, scope: Scope) -> None:
        """Put the certificate of who asks in the place of a proxy's."""
        shown = der_of(certificate_of(scope))
        client = self.guard.proxies.client(shown, scope["headers"])
        if client is not None and client != shown:
            # Not changed in place: the connection has other requests, of other clients.
            tls = {"client_cert_chain": [ssl.DER_cert_to_PEM_cert(client)]}
            scope["extensions"] = {**scope["extensions"], "tls": tls}
