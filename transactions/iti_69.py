"""ITI-69 Create Destroy Pull Point: a place where notifications wait to be fetched.

Covers the messages of ITI TF-2 3.69 on the wire (WS-BaseNotification 1.3, 5: wsnt:CreatePullPoint
and wsnt:DestroyPullPoint, simple SOAP, two exchanges) and their audit records. A recipient that
nobody can reach creates one, subscribes its address (ITI-52) and fetches what comes (ITI-70).
"""

from __future__ import annotations

from dataclasses import dataclass

from soap.message import Incoming, Outgoing
from transactions.audit import Action, AuditEvent, Scene
from transactions.audit_events import subscription_event
from transactions.body import expect_root
from transactions.iti_52 import refuse
from transactions.transaction import InvalidBody, Transaction
from transactions.wsn import (
    BW,
    WSNT,
    read_reference,
    resource_address,
    resource_in,
    write_reference,
)

CREATE = f"{{{WSNT}}}CreatePullPoint"
DESTROY = f"{{{WSNT}}}DestroyPullPoint"
CREATE_RESPONSE = f"{{{WSNT}}}CreatePullPointResponse"
DESTROY_RESPONSE = f"{{{WSNT}}}DestroyPullPointResponse"

_KEY = "pull-point"


class CreateRequest:
    """A pull point is wanted."""


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """The address of the new pull point."""

    pull_point: str


@dataclass(frozen=True, slots=True)
class DestroyRequest:
    """Ends the pull point whose address the message is sent to; ``id`` is its last part."""

    id: str


class DestroyResponse:
    """The pull point is no more."""


def address_of(manager: str, pull_point_id: str) -> str:
    """The address of a pull point at the broker whose address is ``manager``."""
    return resource_address(manager, _KEY, pull_point_id)


def id_in(address: str) -> str:
    """The pull point in an address made by ``address_of``; empty when there is none."""
    return resource_in(address, _KEY)


def addressed(message: Incoming) -> str:
    """The pull point that a message is sent to; empty when it is sent to none."""
    return next(filter(None, map(id_in, message.sent_to)), "")


def read_create(message: Incoming) -> CreateRequest:
    """The request in a message; what extends it is passed over."""
    expect_root(message.body, CREATE)
    return CreateRequest()


def write_create(_request: CreateRequest) -> Outgoing:
    """The message that asks for a pull point."""
    return Outgoing([f'<wsnt:CreatePullPoint xmlns:wsnt="{WSNT}"/>'.encode()])


def read_create_response(message: Incoming) -> CreateResponse:
    """The answer in a message; InvalidBody when it has no pull point's address."""
    body = expect_root(message.body, CREATE_RESPONSE)
    address = read_reference(body, "PullPoint")
    if address is None:
        raise InvalidBody("<CreatePullPointResponse> has no <PullPoint> with an address")
    return CreateResponse(address)


def write_create_response(response: CreateResponse) -> Outgoing:
    """The message that tells the address of a new pull point."""
    return Outgoing(
        [
            f'<wsnt:CreatePullPointResponse xmlns:wsnt="{WSNT}">'
            f"{write_reference('PullPoint', response.pull_point)}"
            "</wsnt:CreatePullPointResponse>".encode()
        ]
    )


def read_destroy(message: Incoming) -> DestroyRequest:
    """The pull point that a message is sent to."""
    expect_root(message.body, DESTROY)
    return DestroyRequest(addressed(message))


def write_destroy(_request: DestroyRequest) -> Outgoing:
    """The message that ends a pull point: to be sent to its address."""
    return Outgoing([f'<wsnt:DestroyPullPoint xmlns:wsnt="{WSNT}"/>'.encode()])


def read_destroy_response(message: Incoming) -> DestroyResponse:
    """The answer in a message."""
    expect_root(message.body, DESTROY_RESPONSE)
    return DestroyResponse()


def write_destroy_response(_response: DestroyResponse) -> Outgoing:
    """The message that answers a DestroyPullPoint."""
    return Outgoing([f'<wsnt:DestroyPullPointResponse xmlns:wsnt="{WSNT}"/>'.encode()])


def audit(
    request: CreateRequest | DestroyRequest,
    response: CreateResponse | DestroyResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one pull point made or ended, alike that of a subscription."""
    if isinstance(request, DestroyRequest):
        return [subscription_event(ITI_69, Action.DELETE, request.id, response is not None, scene)]
    identifier = id_in(response.pull_point) if isinstance(response, CreateResponse) else ""
    return [subscription_event(ITI_69, Action.CREATE, identifier, response is not None, scene)]


ITI_69: Transaction[CreateRequest, CreateResponse] = Transaction(
    number="ITI-69",
    name="Create Destroy Pull Point",
    action=f"{BW}/CreatePullPoint/CreatePullPointRequest",
    response_action=f"{BW}/CreatePullPoint/CreatePullPointResponse",
    root=CREATE,
    mtom=False,
    read_request=read_create,
    write_request=write_create,
    read_response=read_create_response,
    write_response=write_create_response,
    refuse=refuse,
)

ITI_69_DESTROY: Transaction[DestroyRequest, DestroyResponse] = Transaction(
    number="ITI-69",
    name="Create Destroy Pull Point",
    action=f"{BW}/PullPoint/DestroyPullPointRequest",
    response_action=f"{BW}/PullPoint/DestroyPullPointResponse",
    root=DESTROY,
    mtom=False,
    read_request=read_destroy,
    write_request=write_destroy,
    read_response=read_destroy_response,
    write_response=write_destroy_response,
    refuse=refuse,
)
