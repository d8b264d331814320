"""ITI-57 Update Document Set: an administrator changes what the registry holds.

Covers the messages of Metadata Update 3.57 on the wire (lcm:SubmitObjectsRequest, simple SOAP,
the very body of ITI-42) and its audit record (3.57.5). Which operations a message asks for, and
whether they may be done, is judged by the registry (``registry.update``). ``new_version`` and
``change_status`` make the commonest requests.
"""

from __future__ import annotations

from dataclasses import replace

from metadata.identifiers import (
    DO_NOT_PROPAGATE,
    HAS_MEMBER,
    ORIGINAL,
    UPDATE_AVAILABILITY_STATUS,
)
from metadata.model import Association, DocumentEntry, Folder, Submission, SubmissionSet
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import update_event
from transactions.iti_42 import ROOT, SubmitObjectsRequest, read_request, write_request
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    write_response,
)
from transactions.transaction import Transaction


def new_version(
    changed: DocumentEntry | Folder, submission_set: SubmissionSet, *, propagate: bool = True
) -> SubmitObjectsRequest:
    """The request that lets ``changed`` follow the version it was made from.

    ``changed`` is an object as a query returned it, with other values where something changes:
    its logicalID and version say what it follows. It inherits the links of that version if
    ``propagate``. ``submission_set`` is of the patient of ``changed``.
    """
    version = replace(changed, entry_uuid="version", availability_status=None)
    member = Association(
        entry_uuid="member",
        association_type=HAS_MEMBER,
        source=submission_set.entry_uuid,
        target=version.entry_uuid,
        submission_set_status=ORIGINAL if isinstance(changed, DocumentEntry) else None,
        previous_version=changed.version,
        association_propagation=None if propagate else DO_NOT_PROPAGATE,
    )
    submission = Submission([submission_set], associations=[member])
    if isinstance(version, DocumentEntry):
        submission.documents.append(version)
    else:
        submission.folders.append(version)
    return SubmitObjectsRequest.of(submission)


def change_status(
    target: str, original: str, new: str, submission_set: SubmissionSet
) -> SubmitObjectsRequest:
    """The request that takes the object ``target`` from one availabilityStatus to another."""
    change = Association(
        entry_uuid="change",
        association_type=UPDATE_AVAILABILITY_STATUS,
        source=submission_set.entry_uuid,
        target=target,
        original_status=original,
        new_status=new,
    )
    return SubmitObjectsRequest.of(Submission([submission_set], associations=[change]))


def audit(
    request: SubmitObjectsRequest,
    response: RegistryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one update (Metadata Update 3.57.5)."""
    return [update_event(ITI_57, request.submission, response, scene)]


ITI_57: Transaction[SubmitObjectsRequest, RegistryResponse] = Transaction(
    number="ITI-57",
    name="Update Document Set",
    action="urn:ihe:iti:2010:UpdateDocumentSet",
    response_action="urn:ihe:iti:2010:UpdateDocumentSetResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-57", text),
)
