"""ITI-44 Patient Identity Feed HL7 v3: who the patients are, over SOAP.

Covers the messages of ITI TF-2 3.44 on the wire (three interactions, simple SOAP, one answer)
and their audit records (3.44.5). The messages themselves, and what they mean, are in ``hl7.v3``.
"""

from __future__ import annotations

from collections.abc import Iterable

from hl7.errors import DATA_TYPE, Problem
from hl7.v3.acknowledgement import (
    ACCEPT,
    ERROR,
    Acknowledgement,
    read_acknowledgement,
    write_acknowledgement,
)
from hl7.v3.names import ACKNOWLEDGEMENT, ADD, II, MERGE, NAMESPACE, REVISE, serialised
from hl7.v3.request import IdentityRequest, root_of
from metadata.datatypes import CX
from soap.message import Incoming, Outgoing
from transactions.audit import Action, AuditEvent, Coded, Outcome, Scene
from transactions.audit_events import identity_event
from transactions.transaction import InvalidBody, Transaction

TYPE = Coded("ITI-44", "IHE Transactions", "Patient Identity Feed")

_MESSAGE_ID = "II"
"""What the detail with the message's id is called (ITI TF-2 3.44.5); in ITI-8 it is MSH-10."""


def read_request(message: Incoming) -> IdentityRequest:
    """The request in a message; whether it is right is told in the acknowledgement."""
    return IdentityRequest(message.body)


def write_request(request: IdentityRequest) -> Outgoing:
    """The message that carries a request."""
    return Outgoing([serialised(request.element)])


def read_response(message: Incoming) -> Acknowledgement:
    """The acknowledgement in a message; InvalidBody when there is none."""
    found = read_acknowledgement(message.body)
    if found is None:
        raise InvalidBody("the answer holds no acknowledgement/typeCode")
    return found


def write_response(response: Acknowledgement) -> Outgoing:
    """The message that carries an acknowledgement."""
    return Outgoing([write_acknowledgement(response)])


def refuse(text: str) -> Acknowledgement:
    """The answer to a body that could not be read."""
    return Acknowledgement(ERROR, problems=(Problem(DATA_TYPE, text),))


def audit(
    request: IdentityRequest, response: Acknowledgement | None, scene: Scene
) -> list[AuditEvent]:
    """The audit records of one request: of a merge, one for each of the two (3.44.5)."""
    detail = (_MESSAGE_ID, request.message_id.root)
    outcome = _outcome(response)

    def record(action: Action, about: Iterable[II]) -> AuditEvent:
        return identity_event(TYPE, action, map(_cx, about), detail, scene, outcome)

    if request.interaction == MERGE:
        return [
            record(Action.DELETE, request.replaced),
            record(Action.UPDATE, request.identifiers),
        ]
    action = Action.UPDATE if request.interaction == REVISE else Action.CREATE
    return [record(action, request.identifiers)]


def _outcome(response: Acknowledgement | None) -> Outcome:
    if response is None:
        return Outcome.MAJOR_FAILURE
    return Outcome.SUCCESS if response.status == ACCEPT else Outcome.SERIOUS_FAILURE


def _cx(identifier: II) -> str:
    return str(CX.of(identifier.extension, identifier.root))


def _interaction(name: str) -> Transaction[IdentityRequest, Acknowledgement]:
    return Transaction(
        number="ITI-44",
        name=TYPE.meaning,
        action=f"{NAMESPACE}:{name}",
        response_action=f"{NAMESPACE}:{ACKNOWLEDGEMENT}",
        root=root_of(name),
        mtom=False,
        read_request=read_request,
        write_request=write_request,
        read_response=read_response,
        write_response=write_response,
        refuse=refuse,
    )


ITI_44_ADD = _interaction(ADD)
ITI_44_REVISE = _interaction(REVISE)
ITI_44_MERGE = _interaction(MERGE)

ITI_44 = {ADD: ITI_44_ADD, REVISE: ITI_44_REVISE, MERGE: ITI_44_MERGE}
"""The three by the name of their interaction."""
