"""Hostile and broken peers: each gets the protocol's own answer, and the others are served."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from sqlalchemy import select

from imaging_source.dimse import read_command, read_fragments, write_response
from imaging_source.elements import Unreadable
from imaging_source.guard import Doorman, Limits, PduReader, ProtocolError
from imaging_source.intake import Intake
from imaging_source.negotiation import Accepted, Rejection, Titles, negotiate
from imaging_source.receiver import Listening
from imaging_source.schema import INSTANCE
from storage.blobs import BlobStore
from storage.database import Database

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT, CLOSED = 2, 3, 4, 6, 7, 0
UNRECOGNIZED, UNEXPECTED, INVALID = 1, 2, 6

# Short enough for a test to wait for, long enough for a loaded machine to answer in.
IMPATIENT = Limits(associate_seconds=0.4, pdu_seconds=0.4, idle_seconds=0.4)

Connect = Callable[[int], Any]
Start = Callable[[Listening], int]
Send = Callable[..., list[int]]
Make = Callable[..., Dataset]


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBI", kind, 0, len(content) if length is None else length) + content


def pdv(context_id: int, control: int, data: bytes, length: int | None = None) -> bytes:
    size = len(data) + 2 if length is None else length
    return struct.pack(">IBB", size, context_id, control) + data


def element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def us(tag: int, value: int) -> bytes:
    return element(tag, struct.pack("<H", value))


def store_request(uid: bytes, sop_class: bytes = CT_IMAGE.encode(), field: int = 1) -> bytes:
    def even(value: bytes) -> bytes:
        return value + b"\0" * (len(value) % 2)

    body = b"".join(
        (
            element(0x0002, even(sop_class)),
            us(0x0100, field),
            us(0x0110, 7),
            us(0x0700, 0),
            us(0x0800, 1),
            element(0x1000, even(uid)),
        )
    )
    return element(0x0000, struct.pack("<I", len(body))) + body


def status_of(content: bytes) -> int:
    at = content.index(struct.pack("<HHI", 0, 0x0900, 2))
    return int(struct.unpack_from("<H", content, at + 8)[0])


@pytest.fixture
def associated(connect: Connect, port: int, association_request: bytes) -> Any:
    peer = connect(port)
    peer.send(association_request)
    assert peer.read_pdu()[0] == ASSOCIATE_AC
    return peer


def test_what_came_of_the_next_pdu_is_known_and_not_lost() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = PduReader(ours, Limits())
        reader.associated()
        first, second = pdu(P_DATA, b"first"), pdu(P_DATA, b"second")
        theirs.sendall(first + second[:4])
        assert bytes(reader.read()[1]) == b"first"
        assert reader.has_begun
        theirs.sendall(second[4:] + first)
        assert bytes(reader.read()[1]) == b"second"
        assert bytes(reader.read()[1]) == b"first"
        assert not reader.has_begun


def test_a_request_that_comes_again_gets_the_same_answer_unless_it_names_a_user(
    association_request: bytes,
) -> None:
    request = association_request[6:]
    identity = struct.pack(">BBHBBH6sH", 0x58, 0, 12, 4, 0, 6, b"secret", 0)
    at = request.rindex(struct.pack(">BBH", 0x50, 0, 19))
    by_a_user = request[:at] + struct.pack(">BBH", 0x50, 0, 19 + len(identity))
    by_a_user += request[at + 4 :] + identity

    def answer(content: bytes) -> Accepted:
        accepted = negotiate(memoryview(content), Titles(), 16384)
        assert isinstance(accepted, Accepted)
        return accepted

    assert answer(request) is answer(request)
    assert negotiate(memoryview(request), Titles(called="OTHER"), 16384) != answer(request)
    assert answer(by_a_user).assertion == b"secret"
    assert answer(by_a_user) is not answer(by_a_user)


def test_a_sender_that_waits_for_acknowledgements_of_tcp_gets_them_at_once(
    associated: Any,
) -> None:
    unknown = pdv(1, 3, store_request(b"1.2.3", field=0x0FF0))
    whole = pdu(P_DATA, unknown + pdv(1, 2, bytes(8)))
    seconds = []
    for _ in range(12):
        started = time.monotonic()
        for piece in (whole[:6], whole[6:12], whole[12:]):  # Nagle holds back all but the first
            associated.send(piece)
        assert status_of(associated.read_pdu()[1]) == 0x0211
        seconds.append(time.monotonic() - started)

    assert sorted(seconds)[3] < 0.03  # Linux lets an acknowledgement wait for 40 ms


def aborted_for(peer: Any) -> int:
    """The reason of the A-ABORT that the peer gets, before the connection is closed."""
    kind, content = peer.read_pdu()
    assert kind == ABORT
    assert content[2] == 2  # the service provider
    assert peer.read_pdu()[0] == CLOSED
    return int(content[3])


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (pdu(1, b"", 0xFFFFFFFF), INVALID),
        (pdu(1, b"", 256 * 1024 + 1), INVALID),
        (pdu(1, b""), INVALID),
        (pdu(1, b"\0\1" + bytes(70) + b"\x10\0\xff\xff"), INVALID),
        (pdu(0xFF, b"", 0xFFFFFFFF), UNRECOGNIZED),
        (b"GET / HTTP/1.1\r\n\r\n", UNRECOGNIZED),
        (pdu(4, b"x"), UNEXPECTED),
        (pdu(2, b"x"), UNEXPECTED),
        (pdu(5, bytes(4)), UNEXPECTED),
    ],
    ids=[
        "4 GB",
        "beyond the limit",
        "empty request",
        "broken items",
        "type 255",
        "HTTP",
        "data first",
        "an answer",
        "release first",
    ],
)
def test_what_is_no_association_request_is_aborted(
    connect: Connect, port: int, sent: bytes, reason: int
) -> None:
    peer = connect(port)
    peer.send(sent)

    assert aborted_for(peer) == reason


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (pdu(4, b"", 0xFFFFFFFF), INVALID),
        (pdu(4, b"", 1024 * 1024 + 1), INVALID),
        (pdu(5, b"", 5), INVALID),
        (pdu(8, b""), UNRECOGNIZED),
        (pdu(1, b"", 80), UNEXPECTED),
        (pdu(6, bytes(4)), UNEXPECTED),
        (pdu(4, pdv(1, 3, b"", 0xFFFFFFFF)), INVALID),
        (pdu(4, pdv(1, 3, b"x", 1)), INVALID),
        (pdu(4, b"\0\0"), INVALID),
        (pdu(4, pdv(99, 3, store_request(b"1.2"))), INVALID),
        (pdu(4, pdv(1, 2, b"data")), UNEXPECTED),
        (pdu(4, pdv(1, 3, b"no command")), INVALID),
        (pdu(4, pdv(1, 1, bytes(17 * 1024))), INVALID),
        (pdu(4, pdv(1, 3, store_request(b"1.2")) + pdv(1, 1, b"x")), UNEXPECTED),
    ],
    ids=[
        "4 GB",
        "beyond the limit",
        "long release",
        "type 8",
        "second request",
        "release answer",
        "fragment of 4 GB",
        "fragment too short",
        "fragment without head",
        "unknown context",
        "data before command",
        "garbage for a command",
        "endless command",
        "command inside data",
    ],
)
def test_a_broken_unit_aborts_the_association(associated: Any, sent: bytes, reason: int) -> None:
    associated.send(sent)

    assert aborted_for(associated) == reason


def test_a_thousand_presentation_contexts_are_refused(
    connect: Connect,
    port: int,
    encode_request: Callable[[list[tuple[str, list[str]]]], bytes],
) -> None:
    peer = connect(port)
    peer.send(encode_request([(CT_IMAGE, [EXPLICIT])] * 1000))

    assert aborted_for(peer) == INVALID


def test_an_item_of_an_unknown_type_is_ignored(
    port: int, connect: Callable[[int], Any], association_request: bytes
) -> None:
    unknown = struct.pack(">BBH", 0x5F, 0, 2) + b"xx"
    request = association_request + unknown  # in the last item, user information
    at = association_request.rindex(struct.pack(">BBH", 0x51, 0, 4)) - 4
    (length,) = struct.unpack_from(">H", request, at + 2)
    request = request[: at + 2] + struct.pack(">H", length + len(unknown)) + request[at + 4 :]
    request += unknown  # and after it
    peer = connect(port)
    peer.send(request[:2] + struct.pack(">I", len(request) - 6) + request[6:])

    kind, _ = peer.read_pdu()

    assert kind == ASSOCIATE_AC


def test_a_context_without_transfer_syntax_is_passed_over(
    port: int,
    connect: Callable[[int], Any],
    encode_request: Callable[[list[tuple[str, list[str]]]], bytes],
) -> None:
    peer = connect(port)
    peer.send(encode_request([(CT_IMAGE, []), (CT_IMAGE, [EXPLICIT])]))

    kind, content = peer.read_pdu()

    assert kind == ASSOCIATE_AC
    assert struct.pack(">BBHBBBB", 0x21, 0, 4 + 4 + len(EXPLICIT), 3, 0, 0, 0) in content


_FIXED = 74  # bytes before the items of an A-ASSOCIATE-RQ, the head of the PDU included


def test_a_context_without_abstract_syntax_is_an_invalid_parameter(
    connect: Connect, port: int, association_request: bytes
) -> None:
    at = association_request.index(b"\x30\0", _FIXED)
    (length,) = struct.unpack_from(">H", association_request, at + 2)
    syntax = struct.pack(">BBH", 0x40, 0, length)  # a second transfer syntax in its place
    peer = connect(port)
    peer.send(association_request[:at] + syntax + association_request[at + 4 :])

    assert aborted_for(peer) == INVALID


@pytest.mark.parametrize("uid", [b"1..2", b"1.2%", b"\xff\xfe", b"\0"])
def test_a_context_of_what_is_no_uid_is_rejected_without_a_word(
    connect: Connect, port: int, association_request: bytes, uid: bytes
) -> None:
    at = association_request.index(b"\x30\0", _FIXED) + 4
    peer = connect(port)
    peer.send(association_request[:at] + uid + association_request[at + len(uid) :])

    assert peer.read_pdu()[0] in (ASSOCIATE_AC, ABORT)  # pytest makes every warning an error


def test_the_longest_legal_request_is_answered(
    connect: Connect,
    port: int,
    encode_request: Callable[[list[tuple[str, list[str]]]], bytes],
) -> None:
    peer = connect(port)
    peer.send(encode_request([(CT_IMAGE, ALL_TRANSFER_SYNTAXES)] * 128))

    assert peer.read_pdu()[0] == ASSOCIATE_AC


@pytest.mark.parametrize("first", [b"", b"\1", b"\1\0\0\0", pdu(1, b"half", 200)])
def test_a_peer_that_never_asks_is_closed(
    start_receiver: Start, connect: Connect, first: bytes
) -> None:
    peer = connect(start_receiver(Listening(port=0, limits=IMPATIENT)))
    started = time.monotonic()
    peer.send(first)

    assert peer.is_closed()
    assert time.monotonic() - started < 5


def test_a_peer_that_drips_bytes_is_closed_all_the_same(
    start_receiver: Start, connect: Connect, association_request: bytes
) -> None:
    peer = connect(start_receiver(Listening(port=0, limits=IMPATIENT)))
    dripping = threading.Event()

    def drip() -> None:
        try:
            for byte in association_request:
                peer.send(bytes([byte]))
                if dripping.wait(0.05):
                    return
        except OSError:
            return  # closed on us, as it should be

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        assert peer.is_closed()
    finally:
        dripping.set()
        thread.join()


@pytest.mark.parametrize("then", [b"", b"\4", pdu(4, b"x" * 10, 1000)])
def test_a_silent_association_is_closed(
    start_receiver: Start, connect: Connect, association_request: bytes, then: bytes
) -> None:
    peer = connect(start_receiver(Listening(port=0, limits=IMPATIENT)))
    peer.send(association_request)
    assert peer.read_pdu()[0] == ASSOCIATE_AC
    peer.send(then)

    assert peer.is_closed()


def test_two_hundred_silent_sockets_do_not_keep_a_modality_out(
    start_receiver: Start, connect: Connect, send: Send, make_instance: Make
) -> None:
    limits = Limits(connections=16, connections_per_peer=16)
    port = start_receiver(Listening(port=0, limits=limits))
    silent = [connect(port) for _ in range(200)]

    assert send(port, make_instance()) == [0]
    assert silent[0].is_closed()


def test_established_associations_are_not_displaced_by_silent_ones(
    start_receiver: Start, connect: Connect, association_request: bytes
) -> None:
    port = start_receiver(Listening(port=0, limits=Limits(connections_per_peer=2)))
    peer = connect(port)
    peer.send(association_request)
    assert peer.read_pdu()[0] == ASSOCIATE_AC
    for _ in range(5):
        connect(port)

    peer.send(pdu(5, bytes(4)))
    assert peer.read_pdu()[0] == RELEASE_RP


def test_one_address_cannot_take_every_connection() -> None:
    class Connection:
        closed = False

        def shutdown(self, how: int) -> None:
            self.closed = True

    doorman = Doorman(Limits(connections=10, connections_per_peer=1))
    greedy, second, other = (Connection() for _ in range(3))
    with doorman.admit(greedy, "10.0.0.1") as first_in:  # type: ignore[arg-type]
        assert first_in
        assert doorman.associate(greedy)  # type: ignore[arg-type]
        with doorman.admit(second, "10.0.0.1") as second_in:  # type: ignore[arg-type]
            assert not second_in
        with doorman.admit(other, "10.0.0.2") as other_in:  # type: ignore[arg-type]
            assert other_in
    assert not greedy.closed


def test_a_request_for_something_else_than_storage_is_answered_so(associated: Any) -> None:
    associated.send(pdu(4, pdv(1, 3, store_request(b"1.2", field=0x0020))))
    associated.send(pdu(4, pdv(1, 2, b"an identifier")))

    kind, content = associated.read_pdu()
    assert (kind, status_of(content)) == (P_DATA, 0x0211)


@pytest.mark.parametrize("uid", [b"../../../../x", b"1.2/3", b"", b"1" * 65, b"1.2\xff"])
def test_a_uid_that_is_none_is_refused_and_the_association_goes_on(
    associated: Any, intake: Intake, uid: bytes
) -> None:
    for _ in range(2):
        associated.send(pdu(4, pdv(1, 3, store_request(uid)) + pdv(1, 2, b"data")))
        kind, content = associated.read_pdu()
        assert (kind, status_of(content)) == (P_DATA, 0x0117)

    stored = [path for path in intake.blobs.root.rglob("*") if path.is_file()]
    assert stored == []


def test_a_sop_class_of_another_context_is_refused(associated: Any) -> None:
    request = store_request(b"1.2.3", sop_class=b"1.2.840.10008.5.1.4.1.1.4")
    associated.send(pdu(4, pdv(1, 3, request) + pdv(1, 2, b"data")))

    kind, content = associated.read_pdu()
    assert (kind, status_of(content)) == (P_DATA, 0x0122)


def test_a_data_set_that_cannot_be_read_is_refused_and_nothing_is_stored(
    associated: Any, blobs: BlobStore, database: Database
) -> None:
    associated.send(pdu(4, pdv(1, 3, store_request(b"1.2.3")) + pdv(1, 2, b"garbage")))

    kind, content = associated.read_pdu()
    assert (kind, status_of(content)) == (P_DATA, 0xC000)
    assert [path for path in blobs.root.rglob("*") if path.is_file()] == []
    with database.read() as connection:
        assert connection.execute(select(INSTANCE)).all() == []


def test_a_full_disk_is_told_as_a_shortage_of_resources(associated: Any, blobs: BlobStore) -> None:
    for _ in range(2):  # from the second on the store takes no more bytes
        blobs.sync_failed()
    associated.send(pdu(4, pdv(1, 3, store_request(b"1.2.3")) + pdv(1, 2, b"data")))

    kind, content = associated.read_pdu()
    assert (kind, status_of(content)) == (P_DATA, 0xA700)


def test_a_transfer_cut_in_the_middle_leaves_no_file(
    connect: Connect,
    start_receiver: Start,
    association_request: bytes,
    blobs: BlobStore,
    intake: Intake,
) -> None:
    port = start_receiver(Listening(port=0, limits=IMPATIENT))
    peer = connect(port)
    peer.send(association_request)
    assert peer.read_pdu()[0] == ASSOCIATE_AC
    peer.send(pdu(4, pdv(1, 3, store_request(b"1.2.3")) + pdv(1, 0, b"half of it")))
    peer.send(pdu(4, b"x" * 10, 1000))

    assert peer.is_closed()  # by then the association has ended and tidied up
    assert [path for path in blobs.root.rglob("*") if path.is_file()] == []


def test_fragments_of_one_byte_make_the_same_instance(
    associated: Any,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
    database: Database,
) -> None:
    instance = make_instance()
    command, data = store_request(instance.SOPInstanceUID.encode()), encode(instance)
    for n, byte in enumerate(command):
        associated.send(pdu(4, pdv(1, 3 if n == len(command) - 1 else 1, bytes([byte]))))
    associated.send(pdu(4, b"".join(pdv(1, 0, bytes([byte])) for byte in data) + pdv(1, 2, b"")))

    kind, content = associated.read_pdu()
    assert (kind, status_of(content)) == (P_DATA, 0)
    with database.read() as connection:
        (row,) = connection.execute(select(INSTANCE)).mappings()
    assert row["sop_instance_uid"] == instance.SOPInstanceUID


def test_an_abort_is_taken_without_an_answer(associated: Any) -> None:
    associated.send(pdu(7, bytes(4)))

    assert associated.is_closed()


@settings(max_examples=200)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_fragments_or_unreadable(content: bytes) -> None:
    try:
        fragments = list(read_fragments(memoryview(content)))
    except Unreadable:
        return
    assert sum(len(one.data) + 6 for one in fragments) == len(content)


@settings(max_examples=200)
@given(
    content=st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda tail: b"\0\1" + bytes(66) + tail)
)
def test_any_bytes_are_an_association_request_or_a_protocol_error(content: bytes) -> None:
    try:
        answer = negotiate(memoryview(content), Titles(any_called=True), 16384)
    except ProtocolError:
        return
    assert isinstance(answer, Accepted | Rejection)


@given(uid=st.from_regex(r"[0-9.]{1,64}", fullmatch=True), status=st.integers(0, 0xFFFF))
def test_a_response_answers_its_request(uid: str, status: int) -> None:
    request = read_command(store_request(uid.encode()))
    assert (request.field, request.message_id, request.sop_instance_uid) == (1, 7, uid)

    response = write_response(5, request, status, "why")

    (fragment,) = read_fragments(memoryview(response)[6:])
    assert (fragment.context_id, fragment.is_command, fragment.is_last) == (5, True, True)
    assert status_of(bytes(fragment.data)) == status
    assert len(response) < 400
