"""One SOAP call on the server, from the request's first byte to the answer's last.

The event loop only moves bytes between the socket and batches; parsing of large messages,
spooling, handlers and reading of attachments happen in the pool, one job at a time for one
call, the next batch being read while the last is written. So memory stays flat whatever the
size, and a slow disk slows the sender down instead of filling the memory.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from soap.asgi import Headers, Receive, Scope, Send, certificate_of, header, peer_of, respond
from soap.envelope import Envelope, read_envelope, write_fault, write_response
from soap.faults import (
    BUSY,
    RECEIVER,
    SENDER,
    InvalidBody,
    MessageError,
    PeerError,
    SoapFault,
)
from soap.intake import Disconnected, Intake
from soap.limits import BATCH, SMALL
from soap.media import MULTIPART, SOAP, SOAP11, parse_media_type
from soap.message import ContentError, Incoming, Outgoing, Received
from soap.mtom import Assembly, Ledger, Package, package
from soap.operation import ACCEPTED, CallContext, Exchange, Operation, Written
from soap.sending import PeerGone, Sending
from soap.service import Ended, Outcome, Service
from soap.xml import parse

P = ParamSpec("P")
T = TypeVar("T")

RETRY_AFTER = b"2"
"""Seconds: a burst the queue cannot hold has passed, or not, by then."""

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_ID_LIMIT = 200

logger = logging.getLogger("soap.call")


@dataclass(slots=True)
class Streamed:
    """An envelope that is sent while it is made."""

    envelope: Iterable[bytes]
    length: int | None = None

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, once; raises what making them raises."""
        return iter(self.envelope)


@dataclass(slots=True)
class Reply:
    """An answer ready to go: bytes, or a stream of them."""

    status: int
    content_type: str
    body: bytes = b""
    stream: Package | Streamed | None = None


def _nothing() -> None:
    """Nobody is to be told that an answer broke off."""


class Call:
    """Serves one request; ``run`` is all there is to do with it."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self._service = service
        self._scope = scope
        self._peer = peer_of(scope)
        self._receive = receive
        self._send = send
        self._intake = Intake(scope, receive, service.limits, service.budget)
        self._ledger = Ledger(service.spool)
        self._job: Future[Any] | None = None
        self._recorded: Written | None = None
        self._broke_off: Callable[[], None] = _nothing
        self._media = parse_media_type(header(scope, b"content-type"))
        self._multipart = self._media.name == MULTIPART
        self._message_id: str | None = None
        self._correlation_id = ""
        self._exchange: Exchange[Any, Any] | None = None
        self._is_understood = False
        self._outcome = Outcome.OK
        self._sent = 0

    async def run(self) -> None:
        """Receive, perform, answer; then give up whatever nobody has kept."""
        started = time.perf_counter()
        try:
            await self._answer(await self._reply())
        except Disconnected:
            self._outcome = Outcome.ABORTED
        except BaseException:  # also of a server that stops
            self._outcome = Outcome.BROKEN
            raise
        finally:
            self._release()
            self._report(time.perf_counter() - started)

    # -- from request to reply

    async def _reply(self) -> Reply:
        try:
            return await self._performed()
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001 - logged below
            if isinstance(error, SoapFault) and not isinstance(error, PeerError):
                return self._fault(error)
            self._outcome = Outcome.RECEIVER
            logger.error("call failed", extra=self._facts(error=describe(error)))
            reason = f"internal error, reference {self._correlation()}"
            return self._fault(SoapFault(RECEIVER, reason))

    async def _performed(self) -> Reply:
        """The reply, once whatever is to be recorded of the call is durable."""
        try:
            return await self._understood_and_performed()
        finally:
            if self._recorded is not None:
                await asyncio.wrap_future(self._recorded)

    async def _understood_and_performed(self) -> Reply:
        """The reply; raises SoapFault, for whatever its sender did."""
        try:
            self._check_head()
            return await (self._with_parts() if self._multipart else self._simple())
        except (MessageError, ContentError) as error:
            fault = SoapFault(SENDER, str(error))
            self._record_unread(fault)
            raise fault from error
        except SoapFault as fault:
            self._record_unread(fault)
            raise

    def _record_unread(self, fault: SoapFault) -> None:
        """Record a call that came neither to the gate nor to a handler: they have their own."""
        if self._is_understood or fault.status == BUSY or self._service.witness is None:
            return
        # By the fault's code alone: its reason may quote the message.
        reason = (fault.subcode or fault.code).rpartition("}")[2]
        self._recorded = self._service.witness.unread(self._exchange, reason, self._context())

    def _check_head(self) -> None:
        """Refuse by the request's head alone what need not be read."""
        if self._media.name not in (MULTIPART, SOAP, SOAP11):
            reason = f"expected {SOAP} or {MULTIPART}, not {self._media.name[:80]!r}"
            raise SoapFault(SENDER, reason, status=415)
        if header(self._scope, b"content-encoding") not in ("", "identity"):
            raise SoapFault(SENDER, "compressed messages are not accepted", status=415)
        limit = self._service.limits.message if self._multipart else self._service.limits.envelope
        declared = header(self._scope, b"content-length")
        if declared.isdecimal() and int(declared) > limit:
            raise SoapFault(SENDER, f"the message is larger than {limit} bytes", status=413)
        if self._service.in_flight >= self._service.max_in_flight:
            raise SoapFault.busy()

    async def _simple(self) -> Reply:
        data = await self._intake.all()
        if len(data) > SMALL:
            return await self._work(self._understand_and_perform, data, {})
        understood = operation, envelope, _ = self._understand(data, {})
        gate = self._service.gate
        if operation.inline and (gate is None or gate.remembers(envelope, self._context())):
            return self._perform(*understood)
        return await self._work(self._perform, *understood)

    async def _with_parts(self) -> Reply:
        assembly = Assembly(self._media, self._ledger, self._service.limits)
        batch = await self._intake.batch()
        while self._intake.more:
            writing = self._start(_feed, assembly, batch)
            self._intake.hold(3 * BATCH + assembly.root_size)
            batch = await self._intake.batch()
            await asyncio.wrap_future(writing)
        return await self._work(self._complete, assembly, batch)

    def _complete(self, assembly: Assembly, batch: Sequence[bytes]) -> Reply:
        _feed(assembly, batch)
        return self._understand_and_perform(*assembly.finish())

    def _understand_and_perform(self, data: bytes, attachments: Mapping[str, Received]) -> Reply:
        return self._perform(*self._understand(data, attachments))

    def _understand(
        self, data: bytes, attachments: Mapping[str, Received]
    ) -> tuple[Operation[Any, Any], Envelope, Incoming]:
        gate, cut = self._service.gate, None
        if gate is not None:
            data, cut = gate.shorten(data, certificate_of(self._scope))
        root = parse(data, self._service.limits)
        envelope = read_envelope(root, understood=self._service.understood)
        envelope.cut = cut
        self._message_id = envelope.message_id
        operation = self._service.dispatch(envelope)
        self._exchange = operation.exchange
        if operation.exchange.mtom and not self._multipart:  # ITI TF-2 V.8.1
            reason = f"{operation.exchange.name} travels as MTOM ({MULTIPART})"
            raise SoapFault(SENDER, reason, status=415)
        incoming = Incoming(
            body=envelope.body,
            action=self._action,
            message_id=envelope.message_id,
            relates_to=envelope.relates_to,
            attachments=attachments,
            spool=self._ledger.spool,
            peer=self._peer,
            sent_to=(envelope.to or "", _target(self._scope)),
        )
        self._is_understood = True
        return operation, envelope, incoming

    def _perform(
        self, operation: Operation[Any, Any], envelope: Envelope, incoming: Incoming
    ) -> Reply:
        exchange = operation.exchange
        context = self._context()
        if self._service.gate is not None:
            context = self._service.gate.admit(exchange, envelope, context)
        try:
            request = exchange.read_request(incoming)
        except ContentError:
            self._is_understood = False
            raise
        except InvalidBody as error:
            self._outcome = Outcome.REFUSED
            if self._service.witness is not None:
                self._recorded = self._service.witness.unread(exchange, str(error), context)
            response = exchange.refuse(str(error))
        else:
            response = self._handle(operation, request, context)
        if not exchange.response_action:  # one-way: accepted, and nothing to say
            return Reply(202, "")
        return self._render(exchange.write_response(response), exchange.response_action)

    def _handle(self, operation: Operation[Any, Any], request: Any, context: CallContext) -> Any:
        witness = self._service.witness
        if witness is None:
            return operation.handler(request, context)
        begun = witness.begins(operation.exchange, request, context)
        told = None
        try:
            response = operation.handler(request, context)
            told = response if operation.exchange.response_action else ACCEPTED
        finally:
            self._recorded = witness.saw(operation.exchange, request, told, context, begun)
        self._broke_off = partial(witness.broke_off, operation.exchange, request, context)
        return response

    def _context(self) -> CallContext:
        certificate = certificate_of(self._scope)
        return CallContext(
            self._message_id, self._correlation(), self._peer, self._action, certificate
        )

    @property
    def _action(self) -> str:
        """The action of the transaction that was asked for, once it is recognised."""
        return self._exchange.action if self._exchange else ""

    def _render(self, outgoing: Outgoing, action: str) -> Reply:
        envelope = write_response(outgoing.body, action=action, relates_to=self._message_id)
        if self._multipart:
            return _wrap(200, package(envelope, outgoing.parts, action=action))
        if not isinstance(outgoing.parts, Sequence) or outgoing.parts:
            raise TypeError(f"{action} carries attachments but does not travel as MTOM")
        if not isinstance(envelope, Sequence):
            return Reply(200, _soap_type(action), stream=Streamed(envelope))
        return Reply(200, _soap_type(action), b"".join(envelope))

    def _fault(self, fault: SoapFault) -> Reply:
        blame = Outcome.RECEIVER if fault.code == RECEIVER else Outcome.SENDER
        self._outcome = Outcome.BUSY if fault.status == BUSY else blame
        pieces = write_fault(fault, relates_to=fault.relates_to or self._message_id)
        if self._multipart and self._action:  # the same encoding, once a message was recognised
            return _wrap(fault.status, package(pieces, (), action=fault.action))
        return Reply(fault.status, _soap_type(fault.action), b"".join(pieces))

    # -- jobs in the pool

    def _start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        job = self._service.pool.submit(function, *args, **kwargs)
        self._job = job
        return job

    async def _work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the bounded number of jobs; raises the busy fault beyond it."""
        service = self._service
        if service.in_flight >= service.max_in_flight:
            raise SoapFault.busy()
        service.in_flight += 1
        try:
            return await asyncio.wrap_future(self._start(function, *args, **kwargs))
        finally:
            service.in_flight -= 1

    # -- from reply to response

    async def _answer(self, reply: Reply) -> None:
        headers: Headers = []
        if reply.status == BUSY:
            headers.append((b"retry-after", RETRY_AFTER))
        if self._intake.more:
            headers.append((b"connection", b"close"))
            if self._intake.received or not header(self._scope, b"expect"):
                await self._intake.drain()
        if reply.stream is not None:
            await self._stream(reply, reply.stream)
            return
        self._sent = len(reply.body)
        await respond(
            self._send, reply.status, reply.body, content_type=reply.content_type, headers=headers
        )

    async def _stream(self, reply: Reply, stream: Package | Streamed) -> None:
        """Send a stream; break off rather than lie."""
        headers: Headers = [(b"content-type", reply.content_type.encode("latin-1", "replace"))]
        if stream.length is not None:
            headers.append((b"content-length", str(stream.length).encode("ascii")))
        await self._send(
            {"type": "http.response.start", "status": reply.status, "headers": headers}
        )
        sending = Sending(self._scope, self._receive, self._send, self._start)
        try:
            await sending.run(stream.pieces(), stream.length)
        except PeerGone:
            self._outcome = Outcome.ABORTED
            self._broke_off()
        except Exception as error:  # noqa: BLE001 - logged below
            self._broke_off()
            # Returning without the rest makes the server close the connection: the peer sees
            # a body cut short, never a complete one.
            self._outcome = Outcome.BROKEN
            logger.error("answer broke off", extra=self._facts(error=describe(error)))
        finally:
            self._sent = sending.sent

    # -- afterwards

    def _release(self) -> None:
        """Discard what was spooled, once no job of this call runs any more; never waits."""
        self._intake.hold(0)
        if self._job is not None and not self._job.done():
            # Also with an empty ledger: the job may yet open a spool.
            self._job.add_done_callback(lambda _job: self._close())
        elif self._ledger:
            self._service.pool.submit(self._close)

    def _close(self) -> None:
        try:
            self._ledger.close()
        except OSError as error:
            logger.error("spooled parts remain", extra=self._facts(error=describe(error)))

    def _report(self, seconds: float) -> None:
        if self._service.observe is not None:
            self._service.observe(
                Ended(
                    self._action,
                    self._outcome,
                    time.time(),
                    seconds,
                    self._intake.received,
                    self._sent,
                    self._correlation(),
                    self._peer,
                )
            )

    def _facts(self, **more: object) -> dict[str, object]:
        return {
            "action": self._action,
            "outcome": self._outcome,
            "correlation_id": self._correlation(),
            "peer": self._peer,
            **more,
        }

    def _correlation(self) -> str:
        if not self._correlation_id:
            trace = _TRACEPARENT.match(header(self._scope, b"traceparent"))
            given = trace[1] if trace else (self._message_id or "")
            if not given.isprintable():
                given = "".join(filter(str.isprintable, given))
            self._correlation_id = given[:_ID_LIMIT] or f"urn:uuid:{uuid.uuid4()}"
        return self._correlation_id


def _feed(assembly: Assembly, batch: Sequence[bytes]) -> None:
    for piece in batch:
        assembly.feed(piece)


def _wrap(status: int, stream: Package) -> Reply:
    """Small packages become one body at once: then a part that cannot be read is still a fault."""
    if stream.length is None or stream.length > BATCH:
        return Reply(status, stream.content_type, stream=stream)
    return Reply(status, stream.content_type, b"".join(stream.chunks()))


def _target(scope: Scope) -> str:
    """Path and query of the request."""
    return f"{scope['path']}?{scope['query_string'].decode('latin-1')}"


def _soap_type(action: str) -> str:
    return f'{SOAP}; charset=UTF-8; action="{action}"'


def describe(error: BaseException) -> str:
    """Class and place of an error, without its text, which may quote health data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__module__}.{type(error).__qualname__} at {places}"
