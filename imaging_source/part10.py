"""The head of a DICOM file as others write it (PS3.10 7.1), read while the file arrives.

Only what is needed to take the instance in is kept: we write a head of our own, so that an
instance has the same bytes whichever way it came. The preamble may be a program; it is let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imaging_source.elements import Elements, Encoding, Truncated, Unreadable
from imaging_source.header import is_uid
from imaging_source.index import Arrived
from imaging_source.intake import Arrival, Door, Refused, Status, refusal
from storage.errors import StorageError

# Meta information has some 300 bytes; private information may stand in it (0002,0102).
META_LIMIT_BYTES = 64 * 1024

_MAGIC_AT, _START = 128, 132
_GROUP_LENGTH = 0x00020000
# Media Storage SOP Class UID, Media Storage SOP Instance UID, Transfer Syntax UID.
_UIDS = (0x00020002, 0x00020003, 0x00020010)


@dataclass(frozen=True, slots=True)
class Meta:
    """What a head says, and where the data set begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    end: int


def read_meta(data: bytes) -> Meta:
    """The head at the beginning of ``data``.

    Raises Truncated when more bytes are needed, Unreadable for what is no DICOM file.
    """
    if len(data) < _START:
        raise Truncated("the file ends inside its head")
    if data[_MAGIC_AT:_START] != b"DICM":
        raise Unreadable("not a DICOM file (PS3.10)")
    elements = Elements(data, Encoding.EXPLICIT, _START, more=len(data) < META_LIMIT_BYTES)
    found = elements.find({_GROUP_LENGTH})
    if _GROUP_LENGTH not in found:
        raise Unreadable("no File Meta Information Group Length")
    start, end = found[_GROUP_LENGTH]
    end += int.from_bytes(data[start:end], "little")
    if end > META_LIMIT_BYTES:
        raise Unreadable("the meta information is too long")
    if end > len(data):
        raise Truncated("the file ends inside its head")
    found = Elements(data, Encoding.EXPLICIT, _START, end).find(_UIDS)
    values = {tag: data[slice(*span)].strip(b"\0 ") for tag, span in found.items()}
    uids = [values.get(tag, b"").decode("ascii", "replace") for tag in _UIDS]
    if not all(map(is_uid, uids)):
        raise Unreadable("the meta information lacks a UID")
    sop_class_uid, sop_instance_uid, transfer_syntax_uid = uids
    return Meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid, end)


class FileArrival:
    """A DICOM file that arrives in pieces and is taken in through ``door``."""

    def __init__(self, door: Door, sender: str) -> None:
        self._door = door
        self._sender = sender
        self._head = bytearray()
        self._arrival: Arrival | None = None
        self._refused: Refused | None = None
        self.meta: Meta | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes; once the file is refused they are let pass."""
        if self._refused is not None:
            return
        try:
            if self._arrival is not None:
                self._arrival.write(memoryview(data))
            else:
                self._begin(data)
        except Truncated:
            return
        except Unreadable as error:
            self._refuse(Status.CANNOT_UNDERSTAND, str(error))
        except StorageError:
            self._refuse(Status.OUT_OF_RESOURCES, "no resources to store the instance")

    def keep(self) -> Arrived:
        """Make the file durable, for ``Door.index``; ends the arrival. Raises Refused."""
        if self._refused is not None:
            raise self._refused
        if self._arrival is None:
            comment = "the file ends inside its head"
            raise refusal(Status.CANNOT_UNDERSTAND, comment, self._sender)
        return self._arrival.keep()

    def abort(self) -> None:
        """Forget the file."""
        if self._arrival is not None:
            self._arrival.abort()

    def _begin(self, data: bytes) -> None:
        self._head += data
        meta = read_meta(bytes(self._head))
        self.meta = meta
        self._arrival = self._door.begin(
            meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, self._sender
        )
        self._arrival.write(memoryview(self._head)[meta.end :])
        self._head = bytearray()

    def _refuse(self, status: Status, comment: str) -> None:
        self._refused = refusal(status, comment, self._sender)
        self._head = bytearray()
        self.abort()


def take_in(door: Door, path: Path, sender: str) -> Arrived:
    """A copy of a file on disk, durable, for ``Door.index``. Raises Refused, OSError."""
    arrival = FileArrival(door, sender)
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(1024 * 1024):
                arrival.write(piece)
        return arrival.keep()
    except BaseException:
        arrival.abort()
        raise
