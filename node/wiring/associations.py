"""Who is behind DICOM associations: assertions are judged as at the other doors (ITI-40).

What may be seen is then what that user may see, not what the node may (``node.wiring.dicom``). An
emergency is declared at the other doors: over DICOM nobody breaks the glass.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from imaging_source.ledger import End
from imaging_source.users import UserRefused
from node.config import Settings
from node.migrate import dicom_memory, open_database
from node.wiring.audit import Auditor
from node.wiring.gate import open_seen, terms_of
from node.wiring.ledger import node_of
from node.wiring.tokens import issuers_of, profile_of
from security.assertions.claims import Claims
from security.assertions.refusal import TokenRefused
from security.assertions.verifier import Verifier
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import authentication_failed_event

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Users:
    """Judges for whom associations are; ``required`` are titles that must say so, ``*`` all."""

    verifier: Verifier
    required: Collection[str]
    auditor: Auditor | None
    title: str

    def __call__(self, peer: End, assertion: bytes) -> Claims | None:
        """See ``imaging_source.users.Identify``."""
        try:
            if assertion:
                return self.verifier.verify_token(assertion, _pem(peer.certificate))
        except TokenRefused as refused:
            self._turn_away(peer, refused.reason)
            raise UserRefused(refused.reason) from refused
        if peer.title in self.required or "*" in self.required:
            reason = "the association needs an assertion of a user (PS3.7 D.3.3.7)"
            self._turn_away(peer, reason)
            raise UserRefused(reason)
        return None

    def _turn_away(self, peer: End, reason: str) -> None:
        """Record that a user was not proved, durably, before the association is rejected."""
        log.warning("turned away", code="AUTH-REFUSED", reason=reason, peer=peer.address)
        if self.auditor is None:
            return

        def describe(scene: Scene) -> list[AuditEvent]:
            seen = scene._replace(client=node_of(peer))
            return [authentication_failed_event(self.title, reason, seen)]

        self.auditor.trail.ready()
        self.auditor.record(describe).result()


def open_users(settings: Settings, stack: ExitStack, auditor: Auditor | None) -> Users | None:
    """What judges for whom associations are; None where assertions are not judged.

    Raises ConfigError and StorageError.
    """
    if not settings.judges_assertions:
        return None
    memory = dicom_memory(settings)
    database = stack.enter_context(open_database(memory or settings.access, "access"))
    seen = open_seen(settings, stack, database, memory and settings.access)
    seen.forget(datetime.now(UTC))
    verifier = Verifier(profile_of(settings), issuers_of(settings), terms_of(settings), seen)
    section = settings.imaging_source
    return Users(verifier, frozenset(section.user_titles), auditor, section.ae_title)


def _pem(certificate: bytes | None) -> str | None:
    return None if certificate is None else ssl.DER_cert_to_PEM_cert(certificate)
