"""Media types of DICOM bulk data by transfer syntax (PS3.18 Tables 8.7.3-2 to 8.7.3-5)."""

from __future__ import annotations

DICOM = "application/dicom"
OCTETS = "application/octet-stream"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

_JPEG = "image/jpeg"
_ENCAPSULATED = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    **{f"1.2.840.10008.1.2.4.{number}": "video/mp4" for number in range(102, 109)},
}
# How pixels of these are written is how Explicit VR Little Endian has them.
_LITTLE_ENDIAN = frozenset({"1.2.840.10008.1.2", EXPLICIT_LITTLE_ENDIAN})


def is_native(transfer_syntax_uid: str) -> bool:
    """Whether the pixels of a stored instance are those of Explicit VR Little Endian."""
    return transfer_syntax_uid in _LITTLE_ENDIAN


def frame_media(transfer_syntax_uid: str) -> str:
    """The media type of a frame as it is stored."""
    return _ENCAPSULATED.get(transfer_syntax_uid, OCTETS)


def with_syntax(media: str, transfer_syntax_uid: str) -> str:
    """The Content-Type of a part."""
    return f"{media}; transfer-syntax={transfer_syntax_uid}"
