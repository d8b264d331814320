"""Whether somebody may see a document: one pure function over a table of rules.

A rule has conditions on the user, on the document, and on what stands between the two: authorship,
treatment, the patient's choices, an emergency. The first rule whose every condition holds decides;
where none does, the document is hidden. The table is data (``policy.toml``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from metadata.datatypes import CX
from metadata.model import Code
from security.assertions.claims import Claims

NODE, USER = "node", "user"
"""The groups of who asks without an assertion, and of who has no role that is known."""

NOBODY: frozenset[str] = frozenset()


class PolicyError(Exception):
    """A policy that cannot be used; the text names its file and what to mend."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: by what the assertion says. Codes are ``code^^system``.

    ``names`` are the identifiers of the person and of his organisations; ``patients`` whom the
    assertion is about (CX), where it says so.
    """

    groups: frozenset[str] = frozenset((NODE,))
    purposes: frozenset[str] = NOBODY
    names: frozenset[str] = NOBODY
    patients: frozenset[str] = NOBODY
    emergency: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """What holds for one patient: ``masks`` are groups by the document, or the study, of which they
    must not see anything."""

    opposed: bool = False
    treating: frozenset[str] = NOBODY
    masks: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Facts(NamedTuple):
    """A document as rules see it.

    ``patients`` are the identifiers of its patient, before and after merges; ``document`` is what
    masks call it by, or by one of the ``studies`` that it refers to.
    """

    document: str
    patients: frozenset[str]
    confidentiality: frozenset[str]
    authors: frozenset[str] = NOBODY
    studies: frozenset[str] = NOBODY


_FLAGS = ("author", "masked", "emergency", "opposed", "other_patient", "own", "treating")
_LISTS = ("groups", "purposes")

# Cases kept decided with a policy, some 200 bytes each; a region has some dozens.
_MOST_DECIDED = 4096

# Sessions of whom is kept what their assertions mean to the policy, some 2 KB each.
_ASKERS = 1024

Case = tuple[frozenset[str], frozenset[str], tuple[bool, ...], frozenset[str]]
"""All that rules look at: groups and purposes of the asker, flags, confidentiality."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: lists of which one member must apply, flags that must be so; and what follows."""

    permits: bool
    lists: Mapping[str, frozenset[str]]
    flags: Mapping[str, bool]
    levels: frozenset[str] | None = None
    """The confidentiality codes it is about: a document may have no other, masks aside."""


@dataclass(frozen=True, slots=True)
class Emergency:
    """Who may break the glass, by which purposes, for how many minutes."""

    groups: frozenset[str]
    purposes: frozenset[str]
    minutes: int


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy as read from its file."""

    name: str
    groups: Mapping[str, Sequence[str]]
    masks: Mapping[str, frozenset[str]]
    consents: Mapping[str, bool]
    emergency: Emergency
    rules: Sequence[Rule]
    decided: dict[Case, bool] = field(default_factory=dict, init=False, repr=False)
    """The cases that came so far: most documents of a region are alike to its rules."""

    @classmethod
    def read(cls, path: Path | None = None) -> Policy:
        """The policy at ``path``; without one, that which ships. Raises PolicyError."""
        source = path or resources.files(__package__) / "policy.toml"
        try:
            data = tomllib.loads(source.read_text())
            return _policy(data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(f"{source}: {_told(error)}") from error

    def asker(self, claims: Claims | None, *, emergency: bool = False) -> Asker:
        """Who asks, by an assertion; without one, a node."""
        return _asker(self, claims, emergency)

    def wants_emergency(self, claims: Claims) -> bool:
        """Whether the user says that it is an emergency."""
        return not self.emergency.purposes.isdisjoint(self.asker(claims).purposes)

    def may_break_glass(self, claims: Claims) -> bool:
        """Whether the user has the right to."""
        return not self.emergency.groups.isdisjoint(self.asker(claims).groups)

    def groups_of(self, roles: Iterable[str]) -> frozenset[str]:
        """The groups of who has these roles."""
        held = set(roles)
        held |= {f"*^^{role.rpartition('^^')[2]}" for role in held}
        found = {group for group, named in self.groups.items() if not held.isdisjoint(named)}
        return frozenset(found or (USER,))


@lru_cache(_ASKERS)
def _asker(policy: Policy, claims: Claims | None, emergency: bool) -> Asker:
    if claims is None:
        return Asker()
    return Asker(
        groups=policy.groups_of(map(spelled, claims.roles)),
        purposes=frozenset(map(spelled, claims.purposes)),
        names=frozenset((claims.subject, *claims.identifiers, *claims.organization_ids)),
        patients=frozenset(map(_patient, claims.patients)),
        emergency=emergency,
    )


def _patient(named: str) -> str:
    """A patient as the registry names him (ITI TF-3 4.2.3.1.7): issuers add the namespace of the
    authority, or what kind of identifier it is."""
    read = CX(named)
    authority = read.assigning_authority
    if not read.id or authority.universal_id_type != "ISO":
        return named
    return CX.of(read.id, authority.universal_id)


class Judge:
    """Judges the documents of one patient for one asker: what follows from the two is found out
    once for all of them. ``patients`` are the patient's identifiers."""

    __slots__ = ("_asker", "_decided", "_hidden", "_masks", "_policy", "_so")

    def __init__(
        self, policy: Policy, asker: Asker, choices: Choices, patients: frozenset[str]
    ) -> None:
        self._policy = policy
        self._asker = asker
        self._masks = choices.masks
        self._hidden = frozenset(
            code for code, groups in policy.masks.items() if not asker.groups.isdisjoint(groups)
        )
        mine = not asker.patients.isdisjoint(patients)
        self._so = (
            asker.emergency,
            choices.opposed,
            bool(asker.patients) and not mine,
            mine,
            not asker.names.isdisjoint(choices.treating),
        )
        self._decided: dict[tuple[bool, bool, frozenset[str]], bool] = {}

    def permits(self, facts: Facts) -> bool:
        """Whether the asker may see a document of the patient."""
        author = not self._asker.names.isdisjoint(facts.authors)
        case = (author, self._is_masked(facts), facts.confidentiality)
        if case not in self._decided:
            self._decided[case] = self._decide(*case)
        return self._decided[case]

    def _decide(self, author: bool, masked: bool, confidentiality: frozenset[str]) -> bool:
        """What the policy says of a case, which others may have met before."""
        asker, decided = self._asker, self._policy.decided
        case = (asker.groups, asker.purposes, (author, masked, *self._so), confidentiality)
        if case not in decided:
            if len(decided) >= _MOST_DECIDED:
                decided.clear()
            decided[case] = _decide(self._policy, *case)
        return decided[case]

    def _is_masked(self, facts: Facts) -> bool:
        """Whether a code of the document, or the patient, hides it from a group of the asker."""
        if not self._hidden.isdisjoint(facts.confidentiality):
            return True
        masks, groups = self._masks, self._asker.groups
        if not masks:
            return False
        named = [masks[name] for name in (facts.document, *facts.studies) if name in masks]
        return not all(map(groups.isdisjoint, named))


def permitted(policy: Policy, asker: Asker, choices: Choices, facts: Facts) -> bool:
    """Whether ``asker`` may see the document."""
    return Judge(policy, asker, choices, facts.patients).permits(facts)


def spelled(code: Code) -> str:
    """A code as policies spell it."""
    return f"{code.code}^^{code.scheme}"


def _decide(
    policy: Policy,
    groups: frozenset[str],
    purposes: frozenset[str],
    so: Sequence[bool],
    confidentiality: frozenset[str],
) -> bool:
    """What the rules say of a case: there is nothing else that they look at."""
    levels = confidentiality - policy.masks.keys()
    given = {"groups": groups, "purposes": purposes}
    flags = dict(zip(_FLAGS, so, strict=True))
    for rule in policy.rules:
        if _holds(rule, given, flags) and _covers(rule.levels, levels):
            return rule.permits
    return False


def _holds(rule: Rule, given: Mapping[str, frozenset[str]], so: Mapping[str, bool]) -> bool:
    if any(so[key] is not wanted for key, wanted in rule.flags.items()):
        return False
    return all(not named.isdisjoint(given[key]) for key, named in rule.lists.items())


def _covers(named: frozenset[str] | None, levels: Collection[str]) -> bool:
    """Whether a rule is about documents of these levels: of the strictest as of the mildest."""
    return named is None or (bool(levels) and named.issuperset(levels))


def _policy(data: Mapping[str, Any]) -> Policy:
    unknown = data.keys() - {"name", "groups", "masks", "consents", "emergency", "rule"}
    if unknown:
        raise ValueError(f"unknown key {min(unknown)}")
    words = {"opposed": True, "agreed": False}
    emergency = data["emergency"]
    return Policy(
        name=data["name"],
        groups={group: tuple(roles) for group, roles in data["groups"].items()},
        masks={code: frozenset(groups) for code, groups in data["masks"].items()},
        consents={policy: words[said] for policy, said in data["consents"].items()},
        emergency=Emergency(
            frozenset(emergency["groups"]),
            frozenset(emergency["purposes"]),
            int(emergency["minutes"]),
        ),
        rules=[_rule(number, row) for number, row in enumerate(data["rule"], 1)],
    )


def _rule(number: int, row: Mapping[str, Any]) -> Rule:
    unknown = row.keys() - {*_FLAGS, *_LISTS, "confidentiality", "decision"}
    if unknown:
        raise ValueError(f"rule {number}: unknown condition {min(unknown)}")
    if row.get("decision") not in ("permit", "deny"):
        raise ValueError(f"rule {number}: decision is permit or deny")
    flags = {key: row[key] for key in _FLAGS if key in row}
    lists = {key: row[key] for key in (*_LISTS, "confidentiality") if key in row}
    if not all(isinstance(value, bool) for value in flags.values()):
        raise ValueError(f"rule {number}: {', '.join(sorted(flags))} are true or false")
    if not all(isinstance(value, list) for value in lists.values()):
        raise ValueError(f"rule {number}: {', '.join(sorted(lists))} are lists")
    levels = lists.pop("confidentiality", None)
    return Rule(
        permits=row["decision"] == "permit",
        lists={key: frozenset(values) for key, values in lists.items()},
        flags=flags,
        levels=None if levels is None else frozenset(levels),
    )


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
