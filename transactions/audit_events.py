"""What each kind of exchange leaves in the audit trail.

Covers the audit sections of ITI TF-2 3.8, 3.18, 3.41 to 3.44, 3.57, 3.61, 3.62, 3.64 and 3.92
(3.n.5), 3.52 to 3.54 (3.n.6), 3.69 and 3.70, of RMD 3.86 and of RAD TF-2 4.68 and 4.69: which
event, which action, who is source and who destination, which objects. The transactions' own
``audit`` functions call in here with what they know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metadata.identifiers import (
    FAILURE,
    FD_NODE,
    PARTIAL_SUCCESS,
    REGISTRY_OBJECT,
    SS_NODE,
    STABLE,
)
from metadata.model import DocumentEntry, Folder, Submission, SubmissionSet
from transactions.audit import (
    DESTINATION,
    SOURCE,
    Action,
    AuditEvent,
    Coded,
    Node,
    Outcome,
    Participant,
    ParticipantObject,
    Scene,
    Side,
)
from transactions.transaction import Transaction

if TYPE_CHECKING:
    from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
    from transactions.registry_response import RegistryResponse

EXPORT = Coded("110106", "DCM", "Export")
IMPORT = Coded("110107", "DCM", "Import")
QUERY = Coded("110112", "DCM", "Query")
PATIENT_RECORD = Coded("110110", "DCM", "Patient Record")
INSTANCES_ACCESSED = Coded("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Coded("110104", "DCM", "DICOM Instances Transferred")

_APPLICATION_ACTIVITY = Coded("110100", "DCM", "Application Activity")
_STARTS = Coded("110120", "DCM", "Application Start")
_STOPS = Coded("110121", "DCM", "Application Stop")
_APPLICATION = Coded("110150", "DCM", "Application")
_SECURITY_ALERT = Coded("110113", "DCM", "Security Alert")
_AUTHENTICATION = Coded("110126", "DCM", "Node Authentication")
_CONFIGURATION = Coded("110131", "DCM", "Software Configuration")
# What is true of records in time rests on the clock; it has no code of its own (PS3.16 CID 403).
_CLOCK = Coded("110129", "DCM", "Security Configuration")
# CID 403 may be extended, and has nothing for what is no message of any transaction.
_NOT_UNDERSTOOD = Coded("not-understood", "Kosmos", "Message Not Understood")
_EMERGENCY = Coded("110127", "DCM", "Emergency Override Started")
_ACCESS_CHANGED = Coded("110135", "DCM", "Object Security Attributes Changed")
_RESTRICTED_FUNCTION = Coded("110132", "DCM", "Use of Restricted Function")
_TRAIL_USED = Coded("110101", "DCM", "Audit Log Used")

_URI = Coded("12", "RFC-3881", "URI")
_PATIENT_NUMBER = Coded("2", "RFC-3881", "Patient Number")
_REPORT_NUMBER = Coded("9", "RFC-3881", "Report Number")
_STUDY_UID = Coded("110180", "DCM", "Study Instance UID")
_SUBMISSION_SET = Coded(SS_NODE, "IHE XDS Metadata", "submission set classificationNode")
# A removal names objects of any kind without saying which.
_REGISTRY_OBJECT = Coded(REGISTRY_OBJECT, "IHE XDS Metadata", "registry object")

# The kinds of object that a notification tells of; a bare reference is one to a DocumentEntry.
_KINDS_TOLD: Mapping[type, Coded] = {
    DocumentEntry: Coded(STABLE, "IHE XDS Metadata", "document entry object type"),
    SubmissionSet: _SUBMISSION_SET,
    Folder: Coded(FD_NODE, "IHE XDS Metadata", "folder classificationNode"),
}

# ParticipantObjectTypeCode and ...TypeCodeRole (PS3.15 A.5.1).
_PERSON, _SYSTEM_OBJECT = 1, 2
_ROLE_PATIENT, _ROLE_REPORT, _ROLE_JOB, _ROLE_QUERY = 1, 3, 20, 24
_ROLE_SECURITY_RESOURCE = 13

# The home community's detail has one name in queries and another in retrievals.
_HOME_IN_QUERY = "urn:ihe:iti:xca:2010:homeCommunityId"
_HOME_IN_RETRIEVAL = "ihe:homeCommunityID"
# And so has that of the repository.
_REPOSITORY_IN_REMOVAL = "urn:ihe:iti:xds:2007:repositoryUniqueId"

_OUTCOMES = {FAILURE: Outcome.SERIOUS_FAILURE, PARTIAL_SUCCESS: Outcome.MINOR_FAILURE}

AnyTransaction = Transaction[Any, Any]
Kind = tuple[Coded, Action]  # EventID and EventActionCode, which always go together


def event_type(transaction: AnyTransaction) -> Coded:
    """The EventTypeCode of a transaction."""
    return Coded(transaction.number, "IHE Transactions", transaction.name)


# What a server records of each request, whatever it says; of a number that stands for several
# kinds of request, that it was asked to do something.
_ASKED: Mapping[str, Kind] = {
    **dict.fromkeys(("ITI-18", "ITI-51"), (QUERY, Action.EXECUTE)),
    **dict.fromkeys(("ITI-41", "ITI-42", "ITI-54", "ITI-61"), (IMPORT, Action.CREATE)),
    **dict.fromkeys(("ITI-43", "ITI-70"), (EXPORT, Action.READ)),
    "ITI-44": (PATIENT_RECORD, Action.EXECUTE),
    **dict.fromkeys(("ITI-52", "ITI-69"), (QUERY, Action.EXECUTE)),
    **dict.fromkeys(("ITI-57", "ITI-92"), (IMPORT, Action.UPDATE)),
    **dict.fromkeys(("ITI-62", "ITI-86"), (PATIENT_RECORD, Action.DELETE)),
    "RAD-69": (INSTANCES_TRANSFERRED, Action.READ),
}


def unread_event(number: str, name: str, reason: str, scene: Scene) -> AuditEvent:
    """A request whose body could not be read: who asked for what, and what he was told."""
    type_, kind = Coded(number, "IHE Transactions", name), _ASKED[number]
    sends = kind[1] is Action.READ
    event = _event(type_, kind, Outcome.SERIOUS_FAILURE, scene, (), server_sends=sends)
    return event._replace(outcome_description=reason)


def patient(identifier: str, details: tuple[tuple[str, str], ...] = ()) -> ParticipantObject:
    """The patient an exchange was about."""
    return ParticipantObject(identifier, _PERSON, _ROLE_PATIENT, _PATIENT_NUMBER, details=details)


def query_event(
    transaction: AnyTransaction,
    query: ParticipantObject,
    status: str | None,
    scene: Scene,
    patient_id: str | None,
) -> AuditEvent:
    """A query: same event on both sides, the client being the source (ITI TF-2 3.18.5)."""
    patients = _patients([patient_id])
    objects = (*patients, query)
    return _event(
        event_type(transaction), (QUERY, Action.EXECUTE), _outcome(status), scene, objects
    )


def query_object(
    transaction: AnyTransaction, query_id: str, message: bytes, home: str | None
) -> ParticipantObject:
    """The stored query that was asked, with the whole request message."""
    details = [("QueryEncoding", "UTF-8")]
    if home:
        details.append((_HOME_IN_QUERY, home))
    return ParticipantObject(
        query_id,
        _SYSTEM_OBJECT,
        _ROLE_QUERY,
        event_type(transaction),
        query=message,
        details=tuple(details),
    )


def hl7_query_event(
    type_: Coded,
    identifiers: Iterable[str],
    query: bytes,
    message_id: tuple[str, str],
    scene: Scene,
    outcome: Outcome,
) -> AuditEvent:
    """A query in HL7 v2 (ITI TF-2 3.9.5): who was asked about, and the segment that asked."""
    asked = ParticipantObject(
        type_.code, _SYSTEM_OBJECT, _ROLE_QUERY, type_, query=query, details=(message_id,)
    )
    objects = (*_patients(identifiers), asked)
    return _event(type_, (QUERY, Action.EXECUTE), outcome, scene, objects)


def submission_event(
    transaction: AnyTransaction,
    submission: Submission,
    response: RegistryResponse | None,
    scene: Scene,
) -> AuditEvent:
    """A submission: Export on the sender's side, Import on the receiver's (3.41.5, 3.42.5)."""
    sending = scene.side is Side.CLIENT
    kind = (EXPORT, Action.READ) if sending else (IMPORT, Action.CREATE)
    return _event_about_sets(transaction, kind, submission, response, scene)


def update_event(
    transaction: AnyTransaction,
    submission: Submission,
    response: RegistryResponse | None,
    scene: Scene,
) -> AuditEvent:
    """An update: as a submission, but what happens to the objects is Update (3.57.5, 3.92.5)."""
    event_id = EXPORT if scene.side is Side.CLIENT else IMPORT
    return _event_about_sets(transaction, (event_id, Action.UPDATE), submission, response, scene)


def removal_event(
    transaction: AnyTransaction,
    entry_uuids: Iterable[str],
    response: RegistryResponse | None,
    scene: Scene,
) -> AuditEvent:
    """A removal of metadata: the same event on both sides, with every object named (3.62.5)."""
    objects = _patients([scene.patient_id]) + tuple(
        ParticipantObject(one, _SYSTEM_OBJECT, _ROLE_REPORT, _REGISTRY_OBJECT)
        for one in entry_uuids
    )
    kind = (PATIENT_RECORD, Action.DELETE)
    outcome = _outcome(response.status if response else None)
    return _event(event_type(transaction), kind, outcome, scene, objects)


def retrieval_events(
    transaction: AnyTransaction,
    requests: Iterable[DocumentRequest],
    response: RetrieveDocumentSetResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """A retrieval: Import for who asked, Export for who held the documents (3.43.5)."""
    got, lost = _split(requests, response)
    kind = (IMPORT, Action.CREATE) if scene.side is Side.CLIENT else (EXPORT, Action.READ)
    return _outcome_classes(
        transaction, kind, [map(_document, got), map(_document, lost)], response, scene
    )


def removal_events(
    transaction: AnyTransaction,
    requests: Iterable[DocumentRequest],
    response: RegistryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """A removal: Patient Record, Delete, on both sides (RMD 3.86.5)."""
    gone: list[ParticipantObject] = []
    kept: list[ParticipantObject] = []
    for request in requests:
        failed = response is None or _failed(request, response)
        details = [(_REPOSITORY_IN_REMOVAL, request.repository_unique_id)]
        (kept if failed else gone).append(_document(request, tuple(details)))
    kind = (PATIENT_RECORD, Action.DELETE)
    return _outcome_classes(transaction, kind, [gone, kept], response, scene, server_sends=False)


def _failed(request: DocumentRequest, response: RegistryResponse) -> bool:
    """Whether an error is about this document; codeContext names it (RMD 3.86.4.1.3)."""
    if response.status == FAILURE:
        return True
    unique_id = request.document_unique_id
    return any(
        unique_id == error.location or unique_id in error.context.split()
        for error in response.errors
    )


def imaging_retrieval_events(
    transaction: AnyTransaction,
    studies: Iterable[tuple[str, Sequence[DocumentRequest]]],
    response: RetrieveDocumentSetResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """A retrieval of images: one object for each study, with the number of its instances.

    DICOM Instances Accessed for who asked, Transferred for the source (RAD TF-2 4.69.5).
    """
    got: list[ParticipantObject] = []
    lost: list[ParticipantObject] = []
    for study_instance_uid, requests in studies:
        for objects, some in zip((got, lost), _split(requests, response), strict=True):
            if some:
                objects.append(_study(study_instance_uid, some))
    asking = scene.side is Side.CLIENT
    kind = (INSTANCES_ACCESSED, Action.CREATE) if asking else (INSTANCES_TRANSFERRED, Action.READ)
    return _outcome_classes(transaction, kind, [got, lost], response, scene)


# What is asked for over DICOMweb and WADO-URI (RAD TF-2 4.55, 4.107, 4.108, 4.129).
WEB_IMAGING: Mapping[str, tuple[str, Kind]] = {
    "RAD-55": ("WADO Retrieve", (INSTANCES_TRANSFERRED, Action.READ)),
    "RAD-107": ("WADO-RS Retrieve", (INSTANCES_TRANSFERRED, Action.READ)),
    "RAD-108": ("Store Instances Over the Web", (INSTANCES_TRANSFERRED, Action.CREATE)),
    "RAD-129": ("QIDO-RS Query", (QUERY, Action.EXECUTE)),
}


def web_imaging_event(
    number: str, studies: Iterable[str], asked: bytes, outcome: Outcome, scene: Scene
) -> AuditEvent:
    """A request for images over the web; ``asked`` is its path and query, for a query to keep."""
    name, kind = WEB_IMAGING[number]
    type_ = Coded(number, "IHE Transactions", name)
    objects = [*map(study_object, studies)]
    if kind[0] is QUERY:
        query = ParticipantObject(number, _SYSTEM_OBJECT, _ROLE_QUERY, type_, query=asked)
        objects.append(query)
    sends = kind[0] is INSTANCES_TRANSFERRED and kind[1] is Action.READ
    return _event(type_, kind, outcome, scene, tuple(objects), server_sends=sends)


def of_patients(event: AuditEvent, whose: Callable[[Collection[str]], Iterable[str]]) -> AuditEvent:
    """The same with the patients of the studies that travel, whom no request for images names:
    ``whose`` gives them (CX) by Study Instance UID."""
    studies = [one.id for one in event.objects if one.id_type == _STUDY_UID]
    named = any(one.id_type == _PATIENT_NUMBER for one in event.objects)
    if named or not studies or event.id == QUERY:
        return event
    return event._replace(objects=(*_patients(whose(studies)), *event.objects))


def subscription_event(
    transaction: AnyTransaction, action: Action, identifier: str, done: bool, scene: Scene
) -> AuditEvent:
    """A subscription made or ended: same event on both sides (ITI TF-2 3.52.6)."""
    subscription = ParticipantObject(identifier, _SYSTEM_OBJECT, _ROLE_JOB, event_type(transaction))
    objects = (*_patients([scene.patient_id]), subscription)
    outcome = Outcome.SUCCESS if done else Outcome.SERIOUS_FAILURE
    return _event(event_type(transaction), (QUERY, action), outcome, scene, objects)


def notification_event(
    transaction: AnyTransaction, told: Submission, accepted: bool, scene: Scene
) -> AuditEvent:
    """A notification: Export for who tells, Import for who is told (3.53.6, 3.54.6)."""
    sending = scene.side is Side.CLIENT
    return _event(
        event_type(transaction),
        (EXPORT, Action.READ) if sending else (IMPORT, Action.CREATE),
        Outcome.SUCCESS if accepted else Outcome.MAJOR_FAILURE,
        scene,
        _told(told, scene),
    )


def pull_event(
    transaction: AnyTransaction, pull_point: str, told: Submission | None, scene: Scene
) -> AuditEvent:
    """Notifications fetched: Export for who gives, Import for who is given; None for a failure."""
    fetching = scene.side is Side.CLIENT
    place = ParticipantObject(pull_point, _SYSTEM_OBJECT, _ROLE_JOB, event_type(transaction))
    return _event(
        event_type(transaction),
        (IMPORT, Action.CREATE) if fetching else (EXPORT, Action.READ),
        Outcome.MAJOR_FAILURE if told is None else Outcome.SUCCESS,
        scene,
        (*(() if told is None else _told(told, scene)), place),
        server_sends=True,
    )


def _told(told: Submission, scene: Scene) -> tuple[ParticipantObject, ...]:
    """The patients and the objects that are told of."""
    described = (*told.submission_sets, *told.documents, *told.folders)
    patients = dict.fromkeys([scene.patient_id, *(one.patient_id for one in described)])
    entries = [(one.entry_uuid, _KINDS_TOLD[type(one)]) for one in described]
    entries += [(reference, _KINDS_TOLD[DocumentEntry]) for reference in told.object_refs]
    return _patients(patients) + tuple(
        ParticipantObject(identifier, _SYSTEM_OBJECT, _ROLE_REPORT, kind)
        for identifier, kind in entries
    )


def identity_event(
    type_: Coded,
    action: Action,
    identifiers: Iterable[str],
    message_id: tuple[str, str],
    scene: Scene,
    outcome: Outcome,
) -> AuditEvent:
    """A change to a patient's identity; ``message_id`` is what it is called and what it is."""
    objects = tuple(patient(identifier, (message_id,)) for identifier in identifiers)
    return _event(type_, (PATIENT_RECORD, action), outcome, scene, objects)


def report_event(
    type_: Coded,
    identifiers: Iterable[str],
    message_id: tuple[str, str],
    scene: Scene,
    outcome: Outcome,
) -> AuditEvent:
    """A report that comes as a message (Import); ``message_id`` as in an identity event."""
    objects = tuple(patient(identifier, (message_id,)) for identifier in identifiers)
    return _event(type_, (IMPORT, Action.CREATE), outcome, scene, objects)


def application_event(starts: bool, scene: Scene) -> AuditEvent:
    """An actor starts or stops (PS3.15 A.5.3.1); the scene's server is the application."""
    type_ = _STARTS if starts else _STOPS
    return event_of(
        _APPLICATION_ACTIVITY, type_, scene, (end_of(scene.server, False, _APPLICATION),)
    )


def configuration_event(digest: str, scene: Scene) -> AuditEvent:
    """An actor serves with another configuration than before (PS3.15 A.5.3.11); ``digest`` is the
    SHA-256 of what it has understood of it."""
    return event_of(
        _SECURITY_ALERT,
        _CONFIGURATION,
        scene,
        (end_of(scene.server, False, _APPLICATION),),
        (_security_resource(digest),),
        description="the configuration is another",
    )


def clock_event(before: str, scene: Scene) -> AuditEvent:
    """The clock has been put back, from ``before`` (PS3.15 A.5.3.11)."""
    return event_of(
        _SECURITY_ALERT,
        _CLOCK,
        scene,
        (end_of(scene.server, False, _APPLICATION),),
        (_security_resource("clock"),),
        description=f"the clock has been put back from {before}: records follow by their number",
    )


def authentication_failed_event(door: str, reason: str, scene: Scene) -> AuditEvent:
    """Somebody did not prove who asks at a door, and was sent away (PS3.15 A.5.3.11).

    ``reason`` says why in words of this node, nothing of what the caller sent.
    """
    return _sent_away(_AUTHENTICATION, door, reason, scene)


def not_understood_event(door: str, reason: str, scene: Scene) -> AuditEvent:
    """A message came to a door of which could not be told what it asks for (PS3.15 A.5.3.11).

    ``reason`` is of this node's words, nothing of what the message said.
    """
    description = f"the message was not understood: {reason}"
    return _sent_away(_NOT_UNDERSTOOD, door, description, scene)


def _sent_away(type_: Coded, door: str, description: str, scene: Scene) -> AuditEvent:
    return event_of(
        _SECURITY_ALERT,
        type_,
        scene,
        (end_of(scene.client, True), end_of(scene.server, False)),
        (_security_resource(door),),
        outcome=Outcome.SERIOUS_FAILURE,
        description=description,
    )


def emergency_event(user: str, reason: str, patients: Iterable[str], scene: Scene) -> AuditEvent:
    """Somebody sees, in an emergency, what is otherwise hidden from him (PS3.15 A.5.3.11)."""
    person = Participant(user, is_requestor=True, user_name=user)
    return event_of(
        _SECURITY_ALERT,
        _EMERGENCY,
        scene,
        (person, end_of(scene.client, True), end_of(scene.server, False)),
        _patients(patients),
        description=reason,
    )


def access_changed_event(user: str, patient_id: str, change: str, scene: Scene) -> AuditEvent:
    """Somebody changed who may see documents of a patient (PS3.15 A.5.3.11)."""
    return event_of(
        _SECURITY_ALERT,
        _ACCESS_CHANGED,
        scene,
        _operator(user, scene),
        _patients([patient_id]),
        action=Action.UPDATE,
        description=change,
    )


def merge_undone_events(
    user: str, patients: Iterable[str], reason: str, outcome: Outcome, scene: Scene
) -> list[AuditEvent]:
    """Somebody undid a merge, or tried to (PS3.15 A.5.3.7): a record for each patient."""
    return [
        event_of(
            PATIENT_RECORD,
            PATIENT_RECORD,
            scene,
            _operator(user, scene),
            _patients([one]),
            action=Action.UPDATE,
            outcome=outcome,
            description=f"a merge is undone: {reason}",
        )
        for one in patients
    ]


def trail_used_event(user: str, scene: Scene) -> AuditEvent:
    """Somebody read the audit trail (PS3.15 A.5.3.2)."""
    return event_of(
        _TRAIL_USED,
        _TRAIL_USED,
        scene,
        _operator(user, scene),
        (_security_resource(scene.server.user_id),),
        action=Action.READ,
    )


def trail_pruned_event(user: str, before: str, scene: Scene) -> AuditEvent:
    """Somebody lets old records leave an audit trail (PS3.15 A.5.3.11)."""
    return event_of(
        _SECURITY_ALERT,
        _RESTRICTED_FUNCTION,
        scene,
        _operator(user, scene),
        (_security_resource(scene.server.user_id),),
        description=f"records before {before} leave the audit trail",
    )


def _operator(user: str, scene: Scene) -> tuple[Participant, ...]:
    """The person who has a command do something."""
    return (Participant(user, True, address=scene.client.address),)


def event_of(
    id_: Coded,
    type_: Coded,
    scene: Scene,
    participants: tuple[Participant, ...],
    objects: tuple[ParticipantObject, ...] = (),
    *,
    action: Action = Action.EXECUTE,
    outcome: Outcome = Outcome.SUCCESS,
    description: str = "",
    purpose_of_use: tuple[Coded, ...] = (),
) -> AuditEvent:
    """An event of a scene, whoever took part in it."""
    return AuditEvent(
        id=id_,
        type=type_,
        action=action,
        outcome=outcome,
        when=scene.when,
        participants=participants,
        source_id=scene.source_id,
        site_id=scene.site_id,
        objects=objects,
        outcome_description=description,
        purpose_of_use=purpose_of_use,
    )


def _event_about_sets(
    transaction: AnyTransaction,
    kind: Kind,
    submission: Submission,
    response: RegistryResponse | None,
    scene: Scene,
) -> AuditEvent:
    """An event about the SubmissionSet of a message and its patient."""
    sets = submission.submission_sets
    objects = _patients(one.patient_id for one in sets) + tuple(
        ParticipantObject(one.unique_id or "", _SYSTEM_OBJECT, _ROLE_JOB, _SUBMISSION_SET)
        for one in sets
    )
    outcome = _outcome(response.status if response else None)
    return _event(event_type(transaction), kind, outcome, scene, objects)


def _outcome(status: str | None) -> Outcome:
    if status is None:
        return Outcome.MAJOR_FAILURE
    return _OUTCOMES.get(status, Outcome.SUCCESS)


def _security_resource(identifier: str) -> ParticipantObject:
    return ParticipantObject(identifier, _SYSTEM_OBJECT, _ROLE_SECURITY_RESOURCE, _URI)


def _patients(identifiers: Iterable[str | None]) -> tuple[ParticipantObject, ...]:
    return tuple(patient(identifier) for identifier in identifiers if identifier)


def _split(
    requests: Iterable[DocumentRequest], response: RetrieveDocumentSetResponse | None
) -> tuple[list[DocumentRequest], list[DocumentRequest]]:
    """The documents that were handed over, and those that were not."""
    handed = response.documents if response else ()
    received = {document.request.document_unique_id for document in handed}
    got: list[DocumentRequest] = []
    lost: list[DocumentRequest] = []
    for request in requests:
        (got if request.document_unique_id in received else lost).append(request)
    return got, lost


def _outcome_classes(
    transaction: AnyTransaction,
    kind: Kind,
    objects: Sequence[Iterable[ParticipantObject]],
    response: RetrieveDocumentSetResponse | RegistryResponse | None,
    scene: Scene,
    *,
    server_sends: bool = True,
) -> list[AuditEvent]:
    """A partly successful exchange leaves one record of success and one of failure."""
    failed = Outcome.MAJOR_FAILURE if response is None else Outcome.SERIOUS_FAILURE
    patients = _patients([scene.patient_id])
    events = []
    for outcome, some in zip((Outcome.SUCCESS, failed), map(tuple, objects), strict=True):
        if some:
            events.append(
                _event(
                    event_type(transaction),
                    kind,
                    outcome,
                    scene,
                    patients + some,
                    server_sends=server_sends,
                )
            )
    return events


def _details(request: DocumentRequest) -> tuple[tuple[str, str], ...]:
    details = [("Repository Unique ID", request.repository_unique_id)]
    if request.home_community_id:
        details.append((_HOME_IN_RETRIEVAL, request.home_community_id))
    return tuple(details)


def _document(
    request: DocumentRequest, details: tuple[tuple[str, str], ...] | None = None
) -> ParticipantObject:
    return ParticipantObject(
        request.document_unique_id,
        _SYSTEM_OBJECT,
        _ROLE_REPORT,
        _REPORT_NUMBER,
        details=_details(request) if details is None else details,
    )


def study_object(
    study_instance_uid: str, counts: Mapping[str, int] | None = None, step: str = ""
) -> ParticipantObject:
    """A study, with the number of its instances by SOP class, or a performed step of it."""
    classes = tuple(sorted((counts or {}).items()))
    return ParticipantObject(
        study_instance_uid,
        _SYSTEM_OBJECT,
        _ROLE_REPORT,
        _STUDY_UID,
        sop_classes=classes,
        step=step,
    )


def _study(study_instance_uid: str, requests: Sequence[DocumentRequest]) -> ParticipantObject:
    sources = dict.fromkeys(detail for request in requests for detail in _details(request))
    return ParticipantObject(
        study_instance_uid,
        _SYSTEM_OBJECT,
        _ROLE_REPORT,
        _STUDY_UID,
        details=tuple(sources),
        instances=len(requests),
    )


def _event(
    type_: Coded,
    kind: Kind,
    outcome: Outcome,
    scene: Scene,
    objects: tuple[ParticipantObject, ...],
    *,
    server_sends: bool = False,
) -> AuditEvent:
    """The event with its participants; the data flow from the client unless said otherwise."""
    event_id, action = kind
    client_role, server_role = (DESTINATION, SOURCE) if server_sends else (SOURCE, DESTINATION)
    client = end_of(scene.client, True, client_role)
    server = end_of(scene.server, False, server_role)
    return event_of(
        event_id,
        type_,
        scene,
        (client, server, *scene.users),
        objects,
        action=action,
        outcome=outcome,
        purpose_of_use=scene.purpose_of_use,
    )


def end_of(node: Node, is_requestor: bool, role: Coded | None = None) -> Participant:
    """One end of an exchange."""
    return Participant(
        user_id=node.user_id,
        is_requestor=is_requestor,
        roles=(role,) if role else (),
        alternative_user_id=node.process_id,
        address=node.address,
    )
