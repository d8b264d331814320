"""The admin port: ``/healthz``, ``/readyz`` and ``/metrics``.

Health says that the process answers; readiness that what it stands on answers too, each part
by name. There is no access control here: the port listens on this machine unless told otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog

from node import metrics

log = structlog.get_logger(__name__)

Check = Callable[[], object]
"""Returns if all is well and raises otherwise; may wait."""

# An orchestrator asks every few seconds and gives up after a few.
CHECK_SECONDS = 3.0

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Answer = tuple[int, str, bytes]


class Admin:
    """The ASGI application of the admin port; ``checks`` make up readiness."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, content_type, body = await self._answer(scope["path"])
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        content = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, path: str) -> Answer:
        match path:
            case "/healthz":
                return 200, "text/plain; charset=utf-8", b"ok\n"
            case "/readyz":
                return await self._readiness()
            case "/metrics":
                return 200, metrics.CONTENT_TYPE, metrics.exposition()
            case _:
                return 404, "text/plain; charset=utf-8", b"/healthz /readyz /metrics\n"

    async def _readiness(self) -> Answer:
        results = await asyncio.gather(*(self._run(name) for name in self._checks))
        found = dict(zip(self._checks, results, strict=True))
        ready = all(result == "ok" for result in found.values())
        body = json.dumps({"ready": ready, "checks": found}).encode() + b"\n"
        return 200 if ready else 503, "application/json", body

    async def _run(self, name: str) -> str:
        try:
            await asyncio.wait_for(asyncio.to_thread(self._checks[name]), CHECK_SECONDS)
        except Exception as error:
            log.warning("not ready", code="NODE-NOT-READY", check=name, exc_info=error)
            return type(error).__name__
        return "ok"
