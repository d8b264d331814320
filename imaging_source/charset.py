"""Text of DICOM values in Unicode (PS3.3 C.12.1.1.2, PS3.5 6.1.2).

A name must never be lost because a modality got its character set wrong: what cannot be
decoded is replaced character by character, without a warning (which would quote it).
"""

from __future__ import annotations

import re

from pydicom.charset import CODES_TO_ENCODINGS, handled_encodings, python_encoding

_ESCAPE = b"\x1b"
_FRAGMENTS = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
# An escape sequence holds until the next delimiter of a name or of values (PS3.5 6.1.2.5.3).
_DELIMITERS = re.compile(rb"[\\^=\r\n\t\f]")

# What no text of these attributes may hold (PS3.5 6.1.3) and what neither XML nor a database
# column can carry: one such byte from a modality must not keep its study from being published.
_UNPRINTABLE = re.compile("[\0-\x1f\ud800-\udfff\ufffe\uffff]")


def encodings_of(specific_character_set: bytes) -> list[str]:
    """The Python codecs of a Specific Character Set (0008,0005), the first one the default."""
    terms = specific_character_set.decode("ascii", "replace").rstrip("\0 ").split("\\")
    return [python_encoding.get(term.strip(), "latin_1") for term in terms]


def decode(value: bytes, encodings: list[str]) -> str:
    """The text of ``value``, without padding; a control character becomes a blank, NUL goes."""
    if not value:  # so are most of those that an index keeps
        return ""
    return _UNPRINTABLE.sub(" ", unicode_of(value, encodings).replace("\0", "")).strip(" ")


def unicode_of(value: bytes, encodings: list[str]) -> str:
    """All characters of ``value``, those of control and padding included."""
    if _ESCAPE in value:
        return "".join(_fragment(part, encodings) for part in _FRAGMENTS.findall(value))
    return value.decode(encodings[0], "replace")


def _fragment(fragment: bytes, encodings: list[str]) -> str:
    """One piece of a value with code extensions: it begins with its escape sequence."""
    if not fragment.startswith(_ESCAPE):
        return fragment.decode(encodings[0], "replace")
    length = 4 if fragment.startswith((b"\x1b$(", b"\x1b$)")) else 3
    encoding = CODES_TO_ENCODINGS.get(fragment[:length], encodings[0])
    if encoding in handled_encodings:  # these codecs read the escape sequence themselves
        return fragment.decode(encoding, "replace")
    content = fragment[length:]
    delimiter = _DELIMITERS.search(content)
    end = delimiter.start() if delimiter else len(content)
    rest = content[end:].decode(encodings[0], "replace")
    return content[:end].decode(encoding, "replace") + rest
