"""Web services: the headers of every transaction's response (W05)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from conformance import material
from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.subscription_faults import RIGHT
from conformance.cases.web_services import ADDRESSING, SERVICES
from conformance.changes import Change
from conformance.expectation import Same
from conformance.identity_v3 import REVISE, exchange_of, message_of
from conformance.seen import Compared, Seen
from conformance.wire import new_message_id, post_of
from metadata.datatypes import new_oid, new_uuid_urn
from soap.faults import SOAP12, WSA
from soap.message import InMemory
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_43 import DocumentRequest
from transactions.iti_51 import ITI_51
from transactions.iti_52 import ITI_52, SubscribeRequest
from transactions.iti_57 import ITI_57
from transactions.iti_61 import ITI_61
from transactions.iti_62 import ITI_62, RemoveObjectsRequest
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.iti_92 import ITI_92
from transactions.stored_query import find_documents_for_multiple_patients
from transactions.transaction import Transaction

CASES = Cases(Actor.WEB_SERVICES)


class Asked(NamedTuple):
    """A transaction, the endpoint it goes to, and a request that does no harm there."""

    exchange: Transaction[Any, Any]
    endpoint: str
    request: Callable[[Bench], Any]
    needs: str = ""


def _submission(bench: Bench) -> SubmitObjectsRequest:
    patient = bench.unknown_patient()
    return SubmitObjectsRequest.of(bench.submission(patient, bench.entry(patient)))


def _documents(bench: Bench) -> ProvideAndRegisterRequest:
    request = _submission(bench)
    uuid = request.submission.documents[0].entry_uuid
    return ProvideAndRegisterRequest(request, {uuid: InMemory(material.TEXT)})


def _update(bench: Bench) -> SubmitObjectsRequest:
    patient = bench.unknown_patient()
    change = Change(bench, patient)
    change.version(bench.entry(patient, logical_id=new_uuid_urn()))
    return change.request()


def _removal(bench: Bench) -> RemoveDocumentsRequest:
    return RemoveDocumentsRequest((DocumentRequest(new_oid(), new_oid()),))


def _subscription(bench: Bench) -> SubscribeRequest:
    """One that ends by itself, and soon."""
    address = f"http://{bench.targets.listener}/notify/nobody"
    return replace(RIGHT, consumer=address, termination="PT5S")


ASKED = (
    Asked(ITI_42, "registry", _submission),
    Asked(ITI_41, "repository", _documents),
    *(
        Asked(service.exchange, service.name, partial(lambda make, bench: make(), service.request))
        for service in SERVICES
    ),
    Asked(
        ITI_51,
        "registry",
        lambda bench: find_documents_for_multiple_patients([bench.unknown_patient()]),
        "multi_patient",
    ),
    Asked(ITI_61, "registry", _submission, "on_demand"),
    Asked(ITI_57, "registry", _update, "administration"),
    Asked(ITI_92, "registry", _update, "administration"),
    Asked(
        ITI_62,
        "registry",
        lambda bench: RemoveObjectsRequest([new_uuid_urn()]),
        "administration",
    ),
    Asked(ITI_86, "repository", _removal, "administration"),
    Asked(ITI_52, "subscriptions", _subscription, "listener"),
    Asked(
        exchange_of(REVISE),
        "identity_v3",
        lambda bench: message_of(REVISE, bench.unknown_patient()),
    ),
)
"""Every transaction with an answer. What it answers does not matter here."""


def _exact_action(asked: Asked, bench: Bench) -> Iterator[Seen]:
    exchange, message_id = asked.exchange, new_message_id()
    url = bench.targets.endpoint(asked.endpoint)
    request = exchange.write_request(asked.request(bench))
    post = post_of(exchange, request, url, message_id, bench.wire.token())
    answer = bench.wire.send(url, post, exchange)
    seen: tuple[str, str, str] = ("", "", "")
    if answer.message is not None and answer.envelope is not None:
        element = answer.envelope.find(f".//{{{WSA}}}Action")
        flag = "" if element is None else element.get(f"{{{SOAP12}}}mustUnderstand", "")
        must_understand = "1" if flag in ("1", "true") else flag
        seen = (answer.message.action, must_understand, answer.message.relates_to or "")
    wanted = (exchange.response_action, "1", message_id)
    yield Compared("Action, mustUnderstand, RelatesTo", wanted, seen)


for _asked in ASKED:
    CASES.add(
        f"W05-{_asked.exchange.number}",
        f"Response headers of {_asked.exchange.number}: Action, mustUnderstand, RelatesTo",
        f"En-têtes de réponse de {_asked.exchange.number} : Action, mustUnderstand, RelatesTo",
        spec=f"{ADDRESSING}, {_asked.exchange.number} message semantics",
        needs=f"{_asked.endpoint} {_asked.needs}",
        expected=[Same("Action, mustUnderstand, RelatesTo")],
        stimulus=partial(_exact_action, _asked),
    )
