"""An imaging source that lies in one way over the web, in real HTTP: WADO-RS (PS3.18 10.4, RAD-107)
and WADO-URI (PS3.18 9, RAD-55).

It answers for studies, series and instances, in parts or, where only that is asked for, in one. A
lie is about one instance of the study: its file, or what goes over the wire when it is among what
was asked for. For judging consumers (``conformance.consumers``).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from pydicom.dataset import FileDataset

from conformance.images import part10
from conformance.liar import LIES, Documents, Reply
from soap.media import MULTIPART

DICOM = "application/dicom"
URI_PATH = "/wado"
_PARAMETERS = {"studyUID": "studies", "seriesUID": "series", "objectUID": "instances"}
NOTHING = Reply("text/plain", b"there is no such instance", 404)
LOGIN = b"<!doctype html><title>Sign in</title><p>Please sign in.</p>"
# Bytes of an endless body at once, and seconds between two bytes of a slow one.
PIECE, PAUSE = 64 * 1024, 0.05


def _same(documents: Documents) -> Documents:
    return documents


def _truly(reply: Reply) -> Reply:
    return reply


@dataclass(frozen=True, slots=True)
class WebLie:
    """One way to lie: about the files, or on the wire when the first image is asked for.

    ``goes_on`` is sent behind the body again and again, ``pause`` seconds apart.
    """

    documents: Callable[[Documents], Documents] = _same
    reply: Callable[[Reply], Reply] = _truly
    goes_on: bytes = b""
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image stands."""

    study: str
    series: str
    instance: str

    def is_in(self, path: Mapping[str, str]) -> bool:
        own = {"studies": self.study, "series": self.series, "instances": self.instance}
        return all(own.get(level) == uid for level, uid in path.items())


@dataclass
class _Holdings:
    """The images of the study as the lie has them."""

    images: Sequence[FileDataset]
    lie: WebLie
    stopping: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, accept: str) -> tuple[Reply, bool]:
        """The reply, and whether the lie goes on behind it."""
        wanted = _levels(path)
        if urlsplit(path).path == URI_PATH:
            accept = DICOM
        files = dict(
            self.lie.documents([(str(one.SOPInstanceUID), part10(one)) for one in self.images])
        )
        named = [place.instance for place in self._places() if wanted and place.is_in(wanted)]
        if not named:
            return NOTHING, False
        reply = _reply([files[one] for one in named if one in files], accept)
        lies = str(self.images[0].SOPInstanceUID) in named
        return (self.lie.reply(reply) if lies else reply), lies

    def _places(self) -> Iterator[_Place]:
        for one in self.images:
            yield _Place(
                str(one.StudyInstanceUID), str(one.SeriesInstanceUID), str(one.SOPInstanceUID)
            )


def _levels(path: str) -> dict[str, str]:
    """The UIDs in a path, by level; none of them for a path of another kind."""
    parts = urlsplit(path)
    if parts.path == URI_PATH:
        asked = dict(parse_qsl(parts.query))
        levels = {level: asked.get(name, "") for name, level in _PARAMETERS.items()}
        return levels if asked.get("requestType") == "WADO" else {}
    words = parts.path.strip("/").split("/")[1:]  # behind the base
    levels = dict(zip(words[::2], words[1::2], strict=False))
    return levels if levels.keys() <= {"studies", "series", "instances"} else {}


def _reply(files: Sequence[bytes], accept: str) -> Reply:
    single = accept.strip().startswith(DICOM) and MULTIPART not in accept
    if single and len(files) == 1:
        return Reply(DICOM, files[0])
    boundary = f"kit_{uuid.uuid4().hex}"
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode() + file + b"\r\n" for file in files
    )
    content_type = f'{MULTIPART}; type="{DICOM}"; boundary={boundary}'
    return Reply(content_type, body + f"--{boundary}--\r\n".encode())


@contextmanager
def web_source(images: Sequence[FileDataset], lie: WebLie) -> Iterator[str]:
    """Serve meanwhile; yields the URL below which DICOMweb is at ``/dicomweb``, WADO-URI at
    ``/wado``."""
    holdings = _Holdings(images, lie)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply, lies = holdings.answer(self.path, self.headers.get("Accept", ""))
            goes_on = lie.goes_on if lies else b""
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            if not goes_on:
                self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # a consumer that has heard enough
                self.wfile.write(reply.body[: reply.cut])
                while goes_on and not holdings.stopping.wait(lie.pause):
                    self.wfile.write(goes_on)

        def log_message(self, format: str, *args: object) -> None:
            """The kit tells what it saw in its report."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        holdings.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _another_boundary(reply: Reply) -> Reply:
    """Parts behind another boundary than the one that is named; of one part, no DICOM."""
    if MULTIPART in reply.content_type:
        return replace(reply, content_type=reply.content_type.replace("kit_", "other_"))
    return replace(reply, body=b"--other\r\n" + reply.body)


def _never_ending(reply: Reply) -> Reply:
    """Without its end, so that what is behind it belongs to it."""
    return replace(reply, body=reply.body[: len(reply.body) // 2])


HONEST_WEB = WebLie()

WEB_LIES = {
    "missing": WebLie(reply=lambda reply: NOTHING),
    "empty": WebLie(reply=lambda reply: _reply([], "")),
    "truncated": WebLie(LIES["truncated"].documents),
    "exchanged": WebLie(LIES["exchanged"].documents),
    "study": WebLie(LIES["study"].documents),
    "syntax": WebLie(LIES["syntax"].documents),
    "broken-off": WebLie(reply=lambda reply: replace(reply, cut=len(reply.body) // 2)),
    "boundary": WebLie(reply=_another_boundary),
    "redirect": WebLie(reply=LIES["redirect"].reply),
    "page": WebLie(reply=lambda reply: Reply("text/html", LOGIN)),
    "endless": WebLie(reply=_never_ending, goes_on=b"\0" * PIECE),
    "slow": WebLie(reply=_never_ending, goes_on=b"\0", pause=PAUSE),
}
"""Every way in which this source lies, by its name."""

URI_LIES = {name: lie for name, lie in WEB_LIES.items() if name not in ("empty", "boundary")}
"""Those that WADO-URI can tell, whose answers have no parts."""
