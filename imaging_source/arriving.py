"""C-STORE requests as they arrive (PS3.4 B.2, as provider): where their data sets go.

Fragments go straight to the durable file; UIDs are judged before they are used for anything. For
associations that others ask for, and for those that we ask for to have images sent (C-GET).
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from imaging_source.dimse import Command
from imaging_source.header import is_uid
from imaging_source.intake import Door, Outcome, Status, out_of_resources, refusal
from imaging_source.ledger import Transfers
from imaging_source.negotiation import Context
from storage.errors import StorageError

# Statuses of a response that storage shares with other services (PS3.7 Annex C).
_CLASS_NOT_SUPPORTED = 0x0122
_INVALID_INSTANCE = 0x0117


class Writable(Protocol):
    """Takes a data set piece by piece."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""

    def abort(self) -> None:
        """Forget the bytes."""


_W = TypeVar("_W", bound=Writable)


class Sink(Writable, Protocol):
    """Where the data set of a request goes."""

    def finish(self) -> Outcome:
        """What to answer."""


class Refusal:
    """Lets a data set pass by, to answer the request with what is known already."""

    def __init__(self, status: int, comment: str = "") -> None:
        self._outcome = Outcome(status, comment)

    def write(self, data: memoryview) -> None:
        """Let the bytes go."""

    def finish(self) -> Outcome:
        """The refusal."""
        return self._outcome

    def abort(self) -> None:
        """Nothing to forget."""


def sink_of(door: Door, request: Command, context: Context, sender: str) -> Sink:
    """Where the instance of a C-STORE request goes."""
    if request.sop_class_uid != context.abstract_syntax:
        comment = "not the SOP class of the context"
        return _told(refusal(_CLASS_NOT_SUPPORTED, comment, sender).outcome)
    if not is_uid(request.sop_instance_uid):
        comment = "Affected SOP Instance UID is not a UID"
        return _told(refusal(_INVALID_INSTANCE, comment, sender).outcome)
    announced = request.sop_class_uid, request.sop_instance_uid
    try:
        return door.begin(*announced, context.transfer_syntax, sender)
    except StorageError as error:
        return _no_room(error)


def written(sink: _W, data: memoryview) -> _W | Refusal:
    """Write to ``sink``; what goes on in its place, where there is no room."""
    try:
        sink.write(data)
    except StorageError as error:
        sink.abort()
        return _no_room(error)
    return sink


def recorded(transfers: Transfers, outcome: Outcome, sop_class_uid: str) -> Outcome:
    """``outcome``, of which there is a record if it acknowledges an instance."""
    try:
        if done := outcome.status in (Status.SUCCESS, Status.COERCED):
            transfers.begin(outcome.about)
    except StorageError as error:  # it is stored all the same: the sender comes again
        return out_of_resources(error)
    transfers.count(outcome.about, sop_class_uid, done)
    return outcome


def _no_room(error: StorageError) -> Refusal:
    return _told(out_of_resources(error))


def _told(outcome: Outcome) -> Refusal:
    return Refusal(outcome.status, outcome.comment)
