"""Signed heads as they stand in a log that was kept elsewhere (``AUDIT-HEAD``).

Who has a node's disk can cut the end off a trail together with its heads, take a whole trail away,
or write another history with the node's own key. He cannot change what left the machine before.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

CODE = "AUDIT-HEAD"

_FIELD = re.compile(r"\b(source|number|chain|signature)=(?:'([^']*)'|(\S+))")


class Head(NamedTuple):
    """The link of a record, and its signature."""

    number: int
    chain: bytes
    signature: bytes


def heads_in(lines: Iterable[str]) -> Mapping[str, Sequence[Head]]:
    """The heads in the lines of a log, in either of its forms and behind whatever a collector puts
    before them, by trail ("north/web-0"), in the order of their records. Raises ValueError for a
    line that says it is one and cannot be read."""
    found: defaultdict[str, set[Head]] = defaultdict(set)
    for line in lines:
        said = _fields(line) if CODE in line else {}
        if "signature" in said:  # else it tells that none was made
            try:
                chain, signature = (bytes.fromhex(said[key]) for key in ("chain", "signature"))
                found[said["source"]].add(Head(int(said["number"]), chain, signature))
            except (KeyError, ValueError) as error:
                raise ValueError(f"a line with {CODE} that is no head") from error
    return {source: sorted(heads) for source, heads in found.items()}


def _fields(line: str) -> dict[str, str]:
    try:
        said = json.loads(line[line.index("{") :])
    except ValueError:
        return {name: quoted or plain for name, quoted, plain in _FIELD.findall(line)}
    return {name: str(value) for name, value in said.items()}
