"""How a picture is wanted: parameters of WADO-RS (PS3.18 8.3.5) and WADO-URI (9.1.2.2).

Both become the options of ``imaging_source.rendering.render``; what cannot be meant is refused
with 400 and the name of the parameter, never with its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from imaging_source.dicomweb.answer import Refusal

Query = Sequence[tuple[str, str]]
Options = dict[str, Any]

MOST_EDGE = 8192
"""Pixels of a picture that is asked for by its size: that of the largest screens."""

_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_CHARSETS = {"utf-8", "iso-8859-1", "us-ascii"}


def viewing_options(query: Query) -> Options:
    """The options of a rendered resource of WADO-RS. Raises Refusal (400)."""
    readers: dict[str, Callable[[str], Options]] = {
        "annotation": _annotation,
        "quality": _quality,
        "viewport": _viewport,
        "window": _window,
    }
    return _read(query, readers)


def uri_options(query: Query) -> Options:
    """The options of WADO-URI. Raises Refusal (400)."""
    readers: dict[str, Callable[[str], Options]] = {
        "annotation": _annotation,
        "imagequality": _quality,
        "rows": lambda text: {"rows": _integer(text, MOST_EDGE)},
        "columns": lambda text: {"columns": _integer(text, MOST_EDGE)},
        "region": lambda text: {"region": _region(text)},
        "framenumber": lambda text: {"frame": _integer(text, 10**9)},
        "windowcenter": lambda text: {"centre": _number(text)},
        "windowwidth": lambda text: {"width": _number(text)},
        "charset": _charset,
    }
    options = _read(query, readers)
    centre, width = options.pop("centre", None), options.pop("width", None)
    if (centre is None) != (width is None):
        raise _wrong("windowCenter and windowWidth come together")
    if width is not None:
        options["window"] = _checked_window(centre, width, "LINEAR")
    return options


def _read(query: Query, readers: dict[str, Callable[[str], Options]]) -> Options:
    options: Options = {}
    for name, text in query:
        reader = readers.get(name.lower())
        if reader is None:
            continue
        try:
            options |= reader(text)
        except (ValueError, KeyError) as error:
            raise _wrong(f"{name[:40]} is not possible") from error
    return options


def _wrong(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


def _annotation(text: str) -> Options:
    wanted = [one.strip() for one in text.split(",")]
    if not set(wanted) <= {"patient", "technique"}:
        raise ValueError
    return {"annotation": wanted}


def _quality(text: str) -> Options:
    return {"quality": _integer(text, 100)}


def _viewport(text: str) -> Options:
    """vw,vh[,sx,sy,sw,sh]: the size to fit into, and the source region in parts of the image."""
    parts = text.split(",")
    if len(parts) not in (2, 6):
        raise ValueError
    options = {"columns": _integer(parts[0], MOST_EDGE), "rows": _integer(parts[1], MOST_EDGE)}
    if len(parts) == 2:
        return options
    values = [_number(one) if one else None for one in parts[2:]]
    return {**options, "source": values}


def _window(text: str) -> Options:
    centre, width, function = text.split(",")
    return {"window": _checked_window(_number(centre), _number(width), _FUNCTIONS[function])}


def _checked_window(centre: float, width: float, function: str) -> list[Any]:
    if width < (1 if function == "LINEAR" else 1e-9):
        raise _wrong("a window is at least 1 wide")
    return [centre, width, function]


def _region(text: str) -> list[float]:
    left, top, right, bottom = map(_number, text.split(","))
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError
    return [left, top, right, bottom]


def _charset(text: str) -> Options:
    """The first character set of the list that texts can be written in."""
    for one in text.lower().split(","):
        if one.partition(";")[0].strip() in _CHARSETS:
            return {"encoding": one.partition(";")[0].strip()}
    raise ValueError


def _integer(text: str, most: int) -> int:
    number = int(text)
    if not 1 <= number <= most:
        raise ValueError
    return number


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number
