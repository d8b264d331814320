"""Names as they are compared: without case and accents (PS3.4 C.2.2.2.1 leaves both open).

``DURAND^HELENE`` finds ``Durand^Hélène``. Only the first component group counts, the alphabetic
one; empty components at its end are as good as none (PS3.5 6.2, PN).
"""

from __future__ import annotations

import unicodedata


def folded(name: str) -> str:
    """What of a name is compared."""
    group = name.partition("=")[0].strip().rstrip("^").strip()
    if group.isascii():
        return group.lower()
    parts = unicodedata.normalize("NFKD", group.casefold())
    return "".join(character for character in parts if not unicodedata.combining(character))
