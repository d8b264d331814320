"""ITI-70 Pull Notification: a recipient fetches what waits for it at a pull point.

Covers the messages of ITI TF-2 3.70 on the wire (WS-BaseNotification 1.3, 5.2: wsnt:GetMessages,
simple SOAP) and their audit record. Both messages may carry an extension of ours, which the schema
has room for: an answer says under which number it was given (Receipt), and a request which answer
has arrived (Received), so that nothing is lost with an answer. Peers that do not know it pass
over the first and leave out the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metadata import ebrim
from metadata.model import Submission
from soap.message import Incoming, Outgoing
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import pull_event
from transactions.body import expect_root, optional_text
from transactions.iti_52 import refuse
from transactions.iti_53 import MESSAGE, Notification, read_notification, write_notification
from transactions.iti_69 import addressed
from transactions.transaction import InvalidBody, Transaction
from transactions.wsn import BW, WSNT

ROOT = f"{{{WSNT}}}GetMessages"
RESPONSE = f"{{{WSNT}}}GetMessagesResponse"
RECEIPTS = "urn:kosmos:dsub:receipts"

_MAXIMUM = f"{{{WSNT}}}MaximumNumber"
_RECEIPT = f"{{{RECEIPTS}}}Receipt"
_RECEIVED = f"{{{RECEIPTS}}}Received"

# More digits than any count of answers has; more would not fit into a column.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Asks the pull point ``id``, to whose address it is sent, for at most ``maximum``.

    ``received`` is the receipt of the last answer that arrived, 0 for none yet; None from who
    knows no receipts. ``message_id`` tells a repetition of the same request.
    """

    id: str
    maximum: int | None = None
    received: int | None = None
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class PullResponse:
    """What waited, the oldest first, perhaps nothing; ``receipt`` is the number of the answer."""

    notifications: Sequence[Notification]
    receipt: int | None = None

    def objects(self) -> Submission:
        """The registry objects of all notifications, read."""
        return ebrim.read_fragments([one for each in self.notifications for one in each.fragments])


def read_request(message: Incoming) -> PullRequest:
    """The request in a message; InvalidBody for a number that is none."""
    body = expect_root(message.body, ROOT)
    return PullRequest(
        addressed(message),
        _number(optional_text(body, _MAXIMUM)),
        _number(optional_text(body, _RECEIVED)),
        message.message_id or "",
    )


def write_request(request: PullRequest) -> Outgoing:
    """The message that asks: to be sent to the pull point's address."""
    maximum = "" if request.maximum is None else f"{request.maximum}"
    if maximum:
        maximum = f"<wsnt:MaximumNumber>{maximum}</wsnt:MaximumNumber>"
    received = "" if request.received is None else _extension("Received", request.received)
    return Outgoing(
        [f'<wsnt:GetMessages xmlns:wsnt="{WSNT}">{maximum}{received}</wsnt:GetMessages>'.encode()]
    )


def read_response(message: Incoming) -> PullResponse:
    """The notifications in a message; InvalidBody for one that tells of no object."""
    body = expect_root(message.body, RESPONSE)
    notifications = [read_notification(one) for one in body.iterchildren(MESSAGE)]
    return PullResponse(notifications, _number(optional_text(body, _RECEIPT)))


def write_response(response: PullResponse) -> Outgoing:
    """The message that answers."""
    pieces = [piece for one in response.notifications for piece in write_notification(one)]
    receipt = "" if response.receipt is None else _extension("Receipt", response.receipt)
    opening = f'<wsnt:GetMessagesResponse xmlns:wsnt="{WSNT}">'.encode()
    return Outgoing([opening, *pieces, f"{receipt}</wsnt:GetMessagesResponse>".encode()])


def audit(request: PullRequest, response: PullResponse | None, scene: Scene) -> list[AuditEvent]:
    """The audit record of what was given, or refused; who is given nothing has learnt nothing."""
    if response is None:
        return [pull_event(ITI_70, request.id, None, scene)]
    if not response.notifications:
        return []
    return [pull_event(ITI_70, request.id, response.objects(), scene)]


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidBody("<GetMessages> and its answer count in whole numbers from 0")
    return int(text)


def _extension(name: str, number: int) -> str:
    return f'<k:{name} xmlns:k="{RECEIPTS}">{number}</k:{name}>'


ITI_70: Transaction[PullRequest, PullResponse] = Transaction(
    number="ITI-70",
    name="Pull Notification",
    action=f"{BW}/PullPoint/GetMessagesRequest",
    response_action=f"{BW}/PullPoint/GetMessagesResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=refuse,
)
