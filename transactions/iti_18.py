"""ITI-18 Registry Stored Query: questions to the registry, answered with its objects.

Covers the messages of ITI TF-2 3.18 on the wire (query:AdhocQueryRequest, simple SOAP) and
its audit record (3.18.5). What the parameters mean, and whether they are right, is told by
``transactions.query_decoding``; here they are the sender's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from lxml import etree

from metadata import ebrim
from metadata.catalogue import RegistryError
from metadata.identifiers import QUERY, RIM, RS
from metadata.model import Submission
from soap.message import Incoming, Outgoing
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import query_event, query_object
from transactions.body import (
    SPACE,
    attribute,
    child,
    escape_attribute,
    escape_text,
    expect_root,
    serialised,
)
from transactions.query_values import BadCoding, read_value
from transactions.registry_response import (
    failure,
    read_errors,
    read_status,
    status_of,
    write_errors,
)
from transactions.transaction import Transaction

ROOT = f"{{{QUERY}}}AdhocQueryRequest"
_RESPONSE = f"{{{QUERY}}}AdhocQueryResponse"
_RESPONSE_OPTION = f"{{{QUERY}}}ResponseOption"
_ADHOC_QUERY = f"{{{RIM}}}AdhocQuery"
_SLOT = f"{{{RIM}}}Slot"
_VALUE_LIST = f"{{{RIM}}}ValueList"
_VALUE = f"{{{RIM}}}Value"
_OBJECTS = f"{{{RIM}}}RegistryObjectList/*"

# How the patient parameter of every stored query ends: $XDSFolderPatientId, $patientId ...
_PATIENT_ID = ("PatientId", "$patientId")

# Fragments that make one message at once: some 3 MB of whole objects. Beyond it whoever asked
# would wait, and the memory would hold every fragment a second time.
AT_ONCE = 500
# Bytes sent at once of a larger answer: the cost of sending (some 50 microseconds) vanishes
# beside that of making them.
_PIECE = 64 * 1024

LEAF_CLASS = "LeafClass"
OBJECT_REF = "ObjectRef"
# The schema's default for an absent returnType; not a value of ITI-18, so decoding refuses it.
_DEFAULT_RETURN_TYPE = "RegistryObject"


@dataclass(frozen=True, slots=True)
class AdhocQueryRequest:
    """One stored query as asked.

    ``parameters`` pairs each slot's name (with its ``$``) with the raw text of its Values,
    in the sender's order; a repeated slot stays repeated, since that means AND.
    """

    query_id: str
    return_type: str = LEAF_CLASS
    parameters: Sequence[tuple[str, Sequence[str]]] = field(default_factory=list)
    home: str | None = None


@dataclass(frozen=True, slots=True)
class AdhocQueryResponse:
    """The answer: stored ebRIM fragments, spliced as they are into the message.

    A fragment is one serialised registry object in which the prefix ``rim`` may be unbound.
    """

    status: str
    errors: tuple[RegistryError, ...] = ()
    fragments: Sequence[bytes] = ()

    @classmethod
    def of(
        cls, fragments: Sequence[bytes] = (), errors: Iterable[RegistryError] = ()
    ) -> AdhocQueryResponse:
        """The answer with these objects and errors, the status following from both."""
        listed = tuple(errors)
        return cls(status_of(listed, results=bool(fragments)), listed, fragments)

    def objects(self) -> Submission:
        """The registry objects in the answer, read."""
        return ebrim.read_fragments(self.fragments)


def read_request(message: Incoming) -> AdhocQueryRequest:
    """The query in a message; InvalidBody when an element that the schema requires is absent."""
    body = expect_root(message.body, ROOT)
    query = child(body, _ADHOC_QUERY)
    option = child(body, _RESPONSE_OPTION)
    return AdhocQueryRequest(
        query_id=attribute(query, "id"),
        return_type=option.get("returnType", _DEFAULT_RETURN_TYPE).strip(SPACE),
        parameters=[read_slot(slot) for slot in query.iterchildren(_SLOT)],
        home=query.get("home", "").strip(SPACE) or None,
    )


def write_request(request: AdhocQueryRequest) -> Outgoing:
    """The message that asks a query."""
    home = f' home="{escape_attribute(request.home)}"' if request.home else ""
    slots = "".join([write_slot(name, values) for name, values in request.parameters])
    return Outgoing(
        [
            f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}">'
            '<query:ResponseOption returnComposedObjects="true"'
            f' returnType="{escape_attribute(request.return_type)}"/>'
            f'<rim:AdhocQuery id="{escape_attribute(request.query_id)}"{home}>{slots}'
            "</rim:AdhocQuery></query:AdhocQueryRequest>".encode()
        ]
    )


def read_response(message: Incoming) -> AdhocQueryResponse:
    """The answer in a message; an absent RegistryObjectList counts as an empty one."""
    body = expect_root(message.body, _RESPONSE)
    objects = [serialised(element) for element in body.iterfind(_OBJECTS)]
    return AdhocQueryResponse(read_status(body), read_errors(body), objects)


def write_response(response: AdhocQueryResponse) -> Outgoing:
    """The message that answers: errors first, then the object list, empty or not (the XSD).

    More than ``AT_ONCE`` fragments are read while they are sent.
    """
    head = f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rs="{RS}" xmlns:rim="{RIM}"'
    opening = (
        f'{head} status="{response.status}">'.encode(),
        write_errors(response.errors),
        b"<rim:RegistryObjectList>",
    )
    closing = b"</rim:RegistryObjectList></query:AdhocQueryResponse>"
    if len(response.fragments) <= AT_ONCE:
        return Outgoing([*opening, *response.fragments, closing])
    return Outgoing(_in_pieces(chain(opening, response.fragments, [closing])))


def _in_pieces(fragments: Iterable[bytes]) -> Iterator[bytes]:
    """``fragments`` joined into pieces worth sending."""
    piece: list[bytes] = []
    size = 0
    for fragment in fragments:
        piece.append(fragment)
        size += len(fragment)
        if size >= _PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


def refuse(text: str) -> AdhocQueryResponse:
    """The Failure for a body that could not be read."""
    outcome = failure("ITI-18", text)
    return AdhocQueryResponse(outcome.status, outcome.errors)


def audit(
    request: AdhocQueryRequest,
    response: AdhocQueryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one query (ITI TF-2 3.18.5)."""
    return [recorded(ITI_18, request, response, scene)]


def recorded(
    transaction: Transaction[AdhocQueryRequest, AdhocQueryResponse],
    request: AdhocQueryRequest,
    response: AdhocQueryResponse | None,
    scene: Scene,
) -> AuditEvent:
    """The audit event of a query by this message, whichever transaction it came by."""
    message = b"".join(write_request(request).body)
    query = query_object(transaction, request.query_id, message, request.home)
    patient_id = _patient_id(request) or scene.patient_id
    status = response.status if response else None
    return query_event(transaction, query, status, scene, patient_id)


def _patient_id(request: AdhocQueryRequest) -> str | None:
    """The patient the query names, if it names one and can be read."""
    for name, values in request.parameters:
        if name.endswith(_PATIENT_ID):
            with suppress(BadCoding):
                literals = [literal for value in values for literal in read_value(value)]
                return literals[0] if len(literals) == 1 else None
    return None


def read_slot(slot: etree._Element) -> tuple[str, list[str]]:
    """Name and values of one rim:Slot, as a parameter; InvalidBody when it has no name."""
    values = child(slot, _VALUE_LIST).iterchildren(_VALUE)
    return attribute(slot, "name"), [(value.text or "").strip(SPACE) for value in values]


def write_slot(name: str, values: Sequence[str]) -> str:
    """The rim:Slot of one parameter."""
    rendered = "".join([f"<rim:Value>{escape_text(value)}</rim:Value>" for value in values])
    return (
        f'<rim:Slot name="{escape_attribute(name)}">'
        f"<rim:ValueList>{rendered}</rim:ValueList></rim:Slot>"
    )


ITI_18: Transaction[AdhocQueryRequest, AdhocQueryResponse] = Transaction(
    number="ITI-18",
    name="Registry Stored Query",
    action="urn:ihe:iti:2007:RegistryStoredQuery",
    response_action="urn:ihe:iti:2007:RegistryStoredQueryResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=refuse,
)
