"""A multipart body taken apart while it arrives (RFC 2046, 5.1): bytes in, events out.

A push parser without I/O. Parts are never held: their bytes come out as they come in, but
for the few that might begin a delimiter. Delimiters are found by one substring search,
measured at several GB/s, where a parser by lines reaches 19 MB/s.

Read with tolerance: a preamble, blank lines before the first delimiter, LF-only line ends
throughout, white space after a delimiter. Read exactly: in a message with CRLF line ends
only CRLF starts a delimiter, and a line that merely begins like one is content, so content
comes out byte for byte. Nested multiparts are not taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from soap.faults import MessageError

HEADER_LIMIT = 16 * 1024
"""Bytes of one part's headers, or of a preamble: what Jetty and Tomcat allow is 8 to 16 KiB."""

PADDING_LIMIT = 256
"""White space tolerated behind a delimiter; more makes the line content."""

BOUNDARY_LIMIT = 200
"""RFC 2046 allows 70 characters; some toolkits exceed it a little."""

_BLANK_LINE = re.compile(rb"(?:^|\n)[ \t]*\r?\n")
_LINE_REST = re.compile(rb"(--)?[ \t]*(\r\n|\n)?")
_SINGLE = ("content-id", "content-transfer-encoding", "content-type")


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part's headers; names in lower case."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete."""


Event = PartBegin | PartData | PartEnd
_END = PartEnd()


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Feed it the body in any pieces; it answers with the events they complete."""

    def __init__(self, boundary: str) -> None:
        if not boundary or len(boundary) > BOUNDARY_LIMIT:
            raise MessageError("the multipart boundary is missing or too long")
        try:
            self._dashed = b"--" + boundary.encode("latin-1")
        except UnicodeEncodeError as error:
            raise MessageError("the multipart boundary is not Latin-1") from error
        self._newline = b"\r\n"
        self._delimiter = b""  # known once the first delimiter shows the message's line ends
        self._state = _State.PREAMBLE
        self._buffer = b""
        self._lead = 0  # bytes at the buffer's start that end the headers: no content

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes; raises MessageError for a broken body."""
        self._buffer = self._buffer + data if self._buffer else data
        return self._run(final=False)

    def close(self) -> list[Event]:
        """The last events; raises MessageError unless the closing delimiter has come."""
        events = self._run(final=True)
        if self._state is not _State.EPILOGUE:
            raise MessageError("the multipart body ends before its closing delimiter")
        return events

    def _run(self, *, final: bool) -> list[Event]:
        events: list[Event] = []
        steps = {
            _State.PREAMBLE: self._preamble,
            _State.HEADERS: self._headers,
            _State.CONTENT: self._content,
            _State.EPILOGUE: self._epilogue,
        }
        while steps[self._state](events, final):
            pass
        return events

    # Each step returns whether another step may follow at once.

    def _preamble(self, _events: list[Event], final: bool) -> bool:
        found = self._buffer.find(self._dashed)
        while found >= 0:
            if found == 0 or self._buffer[found - 1 : found] == b"\n":
                line = self._line_after(found + len(self._dashed), final)
                if line is None:
                    return False
                closing, end = line
                if closing:
                    raise MessageError("the multipart body holds no part")
                if end:
                    return self._learn_line_ends(end)
            found = self._buffer.find(self._dashed, found + 1)
        if len(self._buffer) > HEADER_LIMIT:
            raise MessageError("no delimiter at the start of the multipart body")
        return False

    def _learn_line_ends(self, end: int) -> bool:
        if self._buffer[end - 2 : end] != b"\r\n":
            self._newline = b"\n"
        self._delimiter = self._newline + self._dashed
        self._buffer = self._buffer[end:]
        self._state = _State.HEADERS
        return True

    def _headers(self, events: list[Event], _final: bool) -> bool:
        blank = _BLANK_LINE.search(self._buffer, 0, HEADER_LIMIT)
        if blank is None:
            if len(self._buffer) >= HEADER_LIMIT:
                raise MessageError(f"a part's headers are larger than {HEADER_LIMIT} bytes")
            return False
        events.append(PartBegin(_parse_headers(self._buffer[: blank.start()])))
        # The line end of the blank line may itself begin the delimiter, when content is empty.
        self._lead = 2 if self._buffer[: blank.end()].endswith(b"\r\n") else 1
        self._buffer = self._buffer[blank.end() - self._lead :]
        self._state = _State.CONTENT
        return True

    def _content(self, events: list[Event], final: bool) -> bool:
        found = self._buffer.find(self._delimiter)
        while found >= 0:
            line = self._line_after(found + len(self._delimiter), final)
            if line is None:
                self._emit(events, found)
                return False
            closing, end = line
            if end:
                self._emit(events, found)
                events.append(_END)
                self._buffer = self._buffer[end - found :]
                self._state = _State.EPILOGUE if closing else _State.HEADERS
                return True
            found = self._buffer.find(self._delimiter, found + 1)
        self._emit(events, len(self._buffer) - len(self._delimiter) + 1)
        return False

    def _emit(self, events: list[Event], upto: int) -> None:
        """Give out the content before ``upto`` and keep the rest."""
        if upto > self._lead:
            events.append(PartData(self._buffer[self._lead : upto]))
        if upto > 0:
            self._buffer = self._buffer[upto:]
            self._lead = max(0, self._lead - upto)

    def _epilogue(self, _events: list[Event], _final: bool) -> bool:
        self._buffer = b""
        return False

    def _line_after(self, position: int, final: bool) -> tuple[bool, int] | None:
        """What follows the boundary: (closing, end of line), end 0 for mere content.

        None when that cannot be said before more bytes come.
        """
        rest = _LINE_REST.match(self._buffer, position)
        assert rest is not None  # every group is optional
        closing = rest[1] is not None
        if rest[2] is not None:
            return closing, rest.end()
        missing = len(self._buffer) - rest.end()
        undecided = missing == 0 or (missing == 1 and self._buffer[-1:] in (b"\r", b"-"))
        if undecided and rest.end() - position <= PADDING_LIMIT and not final:
            return None
        if closing and missing == 0 and final:
            return True, rest.end()
        return False, 0


def _parse_headers(block: bytes) -> dict[str, str]:
    """Header fields, folded lines joined (RFC 5322, 2.2.3)."""
    headers: dict[str, str] = {}
    text = re.sub(r"\r?\n[ \t]+", " ", block.decode("utf-8", "replace"))
    for line in filter(None, map(str.strip, text.split("\n"))):
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not name:
            raise MessageError("a part has a header line without a name")
        if name in headers and name in _SINGLE:
            raise MessageError(f"a part has two {name} headers")
        headers.setdefault(name, value.strip())
    return headers
