"""Libraries with a known hole are refused before a node starts.

The floors are a file, ``safe_versions.toml``: a new advisory is one entry there, and one in
setup.cfg where the library is our own choice. Advisories that are not in it are found by
``make advisories``, which asks the network.
"""

from __future__ import annotations

import re
import sqlite3
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version

from node.config_file import ConfigError, Problem
from node.texts import tr

SQLITE = "sqlite"


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest release of a library without the hole of ``advisory``; ``about`` says which."""

    name: str
    minimum: str
    advisory: str
    about: str


def floors() -> list[Floor]:
    """All of them."""
    data = resources.files("node").joinpath("safe_versions.toml").read_text("utf-8")
    return [Floor(**one) for one in tomllib.loads(data)["floor"]]


def installed(name: str) -> str | None:
    """The release of a library that is in use here; None where there is none."""
    if name == SQLITE:
        return sqlite3.sqlite_version
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def is_below(release: str, minimum: str) -> bool:
    """Whether ``release`` is older than ``minimum``, number by number (a suffix does not count)."""
    return _numbers(release) < _numbers(minimum)


def refuse_outdated(release_of: Callable[[str], str | None] = installed) -> None:
    """Raise ConfigError naming every library with a known hole, and its remedy."""
    found = [(floor, release_of(floor.name)) for floor in floors()]
    problems = [
        Problem(floor.name, "", _remedy(floor, release))
        for floor, release in found
        if release is not None and is_below(release, floor.minimum)
    ]
    if problems:
        raise ConfigError(problems)


def _numbers(release: str) -> list[int]:
    leading = re.match(r"[0-9]+(?:\.[0-9]+)*", release)
    numbers = [int(part) for part in leading[0].split(".")] if leading else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _remedy(floor: Floor, release: str) -> str:
    return tr(
        "{release} has a known hole ({advisory}); install {minimum} or newer",
        release=release,
        advisory=floor.advisory,
        minimum=floor.minimum,
    )
