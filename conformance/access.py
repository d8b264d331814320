"""Who may see what, as data: the callers and states of the authorisation matrix (``access.toml``).

The table is a node's own expectation: what its policy lets each caller see. It knows nothing of how
a node decides, so that it judges any.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from metadata.datatypes import CX, LocalizedString
from metadata.model import Code
from security.assertions.issuing import Issuer, Person

AUTHOR = "kit.author@example.org"
"""Who has written the documents of the matrix; his caller's name too."""

ABOUT = ("", "own", "other")


class AccessTableError(Exception):
    """A table that cannot be used; the text names its file and what to mend."""


@dataclass(frozen=True, slots=True)
class State:
    """A document as it stands there."""

    confidentiality: tuple[Code, ...]
    deprecated: bool = False
    opposed: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by what his assertion says, and the states of documents that he sees."""

    name: str
    person: Person
    sees: frozenset[str]
    about: str = ""
    treating: bool = False
    refused: bool = False
    assertion: bool = True

    def token(self, issuer: Issuer, own: CX, other: CX) -> str:
        """A fresh assertion, to ask about ``own``; empty where he brings none."""
        if not self.assertion:
            return ""
        attributes = dict(self.person.attributes)
        if self.about:
            attributes["patient"] = [str(own if self.about == "own" else other)]
        return issuer.issue(Person(self.person.subject, attributes))


@dataclass(frozen=True, slots=True)
class AccessTable:
    """The whole table."""

    states: Mapping[str, State]
    callers: Mapping[str, Caller]

    @classmethod
    def read(cls, path: Path | None = None) -> AccessTable:
        """The table at ``path``; without one, that of Kosmos's policy. Raises AccessTableError."""
        source = path or resources.files(__package__) / "access.toml"
        try:
            data = tomllib.loads(source.read_text())
            states = {name: _state(row) for name, row in data["states"].items()}
            callers = {name: _caller(name, row) for name, row in data["callers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            words = f"{error} is missing" if isinstance(error, KeyError) else error
            raise AccessTableError(f"{source}: {words}") from error
        unknown = {one for caller in callers.values() for one in caller.sees} - states.keys()
        if unknown:
            raise AccessTableError(f"{source}: no state {min(unknown)}")
        return cls(states, callers)


def _state(row: Mapping[str, Any]) -> State:
    codes = tuple(map(_code, row["confidentiality"]))
    return State(codes, row.get("deprecated", False), row.get("opposed", False))


_WORDS = {"roles", "purposes", "reason", "about", "treating", "author", "refused", "assertion"}


def _caller(name: str, row: Mapping[str, Any]) -> Caller:
    if unknown := row.keys() - _WORDS - {"sees"}:
        raise ValueError(f"{name}: unknown word {min(unknown)}")
    if row.get("about", "") not in ABOUT:
        raise ValueError(f"{name}: about is own or other")
    attributes: dict[str, Sequence[str | Code]] = {
        "display_name": [f"Kit {name}"],
        "role": [_code(one) for one in row.get("roles", ())],
        "purpose_of_use": [_code(one) for one in row.get("purposes", ())],
        "reason": [row["reason"]] if "reason" in row else [],
    }
    subject = AUTHOR if row.get("author", False) else f"kit.{name}@example.org"
    return Caller(
        name,
        Person(subject, attributes),
        frozenset(row.get("sees", ())),
        row.get("about", ""),
        row.get("treating", False),
        row.get("refused", False),
        row.get("assertion", True),
    )


def _code(text: str) -> Code:
    code, separator, scheme = text.partition("^^")
    if not (code and separator and scheme):
        raise ValueError(f"{text!r} is not CODE^^SYSTEM")
    return Code(code, scheme, LocalizedString(code))
