"""What stored objects can be shown as (PS3.18 8.7.4 and Table 8.7.4-1)."""

from __future__ import annotations

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
HTML, PLAIN, PDF = "text/html", "text/plain", "application/pdf"

_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
# Structured Reports and Key Object Selections share a root (PS3.4 B.5).
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."


def shown_as(sop_class_uid: str) -> tuple[str, ...]:
    """The media types for objects of a class, the default first; whether it works is seen later."""
    if sop_class_uid == _ENCAPSULATED_PDF:
        return (PDF,)
    if sop_class_uid.startswith(_REPORTS):
        return (HTML, PLAIN)
    return (JPEG, PNG, GIF)
