"""What all calls of one endpoint share, and how a call is reported."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from soap.envelope import ANONYMOUS, SECURITY, Envelope, require_addressing
from soap.faults import ACTION_NOT_SUPPORTED, ONLY_ANONYMOUS, SENDER, SoapFault
from soap.intake import MemoryBudget
from soap.limits import Limits
from soap.message import Spool
from soap.operation import Gate, Operation, Witness


class Ended(NamedTuple):
    """A call that has ended: how, when (``at``, in seconds since 1970), after how many ``seconds``,
    and how many bytes came and went.

    ``action`` is empty unless it is one we serve; ``outcome`` is of ``Outcome``: both bounded, so
    they can be metric labels.
    """

    action: str
    outcome: str
    at: float
    seconds: float
    received: int
    sent: int
    correlation_id: str = ""
    peer: str = ""


Observe = Callable[[Ended], None]
"""Told once of each call, to count and to log it; never fails."""


class Outcome:
    """How a call can end."""

    OK = "ok"
    REFUSED = "refused"  # a body that does not follow its schema
    SENDER = "sender"  # a fault the sender caused
    RECEIVER = "receiver"  # a fault of our own
    BUSY = "busy"
    ABORTED = "aborted"  # the peer went away
    BROKEN = "broken"  # our answer broke off


@dataclass(slots=True)
class Service:
    """What all calls of one endpoint share."""

    operations: Sequence[Operation[Any, Any]]
    spool: Callable[[], Spool]
    limits: Limits
    pool: ThreadPoolExecutor
    max_in_flight: int
    budget: MemoryBudget
    strict_addressing: bool
    reply_to: frozenset[str]
    observe: Observe | None
    witness: Witness | None
    gate: Gate | None
    in_flight: int = 0

    @property
    def understood(self) -> Container[str]:
        """Names of the headers, besides addressing, that are acted upon."""
        return (SECURITY,) if self.gate else ()

    def dispatch(self, envelope: Envelope) -> Operation[Any, Any]:
        """The operation for a message; raises SoapFault when there is none (V.3.2)."""
        if self.strict_addressing:
            require_addressing(envelope)
        for operation in self.operations:
            exchange = operation.exchange
            if exchange.root == envelope.body.tag and envelope.action in ("", exchange.action):
                self._check_reply(envelope)
                return operation
        reason = f"no operation here has the action {envelope.action!r} and the body "
        raise SoapFault(SENDER, reason + envelope.body.tag, subcode=ACTION_NOT_SUPPORTED)

    def _check_reply(self, envelope: Envelope) -> None:
        for address in (envelope.reply_to, envelope.fault_to):
            if address not in (None, ANONYMOUS) and address not in self.reply_to:
                reason = "answers are sent on the same connection only (anonymous ReplyTo)"
                raise SoapFault(SENDER, reason, subcode=ONLY_ANONYMOUS)
