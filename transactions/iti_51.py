"""ITI-51 Multi-Patient Stored Query: the same questions as ITI-18, across patients.

Covers ITI TF-2 3.51: the messages are those of ITI-18 under actions of their own, and so is the
audit record (3.51.5). Its two queries are listed in ``transactions.query_catalogue``; ITI-18
does not know them, nor this transaction those of ITI-18.
"""

from __future__ import annotations

from transactions import iti_18
from transactions.audit import AuditEvent, Scene
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse
from transactions.registry_response import failure
from transactions.transaction import Transaction


def refuse(text: str) -> AdhocQueryResponse:
    """The Failure for a body that could not be read."""
    outcome = failure("ITI-51", text)
    return AdhocQueryResponse(outcome.status, outcome.errors)


def audit(
    request: AdhocQueryRequest,
    response: AdhocQueryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one query (ITI TF-2 3.51.5), with its patient if it names just one.

    Several stand in the message, which is part of the record.
    """
    return [iti_18.recorded(ITI_51, request, response, scene)]


ITI_51: Transaction[AdhocQueryRequest, AdhocQueryResponse] = Transaction(
    number="ITI-51",
    name="Multi-Patient Stored Query",
    action="urn:ihe:iti:2009:MultiPatientStoredQuery",
    response_action="urn:ihe:iti:2009:MultiPatientStoredQueryResponse",
    root=iti_18.ROOT,
    mtom=False,
    read_request=iti_18.read_request,
    write_request=iti_18.write_request,
    read_response=iti_18.read_response,
    write_response=iti_18.write_response,
    refuse=refuse,
)
