"""Audit messages as syslog carries them: RFC 5424, framed by RFC 5425 (ITI TF-2 3.20.4.1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Facility 10 (security), severity 5 (notice), or 4 (warning) when something failed.
_NOTICE, _WARNING = 85, 84
_MESSAGE_ID = "IHE+RFC-3881"

# A record of 32 KiB must be taken (ITI TF-2 3.20.4.1.2); a query of a megabyte is one in base64.
MOST_BYTES = 4 * 1024 * 1024
# The digits of that.
_LENGTH_DIGITS = 7

_HEADER = re.compile(
    rb"<\d{1,3}>[1-9]\d{0,2} (?P<at>\S+) (?P<host>\S+) (?P<application>\S+) \S+ \S+ "
    rb"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: (?P<message>.*))?",
    re.DOTALL,
)
_BOM = b"\xef\xbb\xbf"


class BadSyslog(ValueError):
    """Bytes that are no syslog message, or no frame."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: HOSTNAME, APP-NAME and PROCID of the header."""

    host: str
    application: str
    process_id: str

    def write(self, message: bytes, at: str, failed: bool) -> bytes:
        """The syslog message of an audit message; ``at`` is ISO 8601 with its offset."""
        priority = _WARNING if failed else _NOTICE
        words = (at, _word(self.host), _word(self.application), _word(self.process_id))
        return f"<{priority}>1 {' '.join(words)} {_MESSAGE_ID} - ".encode() + message


def _word(text: str) -> str:
    """A header's field: printable ASCII without blanks, "-" for none (RFC 5424 6)."""
    return "".join(one for one in text if "!" <= one <= "~")[:48] or "-"


def read(data: bytes) -> bytes:
    """The MSG of a syslog message, without a byte order mark. Raises BadSyslog."""
    match = _HEADER.fullmatch(data)
    if match is None:
        raise BadSyslog("not a message of RFC 5424")
    return (match["message"] or b"").removeprefix(_BOM)


def frame(message: bytes) -> bytes:
    """A message with its length before it (RFC 5425 4.3)."""
    return b"%d %b" % (len(message), message)


class Frames:
    """Takes a stream apart, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_within_one(self) -> bool:
        """Whether a message has begun that has not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now. Raises BadSyslog when the stream is not framed."""
        self._buffer += data
        while (message := self._take()) is not None:
            yield message

    def _take(self) -> bytes | None:
        digits, blank, _ = bytes(self._buffer[: _LENGTH_DIGITS + 1]).partition(b" ")
        if not self._buffer:
            return None
        if not digits.isdigit() or digits.startswith(b"0"):
            raise BadSyslog("no length before a message")
        if not blank:
            if len(digits) > _LENGTH_DIGITS:
                raise BadSyslog("a message without end")
            return None
        size, start = int(digits), len(digits) + 1
        if size > MOST_BYTES:
            raise BadSyslog(f"a message of more than {MOST_BYTES} bytes")
        if len(self._buffer) < start + size:
            return None
        message = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        return message
