"""ITI-62 Remove Metadata: an administrator takes objects out of the registry.

Covers the messages of Remove Metadata and Documents 3.62 on the wire (lcm:RemoveObjectsRequest,
simple SOAP) and its audit record (3.62.5). Objects are named one by one: a request that selects
them by an AdhocQuery, or that has a deletionScope, is refused. Whether they may go is judged by
the registry (``registry.remove``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metadata.identifiers import LCM, RIM
from soap.message import Incoming, Outgoing
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import removal_event
from transactions.body import attribute, child, children, escape_attribute, expect_root
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    write_response,
)
from transactions.transaction import InvalidBody, Transaction

ROOT = f"{{{LCM}}}RemoveObjectsRequest"
_ADHOC_QUERY = f"{{{RIM}}}AdhocQuery"
_OBJECT_REF_LIST = f"{{{RIM}}}ObjectRefList"
_OBJECT_REF = f"{{{RIM}}}ObjectRef"


@dataclass(frozen=True, slots=True)
class RemoveObjectsRequest:
    """The entryUUIDs of the objects to be removed, in the sender's order."""

    entry_uuids: Sequence[str]


def read_request(message: Incoming) -> RemoveObjectsRequest:
    """The objects named in a message; InvalidBody for any other way of choosing them."""
    body = expect_root(message.body, ROOT)
    if body.get("deletionScope") is not None:
        raise InvalidBody("<RemoveObjectsRequest> has a deletionScope, which is not allowed")
    if next(body.iterchildren(_ADHOC_QUERY), None) is not None:
        raise InvalidBody("<RemoveObjectsRequest> has an <AdhocQuery>; name each object instead")
    references = children(child(body, _OBJECT_REF_LIST), _OBJECT_REF)
    return RemoveObjectsRequest([attribute(reference, "id") for reference in references])


def write_request(request: RemoveObjectsRequest) -> Outgoing:
    """The message that asks for a removal."""
    references = "".join(
        f'<rim:ObjectRef id="{escape_attribute(one)}"/>' for one in request.entry_uuids
    )
    return Outgoing(
        [
            f'<lcm:RemoveObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:ObjectRefList>'
            f"{references}</rim:ObjectRefList></lcm:RemoveObjectsRequest>".encode()
        ]
    )


def audit(
    request: RemoveObjectsRequest,
    response: RegistryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one removal (Remove Metadata and Documents 3.62.5)."""
    return [removal_event(ITI_62, request.entry_uuids, response, scene)]


ITI_62: Transaction[RemoveObjectsRequest, RegistryResponse] = Transaction(
    number="ITI-62",
    name="Remove Metadata",
    action="urn:ihe:iti:2010:DeleteDocumentSet",
    response_action="urn:ihe:iti:2010:DeleteDocumentSetResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-62", text),
)
