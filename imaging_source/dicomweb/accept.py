"""Which representation a client takes (PS3.18 8.7, RFC 9110 12.5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from imaging_source.dicomweb.answer import Refusal

ANY = "*/*"
MULTIPART = "multipart/related"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+"  # the slash of a media type that nobody quoted included
# Nothing is looked at twice, whatever is sent: a quote that nobody ends goes to the end.
_PARAMETER = re.compile(rf';\s*+({_TOKEN})\s*+=\s*+({_TOKEN}|"(?:[^"\\]|\\.)*+")')
_TYPE = re.compile(rf"\s*({_TOKEN})")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)|[^",]+|,')

# More ranges than any client sends; a header has 64 KiB at most anyway.
_MOST_RANGES = 64


@dataclass(frozen=True, slots=True)
class Wish:
    """One media range: the type of the (single or each) part, and a transfer syntax.

    ``syntax`` is None where none was named, ``*`` for any.
    """

    media: str
    is_multipart: bool
    syntax: str | None
    weight: float

    def covers(self, media: str) -> bool:
        """Whether ``media`` is in the range."""
        main, _, sub = self.media.partition("/")
        return self.media in (ANY, media) or (sub == "*" and media.startswith(f"{main}/"))


@lru_cache(maxsize=256)  # clients send the same few over and over
def wishes(accept: str) -> tuple[Wish, ...]:
    """The media ranges of an Accept header by falling preference; none means any.

    Raises Refusal (400) for what cannot be read.
    """
    found = [_wish(text) for text in _split(accept)] or [Wish(ANY, False, None, 1.0)]
    return tuple(sorted((one for one in found if one.weight > 0), key=lambda one: -one.weight))


def not_acceptable(reason: str) -> Refusal:
    """No representation that the client takes can be had."""
    return Refusal(HTTPStatus.NOT_ACCEPTABLE, reason)


def first(accept: str, *offers: str) -> Wish:
    """The first wish that covers one of ``offers``; Refusal (406) where none does."""
    for wish in wishes(accept):
        if any(wish.covers(offer) for offer in offers):
            return wish
    raise not_acceptable(f"offered: {', '.join(offers)}")


def _split(accept: str) -> list[str]:
    """The elements of the list, commas in quotes left alone."""
    parts = [""]
    for piece in _QUOTED.findall(accept):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    parts = [part.strip() for part in parts if part.strip()]
    if len(parts) > _MOST_RANGES:
        raise Refusal(HTTPStatus.BAD_REQUEST, "too many media ranges in Accept")
    return parts


def _wish(text: str) -> Wish:
    found = _TYPE.match(text)
    if found is None or "/" not in found[1]:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Accept holds what is no media range")
    parameters = {
        name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(text, found.end())
    }
    media = found[1].lower()
    is_multipart = media == MULTIPART
    if is_multipart:
        media = parameters.get("type", ANY).lower()
    return Wish(media, is_multipart, parameters.get("transfer-syntax"), _weight(parameters))


def _weight(parameters: dict[str, str]) -> float:
    text = parameters.get("q", "1")
    if not re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Accept holds a weight that is none")
    return float(text)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
