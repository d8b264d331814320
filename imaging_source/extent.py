"""Whether a data set is all there: no element may reach beyond its end (PS3.5 7.1, A.4).

A copy that broke off is still a message that arrived whole: only the lengths in it tell. Zeros
behind the last element do no harm, as consumers see it too (``consumer.instance``); what is no
element is left to whoever looks into it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imaging_source.elements import Elements, Encoding, Truncated, Unreadable, encoding_of
from imaging_source.window import Readable

_LAST_TAG = 0xFFFFFFFF
_HEAD_BYTES = 12
_PIECE_BYTES = 16 * 1024  # serves all that stands between the header and the pixels
# An enhanced image of 10,000 frames has 400,000 elements; beyond that nobody's time is given.
_ELEMENT_LIMIT = 1_000_000


def prove_end(file: Readable, start: int, transfer_syntax_uid: str) -> None:
    """Raises Truncated where ``file`` ends inside an element of the data set in it, and OSError.

    ``start`` is where an element begins at the level of the data set.
    """
    elements = _Placed(b"", encoding_of(transfer_syntax_uid), start, file.size, file=file)
    reached, last = start, -1
    try:
        for tag, _, _, stop in elements.walk(_LAST_TAG):
            if tag <= last:  # no element, but padding
                return
            reached, last = stop, tag
    except Truncated:
        if file.at(reached, _HEAD_BYTES).strip(b"\0"):
            raise
    except Unreadable:
        return
    if reached > file.size:
        raise Truncated("the data set ends inside an element")


@dataclass
class _Placed(Elements):
    """Elements whose heads are read where they lie: all of ``data`` need not be in memory."""

    file: Readable = field(kw_only=True)
    base: int = 0
    """Where in the file ``data`` begins."""
    looked_at: int = 0

    def _head(self, position: int, encoding: Encoding) -> tuple[int, int, int, bool]:
        self.looked_at += 1
        if self.looked_at > _ELEMENT_LIMIT:
            raise Unreadable(f"more than {_ELEMENT_LIMIT} elements")
        if not self.base <= position <= self.base + len(self.data) - _HEAD_BYTES:
            self.data, self.base = self.file.at(position, _PIECE_BYTES), position
        base = self.base
        tag, start, stop, is_unknown = Elements._head(self, position - base, encoding)
        return tag, start + base, stop if stop < 0 else stop + base, is_unknown
