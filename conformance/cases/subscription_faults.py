"""Document Metadata Notification Broker: the faults of Subscribe and Unsubscribe (D02)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import NotificationFault
from conformance.seen import Seen
from conformance.subscribing import subscribe, unsubscribe
from metadata.datatypes import CX, new_uuid_urn
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_52 import SubscribeRequest, TopicExpression, address_of
from transactions.stored_query import encode
from transactions.subscription_filters import DOCUMENT_FILTER, SUBMISSION_SET_FILTER
from transactions.wsn import Topic

CASES = Cases(Actor.BROKER, "subscriptions")

SUBSCRIBE = "ITI TF-2 3.52.4.1.3"
NOWHERE = "http://127.0.0.1:9/notify"
"""An address that is never told anything: no subscription comes about."""

RIGHT = SubscribeRequest(
    NOWHERE,
    [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)],
    [encode(DOCUMENT_FILTER, {"patient_id": CX.of("NOBODY", "2.25.7")})],
)
"""A right subscription, to be spoilt."""

SPOILT: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "dialect": (
        "A topic in an unknown dialect",
        "Un sujet dans un dialecte inconnu",
        "TopicExpressionDialectUnknownFault",
        {"topics": [TopicExpression(Topic.FULL_DOCUMENT_ENTRY, "urn:kit:dialect")]},
    ),
    "expression": (
        "A topic that is no name",
        "Un sujet qui n'est pas un nom",
        "InvalidTopicExpressionFault",
        {"topics": [TopicExpression("ihe:Full Document//*")]},
    ),
    "topic": (
        "A topic that nobody has defined",
        "Un sujet que personne n'a défini",
        "TopicNotSupportedFault",
        {"topics": [TopicExpression("ihe:KitUnknown")]},
    ),
    "filter": (
        "A filter that nobody has defined",
        "Un filtre que personne n'a défini",
        "InvalidFilterFault",
        {"queries": [AdhocQueryRequest(new_uuid_urn(), parameters=RIGHT.queries[0].parameters)]},
    ),
    "other-filter": (
        "A SubmissionSet filter beside a DocumentEntry topic",
        "Un filtre de lot à côté d'un sujet de fiche",
        "InvalidFilterFault",
        {"queries": [encode(SUBMISSION_SET_FILTER, {"patient_id": CX.of("NOBODY", "2.25.7")})]},
    ),
    "no-filter": (
        "A topic and no filter",
        "Un sujet et aucun filtre",
        "InvalidFilterFault",
        {"queries": []},
    ),
    "no-patient": (
        "A filter without its patient",
        "Un filtre sans son patient",
        "InvalidFilterFault",
        {"queries": [AdhocQueryRequest(DOCUMENT_FILTER.id)]},
    ),
    "consumer": (
        "A recipient that no notification can be sent to",
        "Un destinataire qu'aucune notification ne peut atteindre",
        "SubscribeCreationFailedFault",
        {"consumer": "ftp://127.0.0.1/notify"},
    ),
}
"""What is wrong with a subscription, and its fault."""


def _spoilt(changes: dict[str, Any], bench: Bench) -> Iterator[Seen]:
    yield subscribe(bench, replace(RIGHT, **changes))


for _variant, (_en, _fr, _fault, _changes) in SPOILT.items():
    CASES.add(
        f"D02-{_variant}",
        _en,
        _fr,
        spec=SUBSCRIBE,
        expected=[NotificationFault(_fault)],
        stimulus=partial(_spoilt, _changes),
    )


@CASES.case(
    "D02-unsubscribe",
    "Unsubscribe to a subscription that does not exist",
    "Unsubscribe d'un abonnement qui n'existe pas",
    spec="ITI TF-2 3.52.4.3.3",
    expected=[NotificationFault("ResourceUnknownFault")],
)
def _unknown_subscription(bench: Bench) -> Iterator[Seen]:
    broker = bench.targets.endpoint("subscriptions")
    yield unsubscribe(bench, address_of(broker, new_uuid_urn()))
