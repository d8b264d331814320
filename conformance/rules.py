"""Cases made from the catalogue of rules: each breaks one and expects that rule's own error.

The table of a transaction gives a stimulus for each rule that a message can break; its code,
severity and specification are those of ``metadata.catalogue``. What no message can break is
listed in ``NOT_PROVOKED`` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Expectation, any_of, failure, fault
from conformance.seen import Answer, Seen
from metadata.catalogue import Rule

Breach = Callable[[Bench], Answer[Any]]
"""Sends the message that breaks a rule; the answer says what its error must name."""

PREFIX = "C-"
"""How the ids of these cases begin; the rule's own id follows."""


class RuleCases(Cases):
    """Cases that break rules of one transaction."""

    def __init__(self, actor: Actor, transaction: str, needs: str = "") -> None:
        super().__init__(actor, needs)
        self._transaction = transaction

    def breaking(
        self,
        rule: Rule,
        en: str,
        fr: str,
        breach: Breach,
        *,
        needs: str = "",
        transaction: str = "",
        also: str = "",
        about: str = "what breaks the rule",
    ) -> None:
        """Add the case that breaks ``rule``.

        ``also`` is a code that the standard allows as well, or ``fault`` for a SOAP fault;
        ``about`` is empty where the error need not name anything.
        """
        codes = [rule.code(transaction or self._transaction), *([also] if also else ())]
        expected: Expectation = failure(*(one for one in codes if one != "fault"), about=about)
        if also == "fault":
            expected = any_of(expected, fault("Sender"))
        self.add(
            f"{PREFIX}{rule.id}",
            en,
            fr,
            spec=rule.spec,
            needs=needs,
            expected=[expected],
            stimulus=partial(_answer, breach),
        )


def _answer(breach: Breach, bench: Bench) -> Iterator[Seen]:
    yield breach(bench)


_GATEWAY = "told by gateways between communities alone"
_RECIPIENT = "told by an XDR recipient that leaves semantics aside, which no repository does"

NOT_PROVOKED = {
    "content-invalid": "told by recipients that read the documents themselves",
    "document-queued": "told by a recipient where a person matches patients",
    "partial-append": _RECIPIENT,
    "partial-folder": _RECIPIENT,
    "partial-relationship": _RECIPIENT,
    "partial-replace": _RECIPIENT,
    "partial-transform": _RECIPIENT,
    "partial-transform-replace": _RECIPIENT,
    "too-many-results": "the limit is the actor's own, and no message tells it",
    "home-missing": _GATEWAY,
    "unknown-community": _GATEWAY,
    "community-unavailable": _GATEWAY,
    "document-unavailable": "bytes are lost by storage, not by a message",
    "not-assembled": "what a document is made of fails, not the message that asks for it",
    "removal-not-allowed": "an actor under test with --administration allows removals",
    "removal-failed": "storage fails, not the message",
    "busy": "depends on the load, not on a message",
    "out-of-resources": "the disk fills up, whatever the message",
    "internal": "an actor that a message can break has a fault of its own",
}
"""Rules that no message from outside can be relied on to break, and why."""
