"""What the transactions of DSUB share: the words of WS-Notification 1.3 and its faults.

Covers what ITI TF-2 3.52 to 3.54, 3.69 and 3.70 use of WS-BaseNotification (topic expressions of
the dialect Simple, endpoint references, faults with their detail of WS-BaseFaults). A consumer is
known by the address alone: reference parameters are refused rather than lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from lxml import etree

from soap.faults import SENDER, WSA, SoapFault
from transactions.body import escape_attribute, escape_text, optional_text

WSNT = "http://docs.oasis-open.org/wsn/b-2"
BW = "http://docs.oasis-open.org/wsn/bw-2"
SIMPLE_DIALECT = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Simple"
# The namespace of IHE's topics; senders that leave the prefix unbound are understood too.
IHE_TOPICS = "urn:ihe:iti:dsub:2009"

_WSRF_R = "http://docs.oasis-open.org/wsrf/r-2"
_BASE_FAULTS = "http://docs.oasis-open.org/wsrf/bf-2"
ADDRESS = f"{{{WSA}}}Address"
REFERENCE_PARAMETERS = f"{{{WSA}}}ReferenceParameters"


class Topic(StrEnum):
    """What a subscriber can be told of (ITI TF-2 3.52.5.1; the last one is an option)."""

    FULL_DOCUMENT_ENTRY = "ihe:FullDocumentEntry"
    MINIMAL_DOCUMENT_ENTRY = "ihe:MinimalDocumentEntry"
    SUBMISSION_SET_METADATA = "ihe:SubmissionSetMetadata"
    FOLDER_METADATA = "ihe:FolderMetadata"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A fault of an operation: its element, and the operation that it belongs to.

    The action follows from both (WS-Addressing 1.0 Metadata, 4.4.4).
    """

    name: str
    operation: str
    namespace: str = WSNT

    @property
    def action(self) -> str:
        """The WS-Addressing action of the message that carries the fault."""
        return f"{BW}/{self.operation}/Fault/{self.name}"


_SUBSCRIBE = "NotificationProducer/Subscribe"
_UNSUBSCRIBE = "SubscriptionManager/Unsubscribe"
_GET_MESSAGES = "PullPoint/GetMessages"
_DESTROY = "PullPoint/DestroyPullPoint"

INVALID_FILTER = FaultKind("InvalidFilterFault", _SUBSCRIBE)
DIALECT_UNKNOWN = FaultKind("TopicExpressionDialectUnknownFault", _SUBSCRIBE)
INVALID_TOPIC = FaultKind("InvalidTopicExpressionFault", _SUBSCRIBE)
TOPIC_NOT_SUPPORTED = FaultKind("TopicNotSupportedFault", _SUBSCRIBE)
CREATION_FAILED = FaultKind("SubscribeCreationFailedFault", _SUBSCRIBE)
UNACCEPTABLE_TIME = FaultKind("UnacceptableInitialTerminationTimeFault", _SUBSCRIBE)
UNRECOGNIZED_POLICY = FaultKind("UnrecognizedPolicyRequestFault", _SUBSCRIBE)
RESOURCE_UNKNOWN = FaultKind("ResourceUnknownFault", _UNSUBSCRIBE, _WSRF_R)
UNABLE_TO_DESTROY = FaultKind("UnableToDestroySubscriptionFault", _UNSUBSCRIBE)
UNABLE_TO_CREATE_PULL_POINT = FaultKind(
    "UnableToCreatePullPointFault", "CreatePullPoint/CreatePullPoint"
)
NOTHING_TO_GET_FROM = FaultKind("ResourceUnknownFault", _GET_MESSAGES, _WSRF_R)
NOTHING_TO_DESTROY = FaultKind("ResourceUnknownFault", _DESTROY, _WSRF_R)
UNABLE_TO_DESTROY_PULL_POINT = FaultKind("UnableToDestroyPullPointFault", _DESTROY)


def fault(kind: FaultKind, reason: str, more: str = "") -> SoapFault:
    """A fault to be raised; ``more`` are the elements that ``kind`` adds to a base fault."""
    moment = write_time(datetime.now(UTC))
    detail = (
        f'<wsnt:{kind.name} xmlns:wsnt="{kind.namespace}" xmlns:bf="{_BASE_FAULTS}">'
        f"<bf:Timestamp>{moment}</bf:Timestamp>"
        f'<bf:Description xml:lang="en">{escape_text(reason)}</bf:Description>{more}'
        f"</wsnt:{kind.name}>"
    )
    return SoapFault(
        SENDER,
        reason,
        subcode=f"{{{kind.namespace}}}{kind.name}",
        detail=detail.encode(),
        action=kind.action,
    )


def invalid_filter(reason: str, *unknown: str) -> SoapFault:
    """InvalidFilterFault about the filters ``unknown``, in Clark notation, at least one."""
    return fault(INVALID_FILTER, reason, "".join(_qname("UnknownFilter", one) for one in unknown))


def unrecognized_policy(reason: str, *policies: str) -> SoapFault:
    """UnrecognizedPolicyRequestFault about ``policies``, in Clark notation."""
    more = "".join(_qname("UnrecognizedPolicy", one) for one in policies)
    return fault(UNRECOGNIZED_POLICY, reason, more)


def unacceptable_time(reason: str, earliest: datetime, latest: datetime) -> SoapFault:
    """UnacceptableInitialTerminationTimeFault with the bounds of what is acceptable."""
    more = (
        f"<wsnt:MinimumTime>{write_time(earliest)}</wsnt:MinimumTime>"
        f"<wsnt:MaximumTime>{write_time(latest)}</wsnt:MaximumTime>"
    )
    return fault(UNACCEPTABLE_TIME, reason, more)


def resource_address(manager: str, key: str, identifier: str) -> str:
    """The address of one of the resources of a broker at ``manager``: its key is in the query."""
    return f"{manager}?{key}={identifier}"


def resource_in(address: str, key: str) -> str:
    """The resource in an address made by ``resource_address``; empty when there is none."""
    query, key = address.partition("?")[2], f"{key}="
    return next((p.removeprefix(key) for p in query.split("&") if p.startswith(key)), "")


def write_time(moment: datetime) -> str:
    """``moment`` as xs:dateTime in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_topic(topic: str) -> str:
    """The wsnt:Topic of a notification."""
    return (
        f'<wsnt:Topic xmlns:ihe="{IHE_TOPICS}" Dialect="{SIMPLE_DIALECT}">{escape_text(topic)}'
        "</wsnt:Topic>"
    )


def write_reference(element: str, address: str) -> str:
    """An endpoint reference ``element`` of WS-BaseNotification, with its address alone."""
    return (
        f'<wsnt:{element} xmlns:wsa="{WSA}"><wsa:Address>{escape_text(address)}</wsa:Address>'
        f"</wsnt:{element}>"
    )


def read_reference(parent: etree._Element, element: str) -> str | None:
    """The address in an endpoint reference ``element``; None when there is none."""
    for reference in parent.iterchildren(f"{{{WSNT}}}{element}"):
        return optional_text(reference, ADDRESS)
    return None


def _qname(element: str, name: str) -> str:
    qname = etree.QName(name)
    if not qname.namespace:
        return f"<wsnt:{element}>{qname.localname}</wsnt:{element}>"
    namespace = escape_attribute(qname.namespace)
    return f'<wsnt:{element} xmlns:f="{namespace}">f:{qname.localname}</wsnt:{element}>'
