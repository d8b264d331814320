"""The three words of ASGI 3 that the edge speaks, and a short answer of plain bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> str:
    """The first request header called ``name`` (lower case), or an empty text."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


def peer_of(scope: Scope) -> str:
    """The address of who asks, or an empty text."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def certificate_of(scope: Scope) -> str | None:
    """The certificate (PEM) of who asks, from the ASGI TLS extension; None where none is shown."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain")
    return chain[0] if chain else None


async def respond(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send one complete response; without a content type for one that has no body."""
    start: Headers = [(b"content-length", str(len(body)).encode("ascii")), *headers]
    if content_type:
        start.insert(0, (b"content-type", content_type.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
