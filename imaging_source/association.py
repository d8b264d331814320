"""One association with a peer that asked for it, first byte to last (PS3.8 9.2, PS3.7 9).

Runs in the thread of its connection: PDUs are read one after the other through the guard,
data set fragments go straight from the read buffer to the spool, and the response is sent
when the instance is durable. Requests for other services are gathered and handed to their
handlers (``imaging_source.service``). The acceptor's half of the state machine is so small that its
states are places in the code: waiting for the request, established, gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

import structlog

from imaging_source.arriving import Refusal, Sink, recorded, sink_of, written
from imaging_source.dimse import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    COMMAND_LIMIT_BYTES,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    N_SET_RQ,
    RESPONSE,
    Command,
    Fragment,
    read_command,
    read_fragments,
    write_response,
)
from imaging_source.elements import Unreadable
from imaging_source.guard import (
    AbortReason,
    Doorman,
    Limits,
    PduReader,
    PduType,
    PeerGone,
    ProtocolError,
)
from imaging_source.intake import Intake, Outcome, Status
from imaging_source.ledger import End, Records, Service
from imaging_source.line import DATA_SET_LIMIT_BYTES, Line
from imaging_source.negotiation import (
    CALLING_AE_TITLE_UNKNOWN,
    LOCAL_LIMIT_EXCEEDED,
    NOT_THIS_USER,
    TEMPORARY_CONGESTION,
    VERIFICATION,
    Accepted,
    Context,
    Rejection,
    Titles,
    negotiate,
    release_response,
    titles_in,
)
from imaging_source.service import NOT_AUTHORIZED, Exchange, Handler, Services, answer
from imaging_source.users import Identify, UserRefused, nobody
from security.nodes import EVERYTHING, NodeRefused, Permit
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

# Status of a response to a request that is not for a storage provider (PS3.7 C.5).
_UNRECOGNIZED_OPERATION = 0x0211

# What a permit calls the requests.
_NAMES = {
    C_ECHO_RQ: "C-ECHO",
    C_STORE_RQ: "C-STORE",
    C_FIND_RQ: "C-FIND",
    C_MOVE_RQ: "C-MOVE",
    C_GET_RQ: "C-GET",
    N_EVENT_REPORT_RQ: "N-EVENT-REPORT",
    N_SET_RQ: "N-SET",
    N_ACTION_RQ: "N-ACTION",
    N_CREATE_RQ: "N-CREATE",
}

Permits = Callable[[bytes | None, str, str], Permit]
"""What a peer may do, by certificate (DER), address and calling title; raises NodeRefused."""


NotUnderstood = Callable[[End, str], None]
"""Is told of a peer that breaks the protocol, and how, in words of ours."""


def everything(_certificate: bytes | None, _address: str, _title: str) -> Permit:
    """The permits where every node that is trusted may do everything."""
    return EVERYTHING


class _Gathering:
    """Holds the small data set of a request that a handler will answer."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.data = bytearray()

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        if len(self.data) + len(data) > DATA_SET_LIMIT_BYTES:
            raise ProtocolError(AbortReason.INVALID_PARAMETER, "the data set is too long")
        self.data += data

    def abort(self) -> None:
        """Nothing to forget."""


class Association:
    """Serves one connection."""

    def __init__(
        self,
        connection: socket.socket,
        intake: Intake,
        doorman: Doorman,
        limits: Limits,
        titles: Titles,
        services: Services,
        permit: Callable[[str], Permit],
        turned_away: Callable[[str], None],
        not_understood: NotUnderstood,
        records: Callable[[str], Records] = lambda title: Records(asker=End(title)),
        identify: Identify = nobody,
    ) -> None:
        """``permit`` tells what may be done under a calling title, and raises NodeRefused;
        ``turned_away`` is told why a request is refused that its node may not make, and
        ``not_understood`` why an association is aborted; ``records`` tells where it is recorded;
        ``identify`` for whom the association is."""
        self._identify = identify
        self._ask_permit = permit
        self._turned_away = turned_away
        self._not_understood = not_understood
        self._permit = EVERYTHING
        self._records_of = records
        self._records = records("")  # until its title is known
        self._stored = self._records.transfers(Service.STORE)
        self._socket = connection
        self._intake = intake
        self._doorman = doorman
        self._limits = limits
        self._titles = titles
        self._services = services
        self._reader = PduReader(connection, limits)
        self._line = Line(connection, self._reader, limits)
        self._command = bytearray()
        self._context_id = 0
        self._request: Command | None = None
        self._sink: Sink | _Gathering | None = None
        self._due: _Gathering | None = None

    def serve(self) -> None:
        """Serve until the association ends, however it ends; does not close the socket."""
        try:
            if self._associate():
                while self._next():
                    pass
        except PeerGone as error:
            _log.info("association lost", code="dicom-peer-gone", reason=str(error))
        except (ProtocolError, Unreadable) as error:
            _log.warning("association aborted", code="dicom-protocol", reason=str(error))
            self._abort(error)
        finally:
            if self._sink is not None:
                self._sink.abort()
            self._stored.close()

    def _associate(self) -> bool:
        """Answer the association request; whether the association is established."""
        _, content = self._reader.read()
        offer, pdu_bytes = self._services.offer, self._limits.pdu_bytes
        result = negotiate(content, self._titles, pdu_bytes, offer)
        if isinstance(result, Accepted):
            result = self._judged(result)
        if isinstance(result, Rejection):
            called, calling = titles_in(content)
            _log.warning(
                "association rejected",
                code="dicom-rejected",
                reason=result.words,
                called=called,
                calling=calling,
                peer=self._records.asker.address,
            )
            self._line.send(result.encode())
            self._reader.drain()
            return False
        self._line.established(result.calling_ae_title, result.contexts, result.peer_pdu_bytes)
        self._stored = self._records.transfers(Service.STORE)
        self._line.send(result.pdu)
        return True

    def _judged(self, accepted: Accepted) -> Accepted | Rejection:
        """What was negotiated, or why there is no association for this node, or none now."""
        try:
            self._permit = self._ask_permit(accepted.calling_ae_title)
        except NodeRefused:
            return CALLING_AE_TITLE_UNKNOWN
        records = self._records_of(accepted.calling_ae_title)
        try:
            user = self._identify(records.asker, accepted.assertion)
        except UserRefused:
            return NOT_THIS_USER
        except StorageError as error:
            _log.error("nobody admitted", code="dicom-user", error=type(error).__name__)
            return TEMPORARY_CONGESTION
        self._records = replace(records, asker=replace(records.asker, user=user))
        if user is not None and accepted.confirming:
            accepted = replace(accepted, pdu=accepted.confirming)
        return accepted if self._doorman.associate(self._socket) else LOCAL_LIMIT_EXCEEDED

    def _may(self, request: Command) -> bool:
        """Whether this node may ask for this."""
        try:
            self._permit.check(_NAMES.get(request.field, ""))
        except NodeRefused as refused:
            self._turned_away(str(refused))
            return False
        return True

    def _next(self) -> bool:
        """Act on the next PDU; whether the association goes on."""
        kind, content = self._reader.read()
        if kind == PduType.P_DATA:
            for fragment in read_fragments(content):
                self._take(fragment)
            self._answer_due()
            return True
        if kind == PduType.RELEASE_RQ:
            self._line.send(release_response())
        elif kind == PduType.RELEASE_RP:  # an answer to nothing
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "A-RELEASE-RP without a request")
        return False

    def _take(self, fragment: Fragment) -> None:
        if fragment.is_command:
            self._take_command(fragment)
        elif self._sink is None or fragment.context_id != self._context_id:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a data set without its command")
        else:
            self._receive(fragment)

    def _take_command(self, fragment: Fragment) -> None:
        if self._sink is not None or self._due is not None:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a command inside a request")
        if fragment.context_id not in self._line.contexts:
            raise ProtocolError(
                AbortReason.INVALID_PARAMETER, f"no presentation context {fragment.context_id}"
            )
        if len(self._command) + len(fragment.data) > COMMAND_LIMIT_BYTES:
            raise ProtocolError(AbortReason.INVALID_PARAMETER, "the command is too long")
        self._command += fragment.data
        if fragment.is_last:
            self._context_id = fragment.context_id
            request = read_command(bytes(self._command))
            self._command.clear()
            self._begin(request)

    def _begin(self, request: Command) -> None:
        """Act on a request: now, or when its data set has passed."""
        if request.field == C_CANCEL_RQ:  # has no response; came after what it would cancel
            return
        if request.field & RESPONSE:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a response to nothing")
        self._request = request
        if request.has_data_set:
            permitted = self._may(request)
            self._sink = self._sink_for(request) if permitted else Refusal(NOT_AUTHORIZED)
        elif not self._may(request):
            self._respond(Outcome(NOT_AUTHORIZED))
        elif request.field == C_ECHO_RQ and self._syntax().abstract_syntax == VERIFICATION:
            self._respond(Outcome(Status.SUCCESS))
        elif request.field == C_STORE_RQ or self._handler(request) is not None:
            self._respond(Outcome(Status.CANNOT_UNDERSTAND, "the request lacks its data set"))
        else:
            self._respond(Outcome(_UNRECOGNIZED_OPERATION))

    def _syntax(self) -> Context:
        return self._line.contexts[self._context_id]

    def _handler(self, request: Command) -> Handler | None:
        return self._services.handlers.get((self._syntax().abstract_syntax, request.field))

    def _sink_for(self, request: Command) -> Sink | _Gathering:
        """Where the data set goes."""
        context = self._syntax()
        if (handler := self._handler(request)) is not None:
            return _Gathering(handler)
        if request.field != C_STORE_RQ:
            return Refusal(_UNRECOGNIZED_OPERATION)
        return sink_of(self._intake, request, context, self._line.name)

    def _receive(self, fragment: Fragment) -> None:
        assert self._sink is not None
        self._sink = written(self._sink, fragment.data)
        if fragment.is_last:
            sink, self._sink = self._sink, None
            if isinstance(sink, _Gathering):
                self._due = sink
            else:
                self._respond(self._recorded(sink.finish()))

    def _recorded(self, outcome: Outcome) -> Outcome:
        """``outcome``, of which there is a record if it acknowledges an instance."""
        assert self._request is not None
        if self._request.field != C_STORE_RQ:
            return outcome
        return recorded(self._stored, outcome, self._request.sop_class_uid)

    def _answer_due(self) -> None:
        """Let a handler answer, now that nothing points into the read buffer any more."""
        if self._due is not None:
            assert self._request is not None
            due, self._due = self._due, None
            exchange = Exchange(
                self._line, self._context_id, self._request, bytes(due.data), self._records
            )
            answer(due.handler, exchange)

    def _respond(self, outcome: Outcome) -> None:
        assert self._request is not None
        response = write_response(self._context_id, self._request, outcome.status, outcome.comment)
        self._line.send(response)

    def _abort(self, error: ProtocolError | Unreadable) -> None:
        reason = AbortReason.INVALID_PARAMETER
        if isinstance(error, ProtocolError):
            reason = error.reason
        if reason is not AbortReason.NOT_SPECIFIED:  # that is a failure of ours
            self._not_understood(self._records.asker, str(error))
        try:
            self._line.abort(reason)
        except PeerGone:
            _log.info("peer left before the abort", code="dicom-peer-gone")
