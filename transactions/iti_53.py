"""ITI-53 Document Metadata Notify: a recipient is told what has been registered.

Covers the message of ITI TF-2 3.53 on the wire (wsnt:Notify, simple SOAP, one-way: accepted
with HTTP 202) and its audit record (3.53.6). ITI-54 has the same message and uses this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from metadata import ebrim
from metadata.identifiers import LCM, RIM
from metadata.model import Submission
from soap.message import Incoming, Outgoing
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import notification_event
from transactions.body import SPACE, child, children, expect_root, serialised
from transactions.iti_52 import refuse
from transactions.transaction import InvalidBody, Transaction
from transactions.wsn import BW, WSNT, read_reference, write_reference, write_topic

ROOT = f"{{{WSNT}}}Notify"
MESSAGE = f"{{{WSNT}}}NotificationMessage"
_CONTENT = f"{{{WSNT}}}Message"
_TOPIC = f"{{{WSNT}}}Topic"
_SUBMIT = f"{{{LCM}}}SubmitObjectsRequest"
_OBJECTS = f"{{{RIM}}}RegistryObjectList"


@dataclass(frozen=True, slots=True)
class Notification:
    """One NotificationMessage: registry objects, and what led to the recipient's being told.

    ``fragments`` are serialised registry objects in which the prefix ``rim`` may be unbound:
    ExtrinsicObjects alone, ObjectRefs alone, or one RegistryPackage, by the topic.
    ``subscription`` and ``producer`` are addresses.
    """

    fragments: Sequence[bytes]
    topic: str | None = None
    subscription: str | None = None
    producer: str | None = None

    def objects(self) -> Submission:
        """The registry objects, read."""
        return ebrim.read_fragments(self.fragments)


@dataclass(frozen=True, slots=True)
class Notify:
    """One message, of one notification or several."""

    notifications: Sequence[Notification]

    def objects(self) -> Submission:
        """The registry objects of all notifications, read."""
        fragments = [one for each in self.notifications for one in each.fragments]
        return Notification(fragments).objects()


def read_request(message: Incoming) -> Notify:
    """The notifications in a message; InvalidBody for one without a SubmitObjectsRequest."""
    body = expect_root(message.body, ROOT)
    return Notify([read_notification(one) for one in children(body, MESSAGE)])


def write_request(request: Notify) -> Outgoing:
    """The message that notifies."""
    pieces = [piece for one in request.notifications for piece in write_notification(one)]
    opening = f'<wsnt:Notify xmlns:wsnt="{WSNT}">'.encode()
    return Outgoing([opening, *pieces, b"</wsnt:Notify>"])


def read_response(_message: Incoming) -> None:
    """Nothing: the message is one-way."""


def write_response(_response: None) -> Outgoing:
    """Nothing: the message is one-way."""
    return Outgoing([])


def audit(request: Notify, accepted: bool, scene: Scene) -> list[AuditEvent]:
    """The audit record of one notification (ITI TF-2 3.53.6)."""
    return [notification_event(ITI_53, request.objects(), accepted, scene)]


def read_notification(element: etree._Element) -> Notification:
    """One NotificationMessage; InvalidBody for one without a SubmitObjectsRequest."""
    content = child(child(element, _CONTENT), _SUBMIT)
    objects = [serialised(one) for one in child(content, _OBJECTS).iterchildren("*")]
    if not objects:
        raise InvalidBody("<NotificationMessage> tells of no object")
    topic = element.find(_TOPIC)
    return Notification(
        fragments=objects,
        topic=None if topic is None else (topic.text or "").strip(SPACE),
        subscription=read_reference(element, "SubscriptionReference"),
        producer=read_reference(element, "ProducerReference"),
    )


def write_notification(one: Notification) -> list[bytes]:
    """The pieces of a NotificationMessage, in the order of the schema."""
    subscription, producer = one.subscription, one.producer
    head = "".join(
        (
            "<wsnt:NotificationMessage>",
            write_reference("SubscriptionReference", subscription) if subscription else "",
            write_topic(one.topic) if one.topic else "",
            write_reference("ProducerReference", producer) if producer else "",
            f'<wsnt:Message><lcm:SubmitObjectsRequest xmlns:lcm="{LCM}">',
        )
    )
    tail = b"</lcm:SubmitObjectsRequest></wsnt:Message></wsnt:NotificationMessage>"
    return [head.encode(), ebrim.wrap(one.fragments), tail]


ITI_53: Transaction[Notify, None] = Transaction(
    number="ITI-53",
    name="Document Metadata Notify",
    action=f"{BW}/NotificationConsumer/Notify",
    response_action="",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=refuse,
)
