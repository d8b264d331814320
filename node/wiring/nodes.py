"""Which nodes may connect to a process, at each of its doors; who is turned away is recorded.

The list is that of the configuration (``security.nodes``). Records of refusals, of handshakes that
fail and of peers that break the protocol are few whatever a scanner does: one for an address and
minute, with the number of those that it stands for (ITI TF-2 3.19, DICOM PS3.15 A.5.3.11).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from hl7.ack import REJECT, UNREADABLE, acknowledge
from hl7.adt import LINK_CHANGE
from hl7.errors import INTERNAL, InvalidMessage, Problem
from hl7.message import Message
from hl7.mllp import Handler
from imaging_source.ledger import End
from node.config import Settings
from node.config_trust import KnownNodeSection, ProxySection
from node.config_values import LISTENERS
from node.watch import Watch
from node.wiring.audit import Auditor
from node.wiring.common import renew_tls, tls_files, trusted_by
from node.wiring.gate import UserGate
from node.wiring.ledger import node_of
from security.forwarded import Judge, Proxies
from security.nodes import KnownNode, NodeRefused, Nodes, Permit
from security.trust import Revocations, read_certificates, read_revocations
from soap.asgi import Application, Receive, Scope, Send, certificate_of, peer_of, respond
from soap.envelope import Envelope
from soap.faults import FAILED_AUTHENTICATION, SENDER, SoapFault
from soap.operation import CallContext, Exchange, Gate
from transactions.audit import Node

log = structlog.get_logger(__name__)

# One record for an address in this time ...
RECORD_SECONDS = 60.0
# ... and this many addresses at once; all others share one record.
MOST_ADDRESSES = 1000


class Sparing:
    """Which of many events get a record: the first of an address in a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def recorded(self, address: str, reason: str) -> str | None:
        """What to record of an event of ``address``: its reason, and how many before it went
        without a record; None while one is recent."""
        unsaid = self._due(address)
        if unsaid is None:
            return None
        return f"{reason}; {unsaid} more in the last minutes" if unsaid else reason

    def _due(self, address: str) -> int | None:
        """How many of ``address`` went without a record; None while one is recent."""
        now = self._clock()
        with self._lock:
            if len(self._told) >= MOST_ADDRESSES and address not in self._told:
                self._forget(now)
                if len(self._told) >= MOST_ADDRESSES:
                    address = ""
            at, unsaid = self._told.get(address, (float("-inf"), 0))
            if now - at < RECORD_SECONDS:
                self._told[address] = (at, unsaid + 1)
                return None
            self._told[address] = (now, 0)
            return unsaid

    def _forget(self, now: float) -> None:
        self._told = {
            one: told for one, told in self._told.items() if now - told[0] < RECORD_SECONDS
        }


class Refusals:
    """Records refused nodes in the log and the trail, and who is not understood in the trail.

    Neither waits nor raises; each is spared for itself, so that noise hides no refusal.
    """

    def __init__(
        self, auditor: Auditor | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._auditor = auditor
        self._refused, self._broken = Sparing(clock), Sparing(clock)

    def __call__(self, address: str, reason: str, *, handshake: bool = True) -> None:
        """Record that ``address`` was refused: in its handshake, or as a node that is not listed
        or may not do what it asks."""
        if (told := self._refused.recorded(address, reason)) is None:
            return
        log.warning("node refused", code="NODE-REFUSED", peer=address, reason=told)
        if self._auditor is not None:
            self._auditor.refused_node(told, address, handshake=handshake)

    def not_understood(self, peer: Node, reason: str) -> None:
        """Record that ``peer`` broke the protocol, and was cut off."""
        if self._auditor is None:
            return
        if (told := self._broken.recorded(peer.address, reason)) is not None:
            self._auditor.not_understood(told, peer)


class Standing:
    """What CRLs say of nodes whose connections stand, by the files as they have become: their
    handshakes were judged by those of then."""

    def __init__(self) -> None:
        self._lists: dict[str, Revocations] = {}

    def __bool__(self) -> bool:
        return bool(self._lists)

    def judge_by(self, listener: str, revocations: Revocations) -> None:
        """From now on judge the peers of a listener by these."""
        self._lists[listener] = revocations

    def refusal(self, listener: str, certificate: str | bytes | None) -> str:
        """Why a peer is heard no more; empty where nothing speaks against it."""
        lists = self._lists.get(listener)
        return lists.revoked(certificate) if lists and certificate else ""


@dataclass(frozen=True, slots=True)
class NodeGuard:
    """The nodes that may connect to one process, as each kind of door asks for them."""

    nodes: Nodes
    refused: Refusals
    proxies: Proxies = field(default_factory=Proxies)
    standing: Standing = field(default_factory=Standing)

    def permit(self, certificate: bytes | None, address: str, title: str) -> Permit:
        """What a DICOM peer may do; raises NodeRefused."""
        try:
            permit = self.nodes.permit(certificate, title)
            permit.check_title(title)
        except NodeRefused as refused:
            self.turned_away(address, str(refused))
            raise
        return replace(permit, refusal=partial(self.standing.refusal, "dicom", certificate))

    def turned_away(self, address: str, reason: str) -> None:
        """Record a node that is not listed, or may not do what it asks."""
        self.refused(address, reason, handshake=False)

    def not_understood(self, peer: End, reason: str) -> None:
        """Record a DICOM peer that broke the protocol."""
        self.refused.not_understood(node_of(peer), reason)

    def overlong(self, address: str, reason: str) -> None:
        """Record an MLLP peer whose block does not end."""
        self.refused.not_understood(Node(address, address), reason)

    def check(self, certificate: bytes | None, address: str, transaction: str) -> None:
        """Raise NodeRefused unless a peer may do ``transaction``."""
        try:
            self.nodes.check(certificate, transaction)
        except NodeRefused as refused:
            self.turned_away(address, str(refused))
            raise

    def check_standing(self, listener: str, certificate: str | bytes | None, address: str) -> None:
        """Raise NodeRefused for a peer that was revoked since it connected."""
        if words := self.standing.refusal(listener, certificate):
            self.turned_away(address, words)
            raise NodeRefused(words)

    def admits(self, certificate: bytes | None, address: str, transaction: str) -> bool:
        """Whether a peer may do ``transaction``."""
        try:
            self.check(certificate, address, transaction)
        except NodeRefused:
            return False
        return True

    def soap(self, users: UserGate | None) -> Gate | None:
        """The gate of a SOAP endpoint: the node first, then ``users``."""
        return NodeGate(self, users) if self.nodes else users

    def http(self, application: Application, transaction: Callable[[Scope], str]) -> Application:
        """``application``, for nodes that may do what they ask of it."""
        return NodeDoor(self, application, transaction) if self.nodes else application

    def mllp(self, handler: Handler) -> Callable[[bytes | None], Handler] | None:
        """``handler`` for messages of a node, by its certificate; None where all may send."""
        if not self.nodes and not self.standing:
            return None

        def of(certificate: bytes | None) -> Handler:
            def handle(raw: bytes, peer: str) -> bytes:
                header = _header(raw)
                try:
                    self.check_standing("mllp", certificate, peer)
                    self.check(certificate, peer, _feed(header))
                except NodeRefused as refused:
                    return acknowledge(header, REJECT, [Problem(INTERNAL, str(refused))])
                return handler(raw, peer)

            return handle

        return of


@dataclass(frozen=True, slots=True)
class NodeGate:
    """Admits listed nodes; ``users`` then asks for whom they call."""

    guard: NodeGuard
    users: UserGate | None

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Any]:
        """See ``soap`` Gate."""
        return (message, None) if self.users is None else self.users.shorten(message, certificate)

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        """See ``soap`` Gate."""
        return self.users is None or self.users.remembers(envelope, context)

    def admit(
        self, exchange: Exchange[Any, Any], envelope: Envelope, context: CallContext
    ) -> CallContext:
        """See ``soap`` Gate."""
        try:
            self.guard.check(der_of(context.certificate), context.peer, exchange.number)
        except NodeRefused as refused:
            raise SoapFault(SENDER, str(refused), subcode=FAILED_AUTHENTICATION) from refused
        return context if self.users is None else self.users.admit(exchange, envelope, context)


@dataclass(frozen=True, slots=True)
class NodeDoor:
    """Stands before an HTTP application: 403 for a node that may not do what it asks."""

    guard: NodeGuard
    application: Application
    transaction: Callable[[Scope], str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            self.guard.check(der_of(certificate_of(scope)), peer_of(scope), self.transaction(scope))
        except NodeRefused as refused:
            await respond(send, 403, f"{refused}\n".encode())
            return
        await self.application(scope, receive, send)


def open_guard(settings: Settings, auditor: Auditor | None) -> NodeGuard:
    """The guard of a process. Raises TlsError."""
    nodes = Nodes([_known(one) for one in settings.tls.nodes])
    proxies = Proxies([_proxy(one) for one in settings.tls.proxies])
    guard = NodeGuard(nodes, Refusals(auditor), proxies)
    if settings.tls.enabled:
        _take_over(settings, guard)
    return guard


def watch_tls(settings: Settings, guard: NodeGuard) -> list[Watch]:
    """What has the TLS of this process follow its files; nothing on a plain node."""
    if not settings.tls.enabled:
        return []

    def take_over() -> None:
        renew_tls()
        _take_over(settings, guard)

    return [Watch("certificates", "NODE-TLS", "NODE-TLS-REFUSED", tls_files(settings), take_over)]


def _take_over(settings: Settings, guard: NodeGuard) -> None:
    """Know the node itself, and what proxies are believed, by the files as they are. TlsError."""
    guard.nodes.own(read_certificates(settings.tls.certificate)[:1])
    for listener in LISTENERS:
        trust, crl = trusted_by(settings, listener)
        if crl is not None:
            revocations = Revocations(read_revocations(crl, read_certificates(trust)))
            guard.standing.judge_by(listener, revocations)
    if guard.proxies:
        trust, crl = trusted_by(settings, "http")
        trusted = read_certificates(trust)
        guard.proxies.judge_by(Judge(trusted, Revocations(read_revocations(crl, trusted))))


def _proxy(section: ProxySection) -> KnownNode:
    return KnownNode(
        Permit(section.name), section.certificate or "", section.subject or "", section.san or ""
    )


def _known(section: KnownNodeSection) -> KnownNode:
    permit = Permit(section.name, frozenset(section.transactions), frozenset(section.ae_titles))
    return KnownNode(permit, section.certificate or "", section.subject or "", section.san or "")


def der_of(certificate: str | None) -> bytes | None:
    """A certificate as TLS shows it, of its PEM."""
    return ssl.PEM_cert_to_DER_cert(certificate) if certificate else None


def _header(raw: bytes) -> Message:
    try:
        return Message.read_header(raw)
    except InvalidMessage:
        return UNREADABLE


def _feed(header: Message) -> str:
    """Which transaction a message belongs to."""
    if header["MSH-9.1"] in ("ORU", "MDM"):
        return "ORU"
    return "ITI-64" if header["MSH-9.2"] == LINK_CHANGE else "ITI-8"
