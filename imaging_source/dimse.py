"""DIMSE messages of a storage provider (PS3.7 6.3, 9.3): commands in, responses out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from imaging_source.elements import Elements, Encoding, Unreadable

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
_RESPONSE = 0x8000
_NO_DATA_SET = 0x0101

# A C-STORE command has some 200 bytes; nothing a requestor sends comes near this.
COMMAND_LIMIT_BYTES = 16 * 1024

_SOP_CLASS_UID = 0x00000002
_COMMAND_FIELD = 0x00000100
_MESSAGE_ID = 0x00000110
_RESPONDED_TO = 0x00000120
_DATA_SET_TYPE = 0x00000800
_STATUS = 0x00000900
_ERROR_COMMENT = 0x00000902
_SOP_INSTANCE_UID = 0x00001000
_WANTED = frozenset(
    {_SOP_CLASS_UID, _COMMAND_FIELD, _MESSAGE_ID, _DATA_SET_TYPE, _SOP_INSTANCE_UID}
)

_ELEMENT = struct.Struct("<HHI")
_PDV = struct.Struct(">IBB")
_PDU = struct.Struct(">BBI")
_P_DATA = 0x04
_IS_COMMAND = 0x01
_IS_LAST = 0x02


@dataclass(frozen=True, slots=True)
class Command:
    """The parts of a request that a storage provider acts on."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


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
    """The request in a command set; Unreadable without Command Field or Message ID."""
    found = Elements(data, Encoding.IMPLICIT).find(_WANTED)
    return Command(
        field=_number(data, found, _COMMAND_FIELD),
        message_id=_number(data, found, _MESSAGE_ID) if _MESSAGE_ID in found else 0,
        sop_class_uid=_uid(data, found, _SOP_CLASS_UID),
        sop_instance_uid=_uid(data, found, _SOP_INSTANCE_UID),
        has_data_set=_number(data, found, _DATA_SET_TYPE) != _NO_DATA_SET,
    )


def write_response(context_id: int, request: Command, status: int, comment: str = "") -> bytes:
    """The P-DATA-TF PDU that answers ``request``; it has fewer than 400 bytes."""
    body = b"".join(
        (
            _text(_SOP_CLASS_UID, request.sop_class_uid, b"\0"),
            _us(_COMMAND_FIELD, request.field | _RESPONSE),
            _us(_RESPONDED_TO, request.message_id),
            _us(_DATA_SET_TYPE, _NO_DATA_SET),
            _us(_STATUS, status),
            _text(_ERROR_COMMENT, comment, b" "),
            _text(_SOP_INSTANCE_UID, request.sop_instance_uid, b"\0"),
        )
    )
    command = _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + body
    fragment = _PDV.pack(len(command) + 2, context_id, _IS_COMMAND | _IS_LAST) + command
    return _PDU.pack(_P_DATA, 0, len(fragment)) + fragment


def _number(data: bytes, found: dict[int, tuple[int, int]], tag: int) -> int:
    start, stop = found.get(tag, (0, 0))
    if stop - start != 2:
        raise Unreadable(f"a command lacks ({tag >> 16:04X},{tag & 0xFFFF:04X})")
    return int.from_bytes(data[start:stop], "little")


def _uid(data: bytes, found: dict[int, tuple[int, int]], tag: int) -> str:
    start, stop = found.get(tag, (0, 0))
    return data[start:stop].strip(b"\0 ").decode("ascii", "replace")


def _us(tag: int, value: int) -> bytes:
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, 2) + struct.pack("<H", value)


def _text(tag: int, value: str, padding: bytes) -> bytes:
    """An element, or nothing if there is no value."""
    encoded = value.encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += padding
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, len(encoded)) + encoded if encoded else b""
