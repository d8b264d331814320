"""What an endpoint offers: exchanges bound to the functions that perform them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from soap.envelope import Envelope
from soap.message import Incoming, Outgoing

Request = TypeVar("Request")
Response = TypeVar("Response")

Written = Future[None] | asyncio.Future[None]
"""Done when a record is durable: the latter for who is in the event loop."""


class Exchange(Protocol[Request, Response]):
    """One request and its response on the wire, as ``transactions.Transaction`` declares it."""

    @property
    def number(self) -> str:
        """The transaction's number, "ITI-18"."""

    @property
    def name(self) -> str:
        """Its name, "Registry Stored Query"."""

    @property
    def action(self) -> str:
        """WS-Addressing action of the request."""

    @property
    def response_action(self) -> str:
        """WS-Addressing action of the response; empty for a one-way exchange, which is answered
        by HTTP 202 alone."""

    @property
    def root(self) -> str:
        """The request's root element in Clark notation."""

    @property
    def mtom(self) -> bool:
        """Whether both directions travel as MTOM/XOP."""

    @property
    def read_request(self) -> Callable[[Incoming], Request]:
        """Makes the request of a message; raises faults.InvalidBody, message.ContentError."""

    @property
    def write_request(self) -> Callable[[Request], Outgoing]:
        """Makes the message of a request."""

    @property
    def read_response(self) -> Callable[[Incoming], Response]:
        """Makes the response of a message; raises faults.InvalidBody, message.ContentError."""

    @property
    def write_response(self) -> Callable[[Response], Outgoing]:
        """Makes the message of a response."""

    @property
    def refuse(self) -> Callable[[str], Response]:
        """Makes the response to a body that could not be read (ITI TF-3 4.2.4); raises SoapFault
        where the standard wants a fault."""


class CallContext(NamedTuple):
    """Who calls, and under which identifiers the call is found again.

    ``peer`` is the network address, ``certificate`` the verified client certificate in PEM
    (None without mutual TLS). ``correlation_id`` is the trace of ``traceparent`` where the
    caller sent one, else the MessageID, else made up. ``user`` is whatever the gate has learnt of
    the person behind the call.
    """

    message_id: str | None
    correlation_id: str
    peer: str
    action: str
    certificate: str | None = None
    user: Any = None

    def by(self, user: Any) -> CallContext:
        """The same call, of ``user``."""
        return CallContext(
            self.message_id, self.correlation_id, self.peer, self.action, self.certificate, user
        )


class Gate(Protocol):
    """Judges who calls before an operation is performed."""

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Any]:
        """An envelope of the node of ``certificate`` without what need not be read again, and what
        its ``Envelope`` is to know of that (``cut``)."""

    def remembers(self, envelope: Envelope, context: CallContext) -> bool:
        """Whether judging it takes a look into memory only, and no time."""

    def admit(
        self, exchange: Exchange[Any, Any], envelope: Envelope, context: CallContext
    ) -> CallContext:
        """The context with what is known of the caller; raises SoapFault for one who may not."""


ACCEPTED: Final = object()
"""What a witness is told a one-way message was answered, whose handler raised nothing."""


class Witness(Protocol):
    """Sees every call that is performed, and keeps a record of it."""

    def begins(self, exchange: Exchange[Any, Any], request: Any, context: CallContext) -> Any:
        """What ``saw`` is to know of a call that is about to be performed.

        Raises SoapFault when nothing can be recorded: then nothing is performed either.
        """

    def saw(
        self,
        exchange: Exchange[Any, Any],
        request: Any,
        response: Any,
        context: CallContext,
        begun: Any,
    ) -> Written:
        """Record a call; the answer leaves when the future is done. ``response`` is None when
        the handler gave none, ``begun`` what ``begins`` returned."""

    def unread(
        self, exchange: Exchange[Any, Any] | None, reason: str, context: CallContext
    ) -> Written:
        """Record a call that could not be read, and so was not performed; ``exchange`` is None
        where it could not even be told what was asked, ``reason`` what of the caller's error may be
        recorded. The answer leaves when the future is done.

        Raises SoapFault when nothing can be recorded.
        """

    def broke_off(self, exchange: Exchange[Any, Any], request: Any, context: CallContext) -> None:
        """Record that an answer that was recorded did not leave whole; never waits."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Request, Response]):
    """An exchange and the plain function that performs it.

    ``inline`` runs the handler in the event loop: only for reads that answer within about a
    millisecond and never wait. Messages with attachments and large ones use the pool anyway.
    The handler may raise ``SoapFault`` (``SoapFault.busy()`` when overloaded); whatever else
    it raises becomes a Receiver fault that tells the caller nothing but a reference.
    """

    exchange: Exchange[Request, Response]
    handler: Callable[[Request, CallContext], Response]
    inline: bool = False
