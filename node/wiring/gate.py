"""Who is asking: the doors of a process ask for an assertion, and believe the configured issuers.

Where assertions are judged, one that does not prove who asks is refused at every door and
recorded; without any, nothing that people ask for is answered, but for nodes that are exempt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from node.config import Settings
from node.config_trust import AccessSection
from node.migrate import dicom_memory, open_database
from node.watch import Watch
from node.wiring.audit import Auditor
from node.wiring.sights import Caller, Sights, open_sights
from node.wiring.tokens import audiences, issuers_of, profile_of
from security.assertions.claims import Claims
from security.assertions.conditions import Terms
from security.assertions.refusal import TokenRefused
from security.assertions.seen import Reuse, Seen
from security.assertions.verifier import Verifier
from security.nodes import names_of
from soap.envelope import Envelope
from soap.faults import INVALID_SECURITY, SoapFault
from soap.operation import CallContext, Exchange
from storage.database import Database
from storage.errors import StorageError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UserGate:
    """Asks for assertions; ``required`` are numbers of transactions, ``exempt`` names of nodes."""

    verifier: Verifier
    sights: Sights
    required: Collection[str]
    exempt: Collection[str]
    auditor: Auditor | None

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Any]:
        """See ``soap`` Gate."""
        return self.verifier.shorten(message, certificate)

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        """See ``soap`` Gate."""
        known = self.verifier.remembers(envelope, context.certificate)
        return known or (not envelope.security and self._is_exempt(context))

    def admit(
        self, exchange: Exchange[Any, Any], envelope: Envelope, context: CallContext
    ) -> CallContext:
        """See ``soap`` Gate."""
        verify = partial(self.verifier.verify, envelope, context.certificate)
        return self.judge(exchange.number, verify, context)

    def judge(
        self, transaction: str, verify: Callable[[], Claims | None], context: CallContext
    ) -> CallContext:
        """The context with its ``Caller``, whom ``verify`` knows; raises SoapFault for who may not
        ask."""
        try:
            claims = verify()
            node = names_of(context.certificate)[1] if context.certificate else context.peer
            caller = Caller(claims, self.sights.in_emergency(claims, node))
            if claims is None and transaction in self.required and not self._is_exempt(context):
                reason = f"{transaction} needs an assertion of who asks (ITI-40)"
                raise TokenRefused(INVALID_SECURITY, reason)
        except TokenRefused as refused:
            log.warning(
                "turned away",
                code="AUTH-REFUSED",
                reason=refused.reason,
                transaction=transaction,
                peer=context.peer,
            )
            if self.auditor is not None:
                self.auditor.turned_away(refused.reason, context)
            raise refused.fault() from refused
        except StorageError as error:  # it cannot be known whether the assertion was used before
            log.error("nobody admitted", code="AUTH-STORE", error=type(error).__name__)
            raise SoapFault.busy() from error
        return context.by(caller)

    def at(self, auditor: Auditor | None) -> UserGate:
        """The gate of one door, which records as ``auditor``."""
        return replace(self, auditor=auditor)

    def _is_exempt(self, context: CallContext) -> bool:
        if context.certificate is None:
            return False
        return any(name in self.exempt for name in names_of(context.certificate))


def open_gate(
    settings: Settings, stack: ExitStack, auditor: Auditor | None
) -> tuple[UserGate, Callable[[], None]] | None:
    """The gate of a process and its daily work; None where assertions are not judged.

    Raises ConfigError and StorageError.
    """
    if not settings.judges_assertions:
        return None
    section = settings.assertions
    database = stack.enter_context(open_database(settings.access, "access"))
    seen = open_seen(settings, stack, database, dicom_memory(settings))
    verifier = Verifier(profile_of(settings), issuers_of(settings), terms_of(settings), seen)
    sights = open_sights(settings, stack, database, auditor)
    gate = UserGate(verifier, sights, section.required, section.exempt, auditor)
    return gate, lambda: _forget(seen)


def open_seen(
    settings: Settings, stack: ExitStack, own: Database, other: AccessSection | None
) -> Seen:
    """The memory of a process in ``own``; ``other`` is that of the other process, where each has
    its own. Raises ConfigError and StorageError."""
    others = []
    if other is not None:
        others.append(stack.enter_context(open_database(other, "access", read_only=True)))
    return Seen(own, Reuse(settings.assertions.reuse), others)


def watch_issuers(settings: Settings, verifier: Verifier) -> Watch:
    """What keeps the believed keys equal to their files: an issuer may change its key."""
    files = [one.certificates for one in settings.assertions.issuers]
    return Watch(
        "issuers",
        "AUTH-ISSUERS",
        "AUTH-ISSUERS-REFUSED",
        files,
        lambda: verifier.believe(issuers_of(settings)),
    )


def _forget(seen: Seen) -> None:
    log.info("assertions forgotten", code="AUTH-FORGOTTEN", count=seen.forget(datetime.now(UTC)))


def terms_of(settings: Settings) -> Terms:
    """What assertions must say of themselves."""
    section = settings.assertions
    return Terms(
        audiences=audiences(settings),
        longest=timedelta(hours=section.longest_hours),
        skew=timedelta(seconds=section.skew_seconds),
    )
