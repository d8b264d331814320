"""What DICOM associations leave in the audit trail.

Covers DICOM PS3.15 A.5.3.3 (Begin Transferring DICOM Instances), A.5.3.7 (DICOM Instances
Transferred) and A.5.3.10 (Query) for C-STORE, C-MOVE, C-GET and C-FIND, which RAD TF-2 calls
RAD-8, RAD-16 and RAD-14; A.5.3.6 (DICOM Instances Accessed) for storage commitments that are asked
for (RAD-10) and notices of availability (RAD-49), and A.5.3.15 (Procedure Record) for performed
procedure steps (RAD-6, RAD-7). One record is about one study, however many instances it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from transactions.audit import (
    DESTINATION,
    SOURCE,
    Action,
    AuditEvent,
    Coded,
    Node,
    Outcome,
    ParticipantObject,
    Scene,
)
from transactions.audit_events import (
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    QUERY,
    WEB_IMAGING,
    end_of,
    event_of,
    patient,
    study_object,
)

BEGIN_TRANSFERRING = Coded("110102", "DCM", "Begin Transferring DICOM Instances")

_SOP_CLASS = Coded("110181", "DCM", "SOP Class UID")
_SYSTEM_OBJECT, _REPORT = 2, 3  # ParticipantObjectTypeCode, ...TypeCodeRole (PS3.15 A.5.1)

STORED = Coded("RAD-8", "IHE Transactions", "Modality Images Stored")
RETRIEVED = Coded("RAD-16", "IHE Transactions", "Retrieve Images")
RETRIEVED_BY_WEB = Coded("RAD-107", "IHE Transactions", WEB_IMAGING["RAD-107"][0])
QUERIED = Coded("RAD-14", "IHE Transactions", "Query Images")
_PROCEDURE_RECORD = Coded("110111", "DCM", "Procedure Record")


class Telling(NamedTuple):
    """What one tells another of a study: transaction, and which event it is there."""

    type: Coded
    id: Coded
    action: Action


STORAGE_COMMITMENT = Telling(
    Coded("RAD-10", "IHE Transactions", "Storage Commitment"), INSTANCES_ACCESSED, Action.READ
)
AVAILABILITY_NOTIFICATION = Telling(
    Coded("RAD-49", "IHE Transactions", "Instance Availability Notification"),
    INSTANCES_ACCESSED,
    Action.READ,
)
STEP_IN_PROGRESS = Telling(
    Coded("RAD-6", "IHE Transactions", "Modality Procedure Step In Progress"),
    _PROCEDURE_RECORD,
    Action.CREATE,
)
STEP_COMPLETED = Telling(
    Coded("RAD-7", "IHE Transactions", "Modality Procedure Step Completed"),
    _PROCEDURE_RECORD,
    Action.UPDATE,
)


@dataclass(frozen=True, slots=True)
class Travel:
    """Instances of one study of one patient on their way; ``type`` is one of those above.

    ``action`` is CREATE at the receiver, which did not have them (PS3.15 A.5.3.7).
    """

    type: Coded
    study: str
    patient_id: str
    sender: Node
    receiver: Node
    action: Action = Action.READ


def begin_event(travel: Travel, scene: Scene) -> AuditEvent:
    """They begin to travel; the scene's client is who asked for it."""
    study = study_object(travel.study)
    return _travel_event(travel, BEGIN_TRANSFERRING, Action.EXECUTE, study, scene)


def interrupted_event(travel: Travel, scene: Scene) -> AuditEvent:
    """They have travelled, nobody knows how many of them."""
    study = study_object(travel.study)
    return _travel_event(travel, INSTANCES_TRANSFERRED, travel.action, study, scene)


def transferred_events(
    travel: Travel, done: Mapping[str, int], failed: Mapping[str, int], scene: Scene
) -> list[AuditEvent]:
    """They have travelled: a record of those that did, one of those that failed, by SOP class."""
    events = []
    for outcome, counts in ((Outcome.SUCCESS, done), (Outcome.SERIOUS_FAILURE, failed)):
        if counts:
            study = study_object(travel.study, counts)
            event = _travel_event(travel, INSTANCES_TRANSFERRED, travel.action, study, scene)
            events.append(event._replace(outcome=outcome))
    return events


def query_event(
    sop_class_uid: str, transfer_syntax_uid: str, identifier: bytes, done: bool, scene: Scene
) -> AuditEvent:
    """A C-FIND, with its whole identifier as it came."""
    asked = ParticipantObject(
        sop_class_uid,
        _SYSTEM_OBJECT,
        _REPORT,
        _SOP_CLASS,
        query=identifier,
        details=(("TransferSyntax", transfer_syntax_uid),),
    )
    ends = (end_of(scene.client, True, SOURCE), end_of(scene.server, False, DESTINATION))
    outcome = Outcome.SUCCESS if done else Outcome.SERIOUS_FAILURE
    return event_of(
        QUERY,
        QUERIED,
        scene,
        (*ends, *scene.users),
        (asked,),
        outcome=outcome,
        purpose_of_use=scene.purpose_of_use,
    )


def mention_event(
    telling: Telling, study: ParticipantObject, patient_id: str, done: bool, scene: Scene
) -> AuditEvent:
    """The scene's server was told of a study and of instances of it, none of which has travelled:
    they were used, by reference (PS3.15 A.5.3.6)."""
    ends = (end_of(scene.client, True), end_of(scene.server, False))
    patients = (patient(patient_id),) if patient_id else ()
    return event_of(
        telling.id,
        telling.type,
        scene,
        (*ends, *scene.users),
        (*patients, study),
        action=telling.action,
        outcome=Outcome.SUCCESS if done else Outcome.SERIOUS_FAILURE,
        purpose_of_use=scene.purpose_of_use,
    )


def _travel_event(
    travel: Travel, id_: Coded, action: Action, study: ParticipantObject, scene: Scene
) -> AuditEvent:
    """An event about one study; who asked is an end of it, or a third (C-MOVE), and so is the
    user for whom it was asked."""
    asks, sender, receiver = scene.client, travel.sender, travel.receiver
    ends = [end_of(sender, sender == asks, SOURCE), end_of(receiver, receiver == asks, DESTINATION)]
    if asks not in (sender, receiver):
        ends.append(end_of(asks, True))
    patients = (patient(travel.patient_id),) if travel.patient_id else ()
    objects = (*patients, study)
    return event_of(
        id_,
        travel.type,
        scene,
        (*ends, *scene.users),
        objects,
        action=action,
        purpose_of_use=scene.purpose_of_use,
    )
