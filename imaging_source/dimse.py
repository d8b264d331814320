"""DIMSE messages (PS3.7 6.3, 9.3, 10.3): commands read and written, PDUs around them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imaging_source.elements import Elements, Encoding, Unreadable

C_STORE_RQ = 0x0001
C_GET_RQ = 0x0010
C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_SET_RQ = 0x0120
N_ACTION_RQ = 0x0130
N_CREATE_RQ = 0x0140
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
_NO_DATA_SET = 0x0101
_DATA_SET = 0x0000

# A C-STORE command has some 200 bytes; nothing a requestor sends comes near this.
COMMAND_LIMIT_BYTES = 16 * 1024

SOP_CLASS_UID = 0x00000002
REQUESTED_SOP_CLASS_UID = 0x00000003
_COMMAND_FIELD = 0x00000100
MESSAGE_ID = 0x00000110
_RESPONDED_TO = 0x00000120
MOVE_DESTINATION = 0x00000600
PRIORITY = 0x00000700
MEDIUM = 0
_DATA_SET_TYPE = 0x00000800
STATUS = 0x00000900
_ERROR_COMMENT = 0x00000902
SOP_INSTANCE_UID = 0x00001000
REQUESTED_SOP_INSTANCE_UID = 0x00001001
EVENT_TYPE = 0x00001002
ACTION_TYPE = 0x00001008
_REMAINING, _COMPLETED, _FAILED, _WARNING = range(0x00001020, 0x00001024)
MOVE_ORIGINATOR = 0x00001030
MOVE_ORIGINATOR_MESSAGE_ID = 0x00001031
_WANTED = frozenset(
    {
        SOP_CLASS_UID,
        REQUESTED_SOP_CLASS_UID,
        _COMMAND_FIELD,
        MESSAGE_ID,
        _RESPONDED_TO,
        MOVE_DESTINATION,
        _DATA_SET_TYPE,
        STATUS,
        SOP_INSTANCE_UID,
        REQUESTED_SOP_INSTANCE_UID,
        EVENT_TYPE,
        ACTION_TYPE,
        _REMAINING,
        _COMPLETED,
        _FAILED,
        _WARNING,
    }
)

_ELEMENT = struct.Struct("<HHI")
_PDV = struct.Struct(">IBB")
_PDU = struct.Struct(">BBI")
_PDU_AND_PDV = struct.Struct(">BBIIBB")
_P_DATA = 0x04
_IS_COMMAND = 0x01
_IS_LAST = 0x02

# A PDU's Maximum Length counts what follows its head: the fragment and the fragment's head.
FRAGMENT_OVERHEAD_BYTES = _PDV.size


@dataclass(frozen=True, slots=True)
class Counts:
    """The sub-operations of a retrieval (PS3.7 9.1.3, 9.1.4); at most 65,535 can be told."""

    remaining: int
    completed: int
    failed: int
    warning: int


@dataclass(frozen=True, slots=True)
class Command:
    """The parts of a request, or of a response, that are acted on.

    ``kind`` is the event or action type of an N-EVENT-REPORT or N-ACTION, ``counts`` what a
    response to C-MOVE or C-GET tells of its sub-operations, if it does.
    """

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool
    responded_to: int = 0
    status: int = 0
    move_destination: str = ""
    kind: int = 0
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Fragment:
    """One presentation data value (PS3.8 9.3.5.1, E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


def read_fragments(content: memoryview) -> Iterator[Fragment]:
    """The fragments in a P-DATA-TF PDU; Unreadable if their lengths do not fill it."""
    position = 0
    while position < len(content):
        if position + _PDV.size > len(content):
            raise Unreadable("a P-DATA PDU ends inside the head of a fragment")
        length, context_id, control = _PDV.unpack_from(content, position)
        end = position + 4 + length
        if length < 2 or end > len(content):
            raise Unreadable(f"a fragment claims {length} bytes")
        data = content[position + _PDV.size : end]
        yield Fragment(context_id, bool(control & _IS_COMMAND), bool(control & _IS_LAST), data)
        position = end


def read_command(data: bytes) -> Command:
    """The command in a command set; Unreadable without Command Field or Message ID."""
    found = Elements(data, Encoding.IMPLICIT).find(_WANTED)

    def number(tag: int) -> int:
        return _number(data, found, tag) if tag in found else 0

    def counts() -> Counts | None:
        told = (_REMAINING, _COMPLETED, _FAILED, _WARNING)
        return Counts(*map(number, told)) if not found.keys().isdisjoint(told) else None

    def text(*tags: int) -> str:
        return next((value for tag in tags if (value := _text_at(data, found, tag))), "")

    return Command(
        field=_number(data, found, _COMMAND_FIELD),
        message_id=number(MESSAGE_ID),
        sop_class_uid=text(SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID),
        sop_instance_uid=text(SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID),
        has_data_set=_number(data, found, _DATA_SET_TYPE) != _NO_DATA_SET,
        responded_to=number(_RESPONDED_TO),
        status=number(STATUS),
        move_destination=text(MOVE_DESTINATION),
        kind=number(EVENT_TYPE) or number(ACTION_TYPE),
        counts=counts(),
    )


def write_response(
    context_id: int,
    request: Command,
    status: int,
    comment: str = "",
    *,
    counts: Counts | None = None,
    has_data_set: bool = False,
) -> bytes:
    """The P-DATA-TF PDU of a response to ``request``; it has fewer than 400 bytes."""
    body = b"".join(
        (
            text(SOP_CLASS_UID, request.sop_class_uid, b"\0"),
            number(_COMMAND_FIELD, request.field | RESPONSE),
            number(_RESPONDED_TO, request.message_id),
            number(_DATA_SET_TYPE, _DATA_SET if has_data_set else _NO_DATA_SET),
            number(STATUS, status),
            text(_ERROR_COMMENT, comment, b" "),
            text(SOP_INSTANCE_UID, request.sop_instance_uid, b"\0"),
            number(ACTION_TYPE, request.kind) if request.field == N_ACTION_RQ else b"",
            number(EVENT_TYPE, request.kind) if request.field == N_EVENT_REPORT_RQ else b"",
            b"" if counts is None else _counts(counts),
        )
    )
    return _command_pdu(context_id, body)


def write_request(
    context_id: int, field: int, elements: Iterable[tuple[int, str | int]], has_data_set: bool
) -> bytes:
    """The P-DATA-TF PDU of a request with these elements besides field and data set type."""
    values: list[tuple[int, str | int]] = [
        *elements,
        (_COMMAND_FIELD, field),
        (_DATA_SET_TYPE, _DATA_SET if has_data_set else _NO_DATA_SET),
    ]
    body = b"".join(
        number(tag, value) if isinstance(value, int) else text(tag, value, _padding(tag))
        for tag, value in sorted(values)
    )
    return _command_pdu(context_id, body)


def fragment_head(context_id: int, length: int, *, is_last: bool) -> bytes:
    """What stands before ``length`` bytes of a data set in a PDU of their own."""
    control = _IS_LAST if is_last else 0
    return _PDU_AND_PDV.pack(_P_DATA, 0, length + 6, length + 2, context_id, control)


def write_data_set(context_id: int, data: bytes, pdu_bytes: int) -> bytes:
    """The PDUs of a data set, none longer than the peer takes."""
    step = pdu_bytes - FRAGMENT_OVERHEAD_BYTES
    pieces = [data[start : start + step] for start in range(0, len(data), step)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        fragment_head(context_id, len(piece), is_last=number == last) + piece
        for number, piece in enumerate(pieces)
    )


def _command_pdu(context_id: int, body: bytes) -> bytes:
    command = _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + body
    fragment = _PDV.pack(len(command) + 2, context_id, _IS_COMMAND | _IS_LAST) + command
    return _PDU.pack(_P_DATA, 0, len(fragment)) + fragment


def _number(data: bytes, found: dict[int, tuple[int, int]], tag: int) -> int:
    start, stop = found.get(tag, (0, 0))
    if stop - start != 2:
        raise Unreadable(f"a command lacks ({tag >> 16:04X},{tag & 0xFFFF:04X})")
    return int.from_bytes(data[start:stop], "little")


def _text_at(data: bytes, found: dict[int, tuple[int, int]], tag: int) -> str:
    start, stop = found.get(tag, (0, 0))
    return data[start:stop].strip(b"\0 ").decode("ascii", "replace")


def _counts(counts: Counts) -> bytes:
    values = (
        (_REMAINING, counts.remaining),
        (_COMPLETED, counts.completed),
        (_FAILED, counts.failed),
        (_WARNING, counts.warning),
    )
    return b"".join(number(tag, min(value, 0xFFFF)) for tag, value in values)


def number(tag: int, value: int) -> bytes:
    """A US element."""
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, 2) + struct.pack("<H", value)


def text(tag: int, value: str, padding: bytes) -> bytes:
    """A text element, or nothing if there is no value."""
    encoded = value.encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += padding
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, len(encoded)) + encoded if encoded else b""


def _padding(tag: int) -> bytes:
    return b" " if tag in (MOVE_DESTINATION, MOVE_ORIGINATOR) else b"\0"
