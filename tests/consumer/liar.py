"""A WADO-RS server that lies in one way at a time, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOUNDARY = "b0"


@dataclass
class Answered:
    """What goes over the wire, as it is; ``cut`` closes the connection after so many bytes."""

    status: int = 200
    content_type: str = "application/dicom"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    endless: bool = False
    pause: threading.Event | None = None
    """Drip: the body comes byte by byte for as long as this is not set."""


@dataclass
class Liar:
    """Answers each request by ``answer``, which is told path and headers."""

    answer: Callable[[str, dict[str, str]], Answered]
    requests: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving(liar: Liar) -> Iterator[str]:
    """The base URL at which the liar answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            liar.requests.append(headers)
            answered = liar.answer(self.path, headers)
            self.send_response(answered.status)
            self.send_header("Content-Type", answered.content_type)
            if not answered.endless:
                self.send_header("Content-Length", str(len(answered.body)))
            for name, value in answered.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self._send(answered)
            except OSError:
                self.close_connection = True

        def _send(self, answered: Answered) -> None:
            self.wfile.write(answered.body[: answered.cut])
            while answered.endless:
                self.wfile.write(b"x" * (1 if answered.pause else 65536))
                if answered.pause is not None and answered.pause.wait(0.01):
                    break
            self.close_connection = answered.cut is not None or answered.endless

        def log_message(self, *_args: object) -> None:
            """Tests are silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def multipart(*bodies: bytes, boundary: str = BOUNDARY) -> bytes:
    """A multipart/related body of these parts."""
    parts = (
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (boundary.encode(), one)
        for one in bodies
    )
    return b"".join(parts) + b"--%s--\r\n" % boundary.encode()


def related(body: bytes) -> Answered:
    """A multipart/related answer."""
    media = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
    return Answered(content_type=media, body=body)
