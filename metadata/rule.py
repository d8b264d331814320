"""What a rule is, and what becomes of one that is broken (ITI TF-3 4.2.4).

A ``Rule`` joins an explanation to the error code each transaction reports it with. A
``Fault`` is one breach of it by one object; ``Fault.error`` turns it into the
``RegistryError`` that goes on the wire. The rules themselves are in ``metadata.catalogue``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from metadata.identifiers import ERROR, WARNING

# Transactions that use the codes of others wherever a rule gives them none of their own: RAD-68
# is ITI-41 under a second name, ITI-61 registers as ITI-42 does, updates and removals are judged
# as registrations are.
_ALIKE = {
    "RAD-68": ("ITI-41",),
    "ITI-61": ("ITI-42",),
    "ITI-57": ("ITI-42",),
    "ITI-92": ("ITI-57", "ITI-42"),
    "ITI-62": ("ITI-42",),
}
# RegistryError/@location holds the DocumentUniqueId (ITI TF-2 3.43.4.2.3, RAD TF-2 4.69; of a
# removal it tells in a word what its codeContext tells in a sentence), in updates the entryUUID
# (Metadata Update 3.57.4.2.3).
_LOCATED = frozenset({"ITI-43", "ITI-86", "RAD-69", "ITI-57", "ITI-92"})
# Longest value quoted back to its sender: enough to recognise it, too little to flood a log.
_QUOTED = 300


@dataclass(frozen=True, slots=True)
class RegistryError:
    """One rs:RegistryError: ``severity`` is a URN, ``location`` empty if unused."""

    code: str
    context: str
    severity: str = ERROR
    location: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule of the standard.

    ``message`` is a format string naming its details in braces; ``{object}`` is the id of
    the faulty object. ``codes`` maps a transaction ("ITI-42") to the error code it uses.
    """

    id: str
    message: str
    codes: Mapping[str, str]
    spec: str
    severity: str = ERROR

    @property
    def is_warning(self) -> bool:
        """Whether breaking it leaves the request a success."""
        return self.severity == WARNING

    def details(self) -> frozenset[str]:
        """The names a ``Fault`` must fill in, besides ``object``."""
        names = {name for _, name, _, _ in Formatter().parse(self.message) if name}
        return frozenset(names - {"object"})

    def code(self, transaction: str) -> str:
        """The error code in ``transaction``; raises KeyError where the rule is never applied."""
        for alike in (transaction, *_ALIKE.get(transaction, ())):
            if alike in self.codes:
                return self.codes[alike]
        raise KeyError(transaction)


class Fault:
    """One breach of ``rule`` by the object ``object_id``; ``details`` fill in its message.

    ``object_id`` is what the sender knows the object by: an entryUUID or symbolic id, a
    document's uniqueId in a retrieve, the query in a query. Raises TypeError if a detail
    that the message names is missing.
    """

    __slots__ = ("details", "object_id", "rule")

    def __init__(self, rule: Rule, object_id: str, **details: object) -> None:
        missing = rule.details() - details.keys()
        if missing:
            raise TypeError(f"rule {rule.id} needs the details {', '.join(sorted(missing))}")
        self.rule = rule
        self.object_id = object_id
        self.details = details

    def __repr__(self) -> str:
        return f"Fault({self.rule.id}, {self.object_id!r}, {self.details!r})"

    def message(self) -> str:
        """The whole explanation: object, attribute, value, rule and where it is written."""
        quoted = {name: _quote(value) for name, value in self.details.items()}
        text = self.rule.message.format(object=self.object_id or "(no id)", **quoted)
        return f"{text} [{self.rule.id}; {self.rule.spec}]"

    def error(self, transaction: str) -> RegistryError:
        """The error to report in ``transaction``; raises KeyError where the rule has no code."""
        location = self.object_id if transaction in _LOCATED else ""
        return RegistryError(
            self.rule.code(transaction), self.message(), self.rule.severity, location
        )


def _quote(value: object) -> str:
    text = str(value)
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"
