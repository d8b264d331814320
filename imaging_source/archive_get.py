"""An archive that is fetched from by C-GET (PS3.4 C.4.3, as user): where it cannot reach us.

Images come on the association that asks for them, so that one must be negotiated for their SOP
classes beforehand: the archive is asked which they are (C-FIND), and for each is offered a
context in every transfer syntax that is taken in, so that it can send what it has as it is. A
study of more classes than one association can carry is asked for on several, each for some of
them. An archive that does not tell is offered all that there are, uncompressed. Each instance is
durable, indexed and recorded before it is acknowledged, as by C-STORE, whether or not the rest
comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from imaging_source.archive_dimse import (
    PENDING,
    FindUser,
    NotOffered,
    associated,
    send,
    the_study,
    told,
)
from imaging_source.arriving import Refusal, Sink, recorded, sink_of, written
from imaging_source.dimse import (
    C_GET_RQ,
    C_STORE_RQ,
    COMMAND_LIMIT_BYTES,
    RESPONSE,
    Command,
    Fragment,
    read_command,
    write_response,
)
from imaging_source.guard import AbortReason, ProtocolError
from imaging_source.intake import Door, Status
from imaging_source.ledger import End, Ledger, NoLedger, Service, Transfers
from imaging_source.line import Line
from imaging_source.negotiation import PLAIN_SYNTAXES, STORAGE, SYNTAXES
from imaging_source.query_retrieve.models import STUDY_ROOT_GET
from imaging_source.requestor import MOST_CONTEXTS, Peer, Unreachable
from imaging_source.service import SUCCESS

# One context is for the request itself.
_STORAGE_CONTEXTS = MOST_CONTEXTS - 1

# Final statuses of a request that was acted on: some, or none, could be sent (PS3.4 Table C.4-3).
# Of an association for some classes, those of the others are among them.
_ACTED_ON = (SUCCESS, 0xB000, 0xA702)


class GetUser:
    """Fetches from the archive ``peer``, which knows us as ``own_title``, through ``door``.

    What is fetched is recorded in ``ledger``.
    """

    def __init__(
        self, peer: Peer, own_title: str, door: Door, ledger: Ledger | None = None
    ) -> None:
        self._peer = peer
        self._own_title = own_title
        self._door = door
        self._ledger = ledger or NoLedger()
        self._finder = FindUser(peer, own_title, ledger)

    def fetch(self, study: str) -> None:
        """See ``Supply``."""
        archive = End(self._peer.title, self._peer.host)
        transfers = Transfers(self._ledger, Service.FETCH, archive)
        try:
            self._fetch(study, transfers)
        finally:
            transfers.close()

    def _fetch(self, study: str, transfers: Transfers) -> None:
        classes = self._classes(study)
        expected, taken, final = len(classes), 0, None
        for contexts in _portions({one for one in classes.values() if one}):
            with associated(
                self._peer, self._own_title, STUDY_ROOT_GET, "C-GET", contexts
            ) as asked:
                send(asked, C_GET_RQ, STUDY_ROOT_GET, the_study(study))
                coming = _Coming(asked.line, self._door, study, transfers)
                final = coming.until_the_end()
            if final.status not in _ACTED_ON:
                raise Unreachable(f"{self._peer.title} answers with {told(final)}")
            taken += coming.taken
            expected = max(expected, _sub_operations(final))
        if final is not None and (taken < expected or (not expected and final.status != SUCCESS)):
            text = f"{taken} of {expected} instances are taken in"
            raise Unreachable(f"{text}; {self._peer.title} answers with {told(final)}")

    def _classes(self, study: str) -> dict[str, str]:
        """The SOP classes of the instances, where the archive tells."""
        with suppress(NotOffered), self._finder.asking() as asking:
            return asking.classes(study)
        return {}


def _portions(classes: set[str]) -> Iterator[list[tuple[str, str]]]:
    """Contexts for one association after the other, until each class has had its own."""
    syntaxes = SYNTAXES if classes else PLAIN_SYNTAXES
    ordered = sorted(classes or STORAGE)
    most = _STORAGE_CONTEXTS // len(syntaxes)
    for first in range(0, len(ordered), most):
        some = ordered[first : first + most]
        yield [(one, str(syntax)) for one in some for syntax in syntaxes]


def _sub_operations(final: Command) -> int:
    """How many instances the archive has tried to send; 0 where it does not tell."""
    counts = final.counts
    return counts.completed + counts.failed + counts.warning if counts else 0


@dataclass(slots=True)
class _Arriving:
    """A message whose data set is on its way."""

    context_id: int
    command: Command
    sink: Sink


class _Coming:
    """What comes on an association after a C-GET request; ``taken`` counts the instances."""

    def __init__(self, line: Line, door: Door, study: str, transfers: Transfers) -> None:
        self._line = line
        self._door = door
        self._study = study
        self._transfers = transfers
        self._command = bytearray()
        self._arriving: _Arriving | None = None
        self._final: Command | None = None
        self.taken = 0

    def until_the_end(self) -> Command:
        """Take in what comes; the last response. Raises PeerGone, ProtocolError, Unreadable."""
        try:
            while self._final is None or self._arriving is not None:
                for fragment in self._line.fragments():
                    self._take(fragment)
            return self._final
        finally:
            if self._arriving is not None:
                self._arriving.sink.abort()

    def _take(self, fragment: Fragment) -> None:
        arriving = self._arriving
        if fragment.is_command:
            self._take_command(fragment)
        elif arriving is None or fragment.context_id != arriving.context_id:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a data set without its command")
        else:
            arriving.sink = written(arriving.sink, fragment.data)
            if fragment.is_last:
                self._arriving = None
                self._end(arriving)

    def _take_command(self, fragment: Fragment) -> None:
        if self._arriving is not None or self._final is not None:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a command out of place")
        if fragment.context_id not in self._line.contexts:
            raise ProtocolError(AbortReason.INVALID_PARAMETER, "no such presentation context")
        if len(self._command) + len(fragment.data) > COMMAND_LIMIT_BYTES:
            raise ProtocolError(AbortReason.INVALID_PARAMETER, "the command is too long")
        self._command += fragment.data
        if fragment.is_last:
            command = read_command(bytes(self._command))
            self._command.clear()
            self._begin(fragment.context_id, command)

    def _begin(self, context_id: int, command: Command) -> None:
        if command.field == C_GET_RQ | RESPONSE:
            if command.status not in PENDING:
                self._final = command
            sink: Sink = Refusal(SUCCESS)  # names what failed: the counts tell enough
        elif command.field == C_STORE_RQ and command.has_data_set:
            context = self._line.contexts[context_id]
            sink = sink_of(self._door, command, context, self._line.name)
        else:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "not what was asked for")
        if command.has_data_set:
            self._arriving = _Arriving(context_id, command, sink)

    def _end(self, arrived: _Arriving) -> None:
        if arrived.command.field != C_STORE_RQ:
            return
        outcome = recorded(self._transfers, arrived.sink.finish(), arrived.command.sop_class_uid)
        if outcome.status == Status.SUCCESS and outcome.about.study_instance_uid == self._study:
            self.taken += 1
        self._line.send(
            write_response(arrived.context_id, arrived.command, outcome.status, outcome.comment)
        )
