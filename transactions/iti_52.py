"""ITI-52 Document Metadata Subscribe: who wants to be told of what, and for how long.

Covers the messages of ITI TF-2 3.52 on the wire (wsnt:Subscribe and wsnt:Unsubscribe, simple
SOAP, two exchanges) and their audit records (3.52.6). What a Subscribe means, and whether it
is right, is told by ``transactions.subscription_terms``; here it is the sender's text. Pausing,
resuming and renewing a subscription are not part of the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from lxml import etree

from metadata.identifiers import RIM
from soap.faults import SENDER, SoapFault
from soap.message import Incoming, Outgoing
from transactions.audit import Action, AuditEvent, Scene
from transactions.audit_events import subscription_event
from transactions.body import (
    SPACE,
    attribute,
    child,
    child_text,
    escape_attribute,
    escape_text,
    expect_root,
    optional_text,
)
from transactions.iti_18 import AdhocQueryRequest, read_slot, write_slot
from transactions.query_values import BadCoding, read_value
from transactions.transaction import InvalidBody, Transaction
from transactions.wsn import (
    ADDRESS,
    BW,
    IHE_TOPICS,
    REFERENCE_PARAMETERS,
    SIMPLE_DIALECT,
    WSNT,
    read_reference,
    resource_address,
    resource_in,
    write_reference,
)

SUBSCRIBE = f"{{{WSNT}}}Subscribe"
UNSUBSCRIBE = f"{{{WSNT}}}Unsubscribe"
SUBSCRIBE_RESPONSE = f"{{{WSNT}}}SubscribeResponse"
UNSUBSCRIBE_RESPONSE = f"{{{WSNT}}}UnsubscribeResponse"
ADHOC_QUERY = f"{{{RIM}}}AdhocQuery"
FILTER = f"{{{WSNT}}}Filter"

_CONSUMER = f"{{{WSNT}}}ConsumerReference"
_TOPIC = f"{{{WSNT}}}TopicExpression"
_TERMINATION = f"{{{WSNT}}}InitialTerminationTime"
_POLICY = f"{{{WSNT}}}SubscriptionPolicy"
_SLOT = f"{{{RIM}}}Slot"

_KEY = "subscription"


@dataclass(frozen=True, slots=True)
class TopicExpression:
    """A topic as asked for; ``namespace`` is what its prefix stands for, if it is bound."""

    text: str
    dialect: str = SIMPLE_DIALECT
    namespace: str | None = IHE_TOPICS


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """One subscription as asked.

    ``consumer`` is where notifications go; ``termination`` an xs:dateTime or xs:duration,
    empty for none. ``queries`` and ``topics`` should hold one each. ``other_filters`` and
    ``policies`` are names of elements in Clark notation; ``parameterised`` tells whether the
    consumer's reference has reference parameters.
    """

    consumer: str
    topics: Sequence[TopicExpression]
    queries: Sequence[AdhocQueryRequest]
    termination: str = ""
    other_filters: Sequence[str] = ()
    policies: Sequence[str] = ()
    parameterised: bool = False


@dataclass(frozen=True, slots=True)
class SubscribeResponse:
    """The subscription's address, for Unsubscribe, the time there and the time of its end."""

    subscription: str
    current_time: str
    termination_time: str


@dataclass(frozen=True, slots=True)
class UnsubscribeRequest:
    """Ends the subscription whose address the message is sent to; ``id`` is its last part."""

    id: str


class UnsubscribeResponse:
    """The subscription has ended."""


def address_of(manager: str, subscription_id: str) -> str:
    """The address of a subscription at the broker whose address is ``manager``."""
    return resource_address(manager, _KEY, subscription_id)


def id_in(address: str) -> str:
    """The subscription in an address made by ``address_of``; empty when there is none."""
    return resource_in(address, _KEY)


def read_subscribe(message: Incoming) -> SubscribeRequest:
    """The subscription in a message; InvalidBody when it has no consumer's address."""
    body = expect_root(message.body, SUBSCRIBE)
    consumer = child(body, _CONSUMER)
    filters = [one for part in body.iterchildren(FILTER) for one in part.iterchildren("*")]
    return SubscribeRequest(
        consumer=child_text(consumer, ADDRESS),
        topics=[_read_topic(one) for one in filters if one.tag == _TOPIC],
        queries=[_read_query(one) for one in filters if one.tag == ADHOC_QUERY],
        termination=optional_text(body, _TERMINATION) or "",
        other_filters=tuple(one.tag for one in filters if one.tag not in (_TOPIC, ADHOC_QUERY)),
        policies=tuple(
            one.tag for part in body.iterchildren(_POLICY) for one in part.iterchildren("*")
        ),
        parameterised=any(len(part) for part in consumer.iterchildren(REFERENCE_PARAMETERS)),
    )


def write_subscribe(request: SubscribeRequest) -> Outgoing:
    """The message that asks for a subscription; ``parameterised`` and policies are not written."""
    termination = escape_text(request.termination)
    return Outgoing(
        [
            f'<wsnt:Subscribe xmlns:wsnt="{WSNT}">'
            f"{write_reference('ConsumerReference', request.consumer)}<wsnt:Filter>"
            f"{''.join(map(_write_topic, request.topics))}"
            f"{''.join(map(_write_query, request.queries))}</wsnt:Filter>"
            f"{termination and f'<wsnt:InitialTerminationTime>{termination}'}"
            f"{termination and '</wsnt:InitialTerminationTime>'}</wsnt:Subscribe>".encode()
        ]
    )


def read_subscribe_response(message: Incoming) -> SubscribeResponse:
    """The answer in a message; InvalidBody when it has no subscription's address."""
    body = expect_root(message.body, SUBSCRIBE_RESPONSE)
    reference = read_reference(body, "SubscriptionReference")
    if reference is None:
        raise InvalidBody("<SubscribeResponse> has no <SubscriptionReference> with an address")
    current = optional_text(body, f"{{{WSNT}}}CurrentTime") or ""
    termination = optional_text(body, f"{{{WSNT}}}TerminationTime") or ""
    return SubscribeResponse(reference, current, termination)


def write_subscribe_response(response: SubscribeResponse) -> Outgoing:
    """The message that answers a Subscribe."""
    return Outgoing(
        [
            f'<wsnt:SubscribeResponse xmlns:wsnt="{WSNT}">'
            f"{write_reference('SubscriptionReference', response.subscription)}"
            f"<wsnt:CurrentTime>{escape_text(response.current_time)}</wsnt:CurrentTime>"
            f"<wsnt:TerminationTime>{escape_text(response.termination_time)}"
            "</wsnt:TerminationTime></wsnt:SubscribeResponse>".encode()
        ]
    )


def read_unsubscribe(message: Incoming) -> UnsubscribeRequest:
    """The subscription that a message is sent to; with an empty id when it is sent to none."""
    expect_root(message.body, UNSUBSCRIBE)
    return UnsubscribeRequest(next(filter(None, map(id_in, message.sent_to)), ""))


def write_unsubscribe(_request: UnsubscribeRequest) -> Outgoing:
    """The message that ends a subscription: to be sent to the subscription's address."""
    return Outgoing([f'<wsnt:Unsubscribe xmlns:wsnt="{WSNT}"/>'.encode()])


def read_unsubscribe_response(message: Incoming) -> UnsubscribeResponse:
    """The answer in a message."""
    expect_root(message.body, UNSUBSCRIBE_RESPONSE)
    return UnsubscribeResponse()


def write_unsubscribe_response(_response: UnsubscribeResponse) -> Outgoing:
    """The message that answers an Unsubscribe."""
    return Outgoing([f'<wsnt:UnsubscribeResponse xmlns:wsnt="{WSNT}"/>'.encode()])


def refuse(text: str) -> NoReturn:
    """Raise the fault for a body that could not be read: this transaction has faults."""
    raise SoapFault(SENDER, text)


def audit(
    request: SubscribeRequest | UnsubscribeRequest,
    response: SubscribeResponse | UnsubscribeResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one subscription made or ended (ITI TF-2 3.52.6)."""
    if isinstance(request, UnsubscribeRequest):
        return [subscription_event(ITI_52, Action.DELETE, request.id, response is not None, scene)]
    if (patient_id := _patient_id(request)) is not None:
        scene = scene._replace(patient_id=patient_id)
    made = isinstance(response, SubscribeResponse)
    identifier = id_in(response.subscription) if isinstance(response, SubscribeResponse) else ""
    return [subscription_event(ITI_52, Action.CREATE, identifier, made, scene)]


def _patient_id(request: SubscribeRequest) -> str | None:
    """The patient the subscription names, if it can be read."""
    for query in request.queries:
        for name, values in query.parameters:
            if name.endswith("PatientId"):
                with suppress(BadCoding, IndexError):
                    return read_value(values[0])[0]
    return None


def _read_topic(element: etree._Element) -> TopicExpression:
    text = (element.text or "").strip(SPACE)
    prefix, colon, _ = text.partition(":")
    namespace = element.nsmap.get(prefix if colon else None)
    return TopicExpression(text, element.get("Dialect", "").strip(SPACE), namespace)


def _write_topic(topic: TopicExpression) -> str:
    bound = f' xmlns:ihe="{escape_attribute(topic.namespace)}"' if topic.namespace else ""
    return (
        f'<wsnt:TopicExpression{bound} Dialect="{escape_attribute(topic.dialect)}">'
        f"{escape_text(topic.text)}</wsnt:TopicExpression>"
    )


def _read_query(element: etree._Element) -> AdhocQueryRequest:
    slots = [read_slot(slot) for slot in element.iterchildren(_SLOT)]
    return AdhocQueryRequest(attribute(element, "id"), parameters=slots)


def _write_query(query: AdhocQueryRequest) -> str:
    slots = "".join(write_slot(name, values) for name, values in query.parameters)
    return (
        f'<rim:AdhocQuery xmlns:rim="{RIM}" id="{escape_attribute(query.query_id)}">{slots}'
        "</rim:AdhocQuery>"
    )


ITI_52: Transaction[SubscribeRequest, SubscribeResponse] = Transaction(
    number="ITI-52",
    name="Document Metadata Subscribe",
    action=f"{BW}/NotificationProducer/SubscribeRequest",
    response_action=f"{BW}/NotificationProducer/SubscribeResponse",
    root=SUBSCRIBE,
    mtom=False,
    read_request=read_subscribe,
    write_request=write_subscribe,
    read_response=read_subscribe_response,
    write_response=write_subscribe_response,
    refuse=refuse,
)

ITI_52_UNSUBSCRIBE: Transaction[UnsubscribeRequest, UnsubscribeResponse] = Transaction(
    number="ITI-52",
    name="Document Metadata Subscribe",
    action=f"{BW}/SubscriptionManager/UnsubscribeRequest",
    response_action=f"{BW}/SubscriptionManager/UnsubscribeResponse",
    root=UNSUBSCRIBE,
    mtom=False,
    read_request=read_unsubscribe,
    write_request=write_unsubscribe,
    read_response=read_unsubscribe_response,
    write_response=write_unsubscribe_response,
    refuse=refuse,
)
