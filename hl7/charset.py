"""Character sets of HL7 table 0211 (MSH-18).

Only sets in which the delimiters keep their ASCII bytes are read: the segments of a message
are found before its text is decoded. UTF-16, UTF-32 and the ISO-2022 sets are refused.
"""

from __future__ import annotations

from hl7.errors import DATA_TYPE, TABLE_VALUE, InvalidMessage

MSH_18 = "MSH^1^18^1^1"

CODECS = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",  # not of the table, but what many senders write
    **{f"8859/{part}": f"iso8859-{part}" for part in range(1, 16) if part != 12},
}
"""Table 0211 name -> Python codec. ISO 8859-12 was never published."""

FALLBACK = "iso8859-1"
"""Reads any byte: for senders that declare nothing and are not in the default charset."""


def decode(data: bytes, declared: str, default: str) -> tuple[str, str]:
    """The text of ``data`` and the codec that read it.

    ``declared`` is MSH-18's first repetition. Without it ``default`` is tried, then ISO
    8859-1. Raises InvalidMessage when the declared set is not supported or the bytes are not
    of it: guessing could turn one patient's identifier into another's.
    """
    if not declared:
        return _guess(data, default)
    codec = CODECS.get(declared.upper())
    if codec is None:
        raise InvalidMessage(TABLE_VALUE, f"MSH-18: unsupported charset {declared[:32]!r}", MSH_18)
    try:
        return data.decode(codec), codec
    except UnicodeDecodeError as error:
        raise InvalidMessage(
            DATA_TYPE,
            f"byte {error.start} of the message is not {declared}, as MSH-18 says",
            MSH_18,
        ) from error


def _guess(data: bytes, default: str) -> tuple[str, str]:
    try:
        return data.decode(default), default
    except UnicodeDecodeError:
        return data.decode(FALLBACK), FALLBACK
