"""An imaging source that lies in one way: RAD-69 over real HTTP, at a port of this machine.

It answers every request with the whole study, as its lie has it, and knows nothing of what was
asked beyond the message id. For judging consumers (``conformance.consumers``).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from conformance.images import part10
from metadata.catalogue import RegistryError
from metadata.datatypes import new_oid
from metadata.identifiers import ERROR, SUCCESS
from soap import mtom
from soap.envelope import write_response
from soap.message import InMemory
from transactions.iti_43 import DocumentRequest, RetrievedDocument, RetrieveDocumentSetResponse
from transactions.rad_69 import RAD_69

DICOM = "application/dicom"
_MESSAGE_ID = re.compile(rb"MessageID[^>]*>([^<]+)<")

Documents = Sequence[tuple[str, bytes]]
"""DICOM files by the SOP Instance UID under which they are handed over."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes over the wire as it is; ``cut`` closes the connection after so many bytes."""

    content_type: str
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class Lie:
    """One way to lie: about the documents, with errors beside them, or on the wire."""

    documents: Callable[[Documents], Documents] = lambda documents: documents
    errors: tuple[RegistryError, ...] = ()
    reply: Callable[[Reply], Reply] = lambda reply: reply


@contextmanager
def imaging_source(repository: str, documents: Documents, lie: Lie) -> Iterator[str]:
    """Serve meanwhile; yields the URL. ``repository`` is the source's repositoryUniqueId."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = self._body()
            reply = lie.reply(_answer(request, repository, lie.documents(documents), lie.errors))
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # a consumer that has heard enough
                self.wfile.write(reply.body[: reply.cut])

        def _body(self) -> bytes:
            if length := self.headers.get("Content-Length"):
                return self.rfile.read(int(length))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            return b"".join(pieces)

        def log_message(self, format: str, *args: object) -> None:
            """The kit tells what it saw in its report."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/imaging"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(
    request: bytes, repository: str, documents: Documents, errors: tuple[RegistryError, ...]
) -> Reply:
    handed = tuple(
        RetrievedDocument(DocumentRequest(repository, uid), DICOM, InMemory(file))
        for uid, file in documents
    )
    outgoing = RAD_69.write_response(RetrieveDocumentSetResponse(SUCCESS, errors, handed))
    named = _MESSAGE_ID.search(request)
    action = RAD_69.response_action
    relates_to = named[1].decode() if named else None
    envelope = write_response(list(outgoing.body), action=action, relates_to=relates_to)
    package = mtom.package(list(envelope), list(outgoing.parts), action=action)
    return Reply(package.content_type, b"".join(package.chunks()))


def _another_boundary(reply: Reply) -> Reply:
    return replace(reply, content_type=reply.content_type.replace("MIMEBoundary_", "Other_"))


def _elsewhere(reply: Reply) -> Reply:
    # Port 9 (discard) answers nothing: whoever goes there comes back with nothing.
    return replace(reply, status=307, body=b"", headers={"Location": "http://127.0.0.1:9/"})


def _truncated(documents: Documents) -> Documents:
    (uid, file), *others = documents
    return [(uid, file[:-64]), *others]


def _exchanged(documents: Documents) -> Documents:
    (uid, _), (other, file), *others = documents
    return [(uid, file), (other, file), *others]


def _saying(change: Callable[[FileDataset], None]) -> Callable[[Documents], Documents]:
    """The first file says something else of itself."""

    def alter(documents: Documents) -> Documents:
        (uid, file), *others = documents
        image = dcmread(BytesIO(file))
        change(image)
        return [(uid, part10(image)), *others]

    return alter


def _other_study(image: FileDataset) -> None:
    image.StudyInstanceUID = new_oid()


def _other_syntax(image: FileDataset) -> None:
    image.file_meta.TransferSyntaxUID = UID(NOBODYS_SYNTAX)


NOBODYS_SYNTAX = "2.25.404"
NOT_THERE = RegistryError("XDSDocumentUniqueIdError", "not available", ERROR, "")

HONEST = Lie()

LIES = {
    "fewer": Lie(lambda documents: documents[:-1]),
    "none": Lie(lambda documents: []),
    "errors": Lie(lambda documents: documents[:-1], errors=(NOT_THERE,)),
    "twice": Lie(lambda documents: [documents[0], *documents[:-1]]),
    "truncated": Lie(_truncated),
    "exchanged": Lie(_exchanged),
    "study": Lie(_saying(_other_study)),
    "syntax": Lie(_saying(_other_syntax)),
    "broken-off": Lie(reply=lambda reply: replace(reply, cut=len(reply.body) // 2)),
    "boundary": Lie(reply=_another_boundary),
    "redirect": Lie(reply=_elsewhere),
}
"""Every way in which this source lies, by its name."""
