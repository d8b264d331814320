"""Content types and their parameters (RFC 2045 5.1, RFC 2387), read with tolerance.

Senders quote parameters or not, write their names in any case, and put into a boundary
what the grammar would have them quote; all of that is read. Nothing is verified here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

SOAP = "application/soap+xml"
XOP = "application/xop+xml"
MULTIPART = "multipart/related"
SOAP11 = "text/xml"

_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))')


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type in lower case and its parameters, names in lower case, unquoted."""

    name: str
    parameters: Mapping[str, str]


@lru_cache(maxsize=256)  # peers repeat theirs; those with a boundary of their own pass through
def parse_media_type(value: str) -> MediaType:
    """The media type in a Content-Type header; of a repeated parameter the first counts."""
    name, separator, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for key, quoted, bare in _PARAMETER.findall(separator + rest):
        text = re.sub(r"\\(.)", r"\1", quoted) if quoted else bare.strip()
        parameters.setdefault(key.lower(), text)
    return MediaType(name.strip().lower(), MappingProxyType(parameters))
