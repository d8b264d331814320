"""Value representations that are not written in the data set (PS3.5 7.1.3, 6.2.2; PS3.6)."""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR, private_dictionary_VR


@lru_cache(maxsize=8192)  # more than the attributes of all modalities of a hospital
def representation(tag: int, creator: str) -> str:
    """The VR of an element by the dictionaries; ``creator`` is that of a private block.

    What depends on the image ("US or SS") is given in full: see ``settled``.
    """
    if tag >> 16 & 1:
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            return "LO"
        return _private(tag, creator) if creator else "UN"
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def settled(vr: str, is_signed: bool) -> str:
    """One VR of those the dictionary allows (PS3.5 A.1, PS3.3 C.7.6.3 and C.11.1)."""
    if " or " not in vr:
        return vr
    if "OW" in vr:
        return "OW"
    return "SS" if is_signed else "US"


def _private(tag: int, creator: str) -> str:
    try:
        return private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"
