"""What each caller may see of a node: the policy, the choices, the emergencies, opened once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from imaging_source.reports import among_images
from imaging_source.shown import Unseen, published_entries
from node.config import Settings
from node.config_file import ConfigError, Problem
from node.migrate import open_database
from node.wiring.audit import Auditor
from node.wiring.common import Asked, UnseenDocuments
from security.access.carried import CarriedChoices
from security.access.decision import Policy, PolicyError
from security.access.emergencies import Emergencies, Override
from security.access.sight import Sight
from security.assertions.claims import Claims
from security.choices.store import ChoiceStore
from soap.faults import SoapFault
from soap.operation import CallContext
from storage.database import Database
from storage.errors import StorageError
from transactions.registry_response import RegistryUnavailable

log = structlog.get_logger(__name__)

# Studies asked about by one statement.
PORTION = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, where assertions are judged: a user, or without claims a node alone."""

    claims: Claims | None = None
    emergency: bool = False


@dataclass(frozen=True, slots=True)
class Sights:
    """Makes the sight of each caller."""

    policy: Policy
    store: ChoiceStore
    carried: CarriedChoices
    emergencies: Emergencies

    def of(self, caller: Caller | None = None) -> Sight:
        """What ``caller`` may see; without one, what a node without user may."""
        claims = caller.claims if caller else None
        emergency = caller is not None and caller.emergency
        asker = self.policy.asker(claims, emergency=emergency)
        return Sight(self.policy, asker, self.store, self.carried, datetime.now(UTC))

    def in_emergency(self, claims: Claims | None, node: str) -> bool:
        """Whether the user acts in an emergency. Raises TokenRefused, StorageError."""
        return claims is not None and self.emergencies.declared(claims, node)

    def documents(self, asked: Asked) -> Callable[[CallContext], Unseen]:
        """For each caller: which documents (uniqueIds) he may not see. They raise SoapFault when
        it cannot be known."""

        def of(context: CallContext) -> Unseen:
            sight = self.of(context.user)
            return lambda names: _known(lambda: asked.unseen(sight, (), names))

        return of

    def studies(self, asked: Asked, index: Database) -> Callable[[CallContext], Unseen]:
        """For each caller: which studies he may not see, by their manifests. One that was not
        published yet is nobody's: nothing is known of it that could permit it."""

        def of(context: CallContext) -> Unseen:
            sight = self.of(context.user)
            unseen = partial(_unseen_studies, asked.unseen, index, sight)
            return lambda studies: _known(lambda: unseen(studies))

        return of


def unseen_by(
    caller: Caller | None, sights: Sights, unseen: UnseenDocuments, index: Database
) -> Unseen:
    """The studies that a caller may not see; without one, a node without user. Raises StorageError
    and RegistryUnavailable when it cannot be known."""
    return lambda studies: _unseen_studies(unseen, index, sights.of(caller), studies)


def _unseen_studies(
    asked: UnseenDocuments, index: Database, sight: Sight, studies: Collection[str]
) -> Collection[str]:
    """Those of some studies that are hidden or not published, or hold a report that is hidden. Of
    none the same is asked, so that the time of an answer does not tell a hidden study from one that
    is not there."""
    hidden: set[str] = set()
    named = list(studies)
    for start in range(0, len(named) or 1, PORTION):
        portion = named[start : start + PORTION]
        with index.read() as connection:
            entries = published_entries(connection, portion or [""])
            reports = among_images(connection, portion or [""])
        unseen = asked(sight, [*entries.values(), *(entry for _, entry in reports)], ())
        hidden |= {one for one in portion if one not in entries or entries[one] in unseen}
        hidden |= {study for study, entry in reports if entry in unseen}
    return hidden


def _known(look: Callable[[], Collection[str]]) -> Collection[str]:
    """What a look brings; where nothing can be known, nothing is shown."""
    try:
        return look()
    except (StorageError, RegistryUnavailable) as error:
        log.error("nothing shown", code="ACCESS-UNKNOWN", error=type(error).__name__)
        raise SoapFault.busy() from error


def open_sights(
    settings: Settings, stack: ExitStack, access: Database, auditor: Auditor | None
) -> Sights:
    """The sights of a process. Raises ConfigError and StorageError."""
    policy = policy_of(settings)
    choices = stack.enter_context(open_database(settings.choices, "choices", read_only=True))

    def alarm(override: Override) -> None:
        log.critical("emergency", code="ACCESS-EMERGENCY", node=override.node, until=override.until)
        if auditor is not None:
            auditor.emergency(override)

    emergencies = Emergencies(access, policy, alarm)
    return Sights(policy, ChoiceStore(choices), CarriedChoices(access), emergencies)


def policy_of(settings: Settings) -> Policy:
    """The access policy of the node. Raises ConfigError."""
    chosen = settings.policy.file
    try:
        return Policy.read(chosen if isinstance(chosen, Path) else None)
    except PolicyError as error:
        raise ConfigError([Problem("policy.file", "", str(error))]) from error
