"""ITI-42 Register Document Set-b: a repository submits metadata to the registry.

Covers the messages of ITI TF-2 3.42 on the wire (lcm:SubmitObjectsRequest, simple SOAP) and
its audit record (3.42.5). Whether a submission is right is judged by ``metadata.validation``
and by the registry.
"""

from __future__ import annotations

from functools import cached_property

from lxml import etree

from metadata import ebrim
from metadata.identifiers import LCM, RIM
from metadata.model import Submission
from soap.message import Incoming, Outgoing
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import submission_event
from transactions.body import child, expect_root, serialised
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    write_response,
)
from transactions.transaction import Transaction

ROOT = f"{{{LCM}}}SubmitObjectsRequest"
REGISTRY_OBJECT_LIST = f"{{{RIM}}}RegistryObjectList"


class SubmitObjectsRequest:
    """A submission as XML, with its meaning read when first asked for.

    A repository edits ``element`` in place (hash, size, repositoryUniqueId) and hands it on
    with everything else untouched; ``submission`` states the meaning at the time of its
    first use and does not follow later edits.
    """

    def __init__(self, element: etree._Element) -> None:
        self.element = expect_root(element, ROOT)
        self.registry_objects = child(element, REGISTRY_OBJECT_LIST)

    @cached_property
    def submission(self) -> Submission:
        """The registry objects in the message; faults seen while reading are inside."""
        return ebrim.read_objects(self.registry_objects)

    @classmethod
    def of(cls, submission: Submission) -> SubmitObjectsRequest:
        """The request that submits these objects, in canonical ebRIM."""
        return cls(
            etree.fromstring(
                b'<lcm:SubmitObjectsRequest xmlns:lcm="%s">%s</lcm:SubmitObjectsRequest>'
                % (LCM.encode(), ebrim.wrap(ebrim.write_objects(submission)))
            )
        )


def read_request(message: Incoming) -> SubmitObjectsRequest:
    """The submission in a message; InvalidBody when it holds no RegistryObjectList."""
    return SubmitObjectsRequest(message.body)


def write_request(request: SubmitObjectsRequest) -> Outgoing:
    """The message that carries a submission."""
    return Outgoing([serialised(request.element)])


def audit(
    request: SubmitObjectsRequest,
    response: RegistryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one registration (ITI TF-2 3.42.5)."""
    return [submission_event(ITI_42, request.submission, response, scene)]


ITI_42: Transaction[SubmitObjectsRequest, RegistryResponse] = Transaction(
    number="ITI-42",
    name="Register Document Set-b",
    action="urn:ihe:iti:2007:RegisterDocumentSet-b",
    response_action="urn:ihe:iti:2007:RegisterDocumentSet-bResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-42", text),
)
