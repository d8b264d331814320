"""Bodies of the other transactions, changed as the bytes say, and the audit records of them.

Answers are among them: a peer that was asked may be hostile too.

The first byte chooses the transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lxml import etree

from hl7.ack import ACCEPT
from hl7.adt import FeedOutcome
from hl7.v3 import feed
from hl7.v3.names import II
from hl7.v3.request import PatientRole, merge
from metadata import ebrim
from metadata.catalogue import RegistryError
from metadata.datatypes import HD
from soap.faults import InvalidBody, SoapFault
from soap.message import Incoming, InMemory, Outgoing
from tests.fuzz import samples
from tests.fuzz.changing import changed, scripts
from tests.fuzz.target import Target
from transactions import (
    iti_18,
    iti_41,
    iti_43,
    iti_44,
    iti_52,
    iti_53,
    iti_54,
    iti_62,
    iti_69,
    iti_70,
    iti_86,
    rad_69,
    registry_response,
)
from transactions.audit import AuditEvent, Node, Scene, Side, to_xml
from transactions.iti_18 import AdhocQueryResponse
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.query_catalogue import STORED_QUERIES
from transactions.query_decoding import decode
from transactions.rad_69 import SeriesRequest, StudyRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import encode, find_documents
from transactions.subscription_filters import DOCUMENT_FILTER
from transactions.subscription_terms import terms_of
from transactions.wsn import Topic

_OURS, _PATIENT = HD("", "1.2.3", "ISO"), "1^^^&1.2.3&ISO"
_NOW, _YEAR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=365)
_SCENE = Scene(Side.SERVER, _NOW, Node("a", "127.0.0.1"), Node("b"), "source")
_DOCUMENTS = (DocumentRequest("1.2", "1.2.1", "urn:oid:1.9"), DocumentRequest("1.2", "1.2.2"))

Events = list[AuditEvent]


def _query(message: Incoming) -> Events:
    request = iti_18.read_request(message)
    found = decode(request, STORED_QUERIES)
    if isinstance(found, list):
        for fault in found:
            fault.error("ITI-18")
    return iti_18.audit(request, None, _SCENE)


def _provide(message: Incoming) -> Events:
    return iti_41.audit(iti_41.read_request(message), None, _SCENE)


def _retrieve(message: Incoming) -> Events:
    return iti_43.audit(iti_43.read_request(message), None, _SCENE)


def _identify(message: Incoming) -> Events:
    request = iti_44.read_request(message)
    told = feed.answer(request, lambda _: FeedOutcome(ACCEPT), _OURS)
    iti_44.write_response(told)
    return iti_44.audit(request, told, _SCENE)


def _subscribe(message: Incoming) -> Events:
    request = iti_52.read_subscribe(message)
    terms_of(request, _NOW, _YEAR)
    return []


def _notify(message: Incoming) -> Events:
    request = iti_53.read_request(message)
    return iti_54.audit(request, False, _SCENE)


def _destroy(message: Incoming) -> Events:
    return iti_69.audit(iti_69.read_destroy(message), None, _SCENE)


def _pull(message: Incoming) -> Events:
    return iti_70.audit(iti_70.read_request(message), None, _SCENE)


def _created(message: Incoming) -> Events:
    answer = iti_69.read_create_response(message)
    return iti_69.audit(iti_69.CreateRequest(), answer, _SCENE)


def _pulled(message: Incoming) -> Events:
    return iti_70.audit(iti_70.PullRequest("1"), iti_70.read_response(message), _SCENE)


def _remove(message: Incoming) -> Events:
    return iti_62.audit(iti_62.read_request(message), None, _SCENE)


def _remove_documents(message: Incoming) -> Events:
    return iti_86.audit(iti_86.read_request(message), None, _SCENE)


def _images(message: Incoming) -> Events:
    return rad_69.audit(rad_69.read_request(message), None, _SCENE)


def _found(message: Incoming) -> Events:
    iti_18.read_response(message).objects()
    return []


def _retrieved(message: Incoming) -> Events:
    iti_43.read_response(message)
    return []


def _registered(message: Incoming) -> Events:
    registry_response.read_response(message)
    return []


def _identified(message: Incoming) -> Events:
    iti_44.read_response(message)
    return []


@dataclass(frozen=True)
class _Good:
    """A message that is right, and what it means to its receiver."""

    body: etree._Element
    parts: list[str]
    meaning: Callable[[Incoming], Events]


def _good() -> list[_Good]:
    submission = samples.submission()
    provided = iti_41.ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission),
        {one.entry_uuid: InMemory(b"x") for one in submission.documents},
    )
    merged = merge(PatientRole([II("1.2.3", "1")], "DUPONT"), II("1.2.3", "2"), "1.5", "1.6")
    filters = [encode(DOCUMENT_FILTER, {"patient_id": _PATIENT})]
    topics = [iti_52.TopicExpression(Topic.FULL_DOCUMENT_ENTRY)]
    wanted = iti_52.SubscribeRequest("http://consumer.example/", topics, filters, "P1D")
    fragments = [ebrim.write_object(one) for one in submission.documents]
    told = iti_53.Notify([iti_53.Notification(fragments, Topic.FULL_DOCUMENT_ENTRY, "http://a/?b")])
    study = StudyRequest("1.5", (SeriesRequest("1.6", _DOCUMENTS),))
    images = rad_69.RetrieveImagingDocumentSetRequest((study,), ("1.2.840.10008.1.2.1",))
    errors = [RegistryError("XDSRegistryError", "why", "here")]
    answer = feed.answer(merged, lambda _: FeedOutcome("AE", "204", "no such patient"), _OURS)
    document = iti_43.RetrievedDocument(_DOCUMENTS[0], "text/plain", InMemory(b"x"))
    messages: list[tuple[Outgoing, Callable[[Incoming], Events]]] = [
        (iti_18.write_request(find_documents(_PATIENT)), _query),
        (iti_41.write_request(provided), _provide),
        (iti_43.write_request(iti_43.RetrieveDocumentSetRequest(_DOCUMENTS)), _retrieve),
        (iti_44.write_request(merged), _identify),
        (iti_52.write_subscribe(wanted), _subscribe),
        (iti_53.write_request(told), _notify),
        (iti_62.write_request(iti_62.RemoveObjectsRequest(["urn:uuid:1", "a"])), _remove),
        (iti_86.write_request(iti_86.RemoveDocumentsRequest(_DOCUMENTS)), _remove_documents),
        (rad_69.write_request(images), _images),
        (iti_69.write_destroy(iti_69.DestroyRequest("1")), _destroy),
        (iti_70.write_request(iti_70.PullRequest("1", 5, 4)), _pull),
        (iti_69.write_create_response(iti_69.CreateResponse("http://a/?pull-point=1")), _created),
        (iti_70.write_response(iti_70.PullResponse(told.notifications, 7)), _pulled),
        (iti_18.write_response(AdhocQueryResponse.of(fragments, errors)), _found),
        (iti_43.write_response(RetrieveDocumentSetResponse.of(errors, [document])), _retrieved),
        (registry_response.write_response(RegistryResponse.of(errors)), _registered),
        (iti_44.write_response(answer), _identified),
    ]
    return [
        _Good(
            etree.fromstring(b"".join(sent.body)), [one.content_id for one in sent.parts], meaning
        )
        for sent, meaning in messages
    ]


_GOOD = _good()


def read(data: bytes) -> None:
    """Read the body as its transaction does, and write what the audit trail keeps of it."""
    good = _GOOD[data[0] % len(_GOOD) if data else 0]
    attachments = {name: InMemory(b"x") for name in good.parts}
    place = f"http://a/?pull-point={data.decode('latin-1')}"
    message = Incoming(changed(good.body, data[1:]), attachments=attachments, sent_to=(place,))
    for event in good.meaning(message):
        etree.fromstring(to_xml(event))


def seeds() -> list[bytes]:
    """Each transaction, as it is and changed."""
    return [bytes([number]) + script for number in range(len(_GOOD)) for script in scripts()]


TARGET = Target("bodies", read, (InvalidBody, SoapFault), seeds, 2_000)
