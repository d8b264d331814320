"""The DICOM line: PDUs through the guard, association requests, fragments, commands."""

import socket
import struct
from contextlib import closing, suppress

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification
from pynetdicom.pdu_primitives import MaximumLengthNotification as MaximumLength
from pynetdicom.presentation import build_context

from imaging_source.dimse import read_command, read_fragments
from imaging_source.elements import Unreadable
from imaging_source.guard import Limits, PduReader, PduType, PeerGone, ProtocolError
from imaging_source.negotiation import Titles, negotiate
from tests.fuzz.target import Target

_LIMITS = Limits(pdu_bytes=4096, associate_bytes=4096)
_TITLES = Titles(any_called=True)


def read(data: bytes) -> None:
    """Read PDUs until the guard or the peer ends it, each as the association would."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(data[:65536])
        theirs.shutdown(socket.SHUT_WR)
        reader = PduReader(ours, _LIMITS)
        _, content = reader.read()
        negotiate(content, _TITLES, 4096)
        reader.associated()
        with suppress(PeerGone):  # all is read
            while True:
                kind, content = reader.read()
                if kind == PduType.P_DATA:
                    for fragment in read_fragments(content):
                        read_command(bytes(fragment.data))


def seeds() -> list[bytes]:
    """A request for an association, alone and with a C-ECHO and a C-STORE after it."""
    asked = _request()
    echo, store = _command(0x30, b"1.2.840.10008.1.1\0"), _command(0x01, b"1.2.840.10008.5.1\0")
    return [asked, asked + echo + struct.pack(">BxI4x", 5, 4), asked + store]


def _request() -> bytes:
    wanted = A_ASSOCIATE()
    wanted.application_context_name = "1.2.840.10008.3.1.1.1"
    wanted.calling_ae_title, wanted.called_ae_title = "A", "KOSMOS"
    length, implementation = MaximumLength(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    wanted.user_information = [length, implementation]
    contexts = [build_context("1.2.840.10008.1.1"), build_context("1.2.840.10008.5.1.4.1.1.2")]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    wanted.presentation_context_definition_list = contexts
    request = A_ASSOCIATE_RQ()
    request.from_primitive(wanted)
    return bytes(request.encode())


def _command(field: int, sop_class: bytes) -> bytes:
    elements = (
        (0x0002, sop_class),
        (0x0100, struct.pack("<H", field)),
        (0x0110, b"\1\0"),
        (0x0800, b"\1\1"),
        (0x1000, b"1.2.3\0"),
    )
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements)
    command = struct.pack("<HHII", 0, 0, 4, len(body)) + body
    return struct.pack(">BxIIBB", 4, len(command) + 6, len(command) + 2, 1, 3) + command


TARGET = Target("association", read, (PeerGone, ProtocolError, Unreadable), seeds, 10_000)
