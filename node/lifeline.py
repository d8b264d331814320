"""What ties a process of the node to its supervisor: one socket pair.

The child says once that it is ready and where it listens. The end of the line means that the
other side is gone: a child whose supervisor was killed stops by itself, so that no listener is
left behind.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from threading import Thread

Listeners = dict[str, int]
"""Name of a listener (``http``, ``admin``, ``mllp``, ``mllps``, ``dicom``, ``reports``) -> port."""


class Lifeline:
    """The child's end, a socket that it was given."""

    def __init__(self, line: socket.socket) -> None:
        self._socket = line

    def ready(self, listeners: Mapping[str, int]) -> None:
        """Tell the supervisor that every listener accepts."""
        self._socket.sendall(json.dumps(dict(listeners)).encode() + b"\n")

    def when_cut(self, stop: Callable[[], object]) -> None:
        """Call ``stop``, from a thread of its own, once the supervisor is gone."""

        def watch() -> None:
            # The supervisor never sends: whatever returns, the line has ended.
            try:
                self._socket.recv(1)
            except OSError:
                pass
            finally:
                stop()

        Thread(target=watch, name="lifeline", daemon=True).start()
