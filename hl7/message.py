"""HL7 v2 messages: fast access by path, and a small builder.

Covers the encoding rules of HL7 2.3.1 chapter 2 as ITI TF-2 C.2 uses them. Nothing is
parsed before it is asked for: a message is split into segments, a segment into fields when
one of them is read. It knows no message structures: which segments must be there is the
business of whoever reads the message (``hl7.adt``).

A path is ``SEGMENT[n]-FIELD[r].COMPONENT.SUBCOMPONENT``, all counted from 1:
``message["PID-3.4.2"]`` is the universal id of the first identifier's assigning authority,
``message["PID-3[2].1"]`` the second identifier. What is left out is the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from hl7.charset import CODECS, decode
from hl7.errors import DATA_TYPE, SEGMENT_SEQUENCE, InvalidMessage
from hl7.escapes import STANDARD, Delimiters, escape, read_delimiters, unescape

_TEXTS = ("OBX", "NTE")  # segments in which a repetition may be a line of text
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_PATH = re.compile(
    r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?"
    r"(?:-(\d+)(?:\[(\d+)\])?(?:\.(\d+)(?:\.(\d+))?)?)?\Z"
)


class Limits(NamedTuple):
    """How large a message may be.

    An ADT is a few kilobytes; the defaults leave room for messages with embedded reports
    without letting one peer fill the memory, or the time: each repetition is found by counting
    from the first. The lines of a text may be as many as they are.
    """

    size: int = 4 * 1024 * 1024
    segments: int = 5_000
    fields: int = 500
    repetitions: int = 1_000


DEFAULT_LIMITS = Limits()


class Path(NamedTuple):
    """A parsed path; ``field`` 0 means the whole segment."""

    segment: str
    occurrence: int
    field: int
    repetition: int
    component: int
    subcomponent: int


@lru_cache(maxsize=1024)
def parse_path(path: str) -> Path:
    """Read ``SEG[n]-F[r].C.S``; raises ValueError for anything else (a programmer's error)."""
    found = _PATH.match(path)
    if not found:
        raise ValueError(f"not an HL7 path: {path!r}; expected e.g. PID-3[2].4.1")
    occurrence, field, repetition, component, subcomponent = (
        int(part) if part else default
        for part, default in zip(found.groups()[1:], (1, 0, 1, 1, 1), strict=True)
    )
    return Path(found[1], occurrence, field, repetition, component, subcomponent)


class Message:
    """One HL7 v2 message, read only.

    ``delimiters`` are those of MSH-1 and MSH-2, ``codec`` the Python codec its text was read
    with, ``segments`` its segments as they came, without their ends.
    """

    __slots__ = ("_fields", "codec", "delimiters", "segments")

    def __init__(self, segments: list[str], delimiters: Delimiters, codec: str) -> None:
        self.segments = segments
        self.delimiters = delimiters
        self.codec = codec
        self._fields: dict[tuple[str, int], list[str]] = {}

    @classmethod
    def read(
        cls, data: bytes, *, limits: Limits = DEFAULT_LIMITS, default_charset: str = "utf-8"
    ) -> Message:
        """Read a message without its MLLP framing.

        Segments end in CR; LF and CR LF are tolerated, as are blank lines and a UTF-8 byte
        order mark. ``default_charset`` is the Python codec for senders that leave MSH-18
        empty. Raises InvalidMessage.
        """
        if len(data) > limits.size:
            raise InvalidMessage(DATA_TYPE, f"message larger than {limits.size} bytes")
        data = _normalised(data)
        delimiters, declared = _header(data)
        text, codec = decode(data, declared, default_charset)
        segments = text.split("\r")
        _check(segments, text, delimiters, limits)
        return cls(segments, delimiters, codec)

    @classmethod
    def read_header(cls, data: bytes) -> Message:
        """The MSH segment alone, for answering a message whose rest cannot be read.

        Raises InvalidMessage when not even that is there.
        """
        header = _normalised(data[: DEFAULT_LIMITS.size]).partition(b"\r")[0]
        delimiters, _ = _header(header)
        text, codec = decode(header, "", "utf-8")
        _check([text], text, delimiters, DEFAULT_LIMITS)
        return cls([text], delimiters, codec)

    def __getitem__(self, path: str) -> str:
        """The value at ``path``, unescaped; empty when it is absent."""
        text = self.raw(path)
        if self.delimiters[3] in text:
            return unescape(text, self.delimiters, self.codec)
        return text

    def raw(self, path: str) -> str:
        """The text at ``path`` as it came, escapes included; empty when it is absent."""
        segment, occurrence, number, repetition, component, subcomponent = parse_path(path)
        fields = self._fields.get((segment, occurrence)) or self._split(segment, occurrence)
        text = fields[number] if number < len(fields) else ""
        if number <= 2 and segment == "MSH":
            return text  # the delimiters themselves cannot be split by them
        _, component_mark, repetition_mark, _, subcomponent_mark = self.delimiters
        if repetition > 1 or repetition_mark in text:
            text = _nth(text, repetition_mark, repetition)
        if component > 1 or component_mark in text:
            text = _nth(text, component_mark, component)
        if subcomponent > 1 or subcomponent_mark in text:
            text = _nth(text, subcomponent_mark, subcomponent)
        return text

    def field(self, segment: str, number: int, occurrence: int = 1) -> str:
        """A whole field as it came, with all its repetitions; empty when it is absent."""
        fields = self._fields.get((segment, occurrence)) or self._split(segment, occurrence)
        return fields[number] if number < len(fields) else ""

    def count(self, path: str) -> int:
        """How often a segment (``PID``) or a field (``PID-3``) is there.

        An empty field counts 0; an empty repetition between others counts.
        """
        where = parse_path(path)
        if where.field:
            text = self.field(where.segment, where.field, where.occurrence)
            return text.count(self.delimiters.repetition) + 1 if text else 0
        return sum(line[:3] == where.segment for line in self.segments)

    def _split(self, segment: str, occurrence: int) -> list[str]:
        """The fields of a segment, its name first; none when it is absent. Remembered."""
        wanted = occurrence
        for line in self.segments:
            if line[:3] == segment:
                wanted -= 1
                if not wanted:
                    fields = line.split(self.delimiters[0])
                    if segment == "MSH":  # MSH-1 is the separator itself
                        fields.insert(1, self.delimiters[0])
                    self._fields[segment, occurrence] = fields
                    return fields
        return []


def _nth(text: str, separator: str, number: int) -> str:
    """The ``number``-th part of ``text``, counted from 1."""
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


def _normalised(data: bytes) -> bytes:
    """``data`` with one CR between its segments, and nothing before or after them."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\r")
    if data[:3] != b"MSH":
        data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r")
    data = data.rstrip(b"\r")
    if b"\r\r" in data:
        data = b"\r".join(line for line in data.split(b"\r") if line)
    return data


def _header(data: bytes) -> tuple[Delimiters, str]:
    """Delimiters and MSH-18 of a message."""
    header = data.partition(b"\r")[0]
    if header[:3] != b"MSH" or len(header) < 5:
        raise InvalidMessage(SEGMENT_SEQUENCE, "a message begins with an MSH segment", "MSH")
    separator = header[3:4]
    fields = header.split(separator, 18)
    delimiters = read_delimiters(separator, fields[1])
    if len(fields) < 18 or not fields[17]:
        return delimiters, ""
    declared = fields[17].decode("iso8859-1")
    return delimiters, declared.partition(delimiters.repetition)[0].strip()


def _check(segments: list[str], text: str, delimiters: Delimiters, limits: Limits) -> None:
    """Refuse what is no run of segments."""
    separator = delimiters.field
    if len(segments) > limits.segments:
        raise InvalidMessage(SEGMENT_SEQUENCE, f"more than {limits.segments} segments")
    if "\rMSH" in text:
        raise InvalidMessage(SEGMENT_SEQUENCE, "a second MSH segment", "MSH^2")
    for line in segments:
        if not _is_segment_start(line[:4], separator):
            raise InvalidMessage(SEGMENT_SEQUENCE, "a line begins with no segment name")
    if text.count(separator) > limits.fields:
        _check_fields(segments, separator, limits)
    if text.count(delimiters.repetition) > limits.repetitions:
        _check_repetitions(segments, delimiters, limits)


def _check_fields(segments: list[str], separator: str, limits: Limits) -> None:
    for line in segments:
        if line.count(separator) > limits.fields:
            raise InvalidMessage(DATA_TYPE, f"more than {limits.fields} fields", line[:3])


def _check_repetitions(segments: list[str], delimiters: Delimiters, limits: Limits) -> None:
    for line in segments:
        for field in () if line[:3] in _TEXTS else line.split(delimiters.field):
            if field.count(delimiters.repetition) > limits.repetitions:
                text = f"a field of more than {limits.repetitions} repetitions"
                raise InvalidMessage(DATA_TYPE, text, line[:3])


@lru_cache(maxsize=1024)
def _is_segment_start(start: str, separator: str) -> bool:
    return bool(_SEGMENT_NAME.match(start[:3])) and start[3:] in ("", separator)


Component = str | tuple[str, ...]
Repetition = str | tuple[Component, ...]
FieldValue = Repetition | list[Repetition]
"""A field to build: text, a tuple of components (each text or a tuple of subcomponents), or a
list of such repetitions."""


def build(
    segments: Sequence[Sequence[FieldValue]],
    *,
    delimiters: Delimiters = STANDARD,
    charset: str = "UNICODE UTF-8",
) -> bytes:
    """A message from its segments: ``("PID", "", "", [("4711", "", "", ("", OID, "ISO"))])``.

    Values are escaped. In MSH the fields after the name begin with MSH-3, since MSH-1 and
    MSH-2 follow from ``delimiters``. ``charset`` is a name of table 0211; it is not written
    into MSH-18 by itself. Raises UnicodeEncodeError for text outside of it.
    """
    lines = [_build_segment(segment, delimiters) + "\r" for segment in segments]
    return "".join(lines).encode(CODECS[charset])


def _build_segment(segment: Sequence[FieldValue], delimiters: Delimiters) -> str:
    name, *values = segment
    fields = [_build_field(value, delimiters) for value in values]
    if name == "MSH":
        fields.insert(0, "".join(delimiters[1:]))
    return delimiters.field.join((str(name), *fields))


def _build_field(value: FieldValue, delimiters: Delimiters) -> str:
    repetitions = value if isinstance(value, list) else [value]
    return delimiters.repetition.join(_build_repetition(one, delimiters) for one in repetitions)


def _build_repetition(value: Repetition, marks: Delimiters) -> str:
    if isinstance(value, str):
        return escape(value, marks)
    components = [(part,) if isinstance(part, str) else part for part in value]
    return marks.component.join(
        marks.subcomponent.join(escape(leaf, marks) for leaf in part) for part in components
    )
