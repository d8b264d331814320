"""The listener for reports of the process ``dicom``: MLLP on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import threading

from hl7.mllp import MllpServer

# What is under way is answered within this time; the process must stop within 30 s.
_GRACE_SECONDS = 10.0


class ReportListener:
    """An MLLP server beside threads; ``start`` once what it writes to is ready."""

    def __init__(self, server: MllpServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reports", daemon=True)

    def start(self) -> int:
        """Listen; the port. Raises OSError when it cannot be had."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        return self._server.port

    def stop(self) -> None:
        """Let what is under way be answered, and close; does nothing if it never started."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        asyncio.run_coroutine_threadsafe(self._server.stop(_GRACE_SECONDS), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
