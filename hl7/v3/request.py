"""The requests of ITI-44: Patient Registry Record Added, Revised, Duplicates Resolved.

Covers PRPA_IN201301UV02, PRPA_IN201302UV02 and PRPA_IN201304UV02 (ITI TF-2 3.44.4.1, 3.44.4.2)
as XML, both ways. Whether a request is right is judged by ``hl7.v3.feed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from hl7.v3.names import (
    ADD,
    II,
    MERGE,
    NS,
    REVISE,
    TRIGGERS,
    id_node,
    node,
    path,
    read_id,
    transmission,
)

INTERACTIONS = (ADD, REVISE, MERGE)

EVENT = "controlActProcess/subject/registrationEvent"
PATIENT = f"{EVENT}/subject1/patient"
PRIOR = f"{EVENT}/replacementOf/priorRegistration"
PRIOR_ROLE = f"{PRIOR}/subject1/priorRegisteredRole"


@dataclass(frozen=True, slots=True)
class PatientRole:
    """Whom a request is about: identifiers of any domain, and the demographics a feed carries.

    ``birth_time`` is YYYYMMDD, ``gender`` of HL7 v3 AdministrativeGender (F, M, UN).
    """

    identifiers: Sequence[II]
    family: str = ""
    given: str = ""
    birth_time: str = ""
    gender: str = ""


class IdentityRequest:
    """One request as XML; what is read from it is read when asked for, and never fails."""

    def __init__(self, element: etree._Element) -> None:
        self.element = element
        self.interaction = etree.QName(element).localname

    @property
    def message_id(self) -> II:
        """Message.id, which the acknowledgement names."""
        return read_id(self.element.find(path("id")))

    @property
    def sender(self) -> II:
        """The device that sends."""
        return read_id(self.element.find(path("sender/device/id")))

    @property
    def receiver(self) -> II:
        """The device it is for."""
        return read_id(self.element.find(path("receiver/device/id")))

    @property
    def identifiers(self) -> list[II]:
        """The patient's, of every domain; of a merge the survivor's."""
        return [read_id(found) for found in self.element.iterfind(path(f"{PATIENT}/id"))]

    @property
    def replaced(self) -> list[II]:
        """Those that a merge takes away."""
        return [read_id(found) for found in self.element.iterfind(path(f"{PRIOR_ROLE}/id"))]

    def count(self, steps: str) -> int:
        """How many elements stand at ``a/b`` below the root."""
        return len(self.element.findall(path(steps)))

    def value(self, steps: str, attribute: str) -> str | None:
        """An attribute of the first element at ``a/b``; None when either is absent."""
        found = self.element.find(path(steps))
        return None if found is None else found.get(attribute)


def add(patient: PatientRole, sender: str, receiver: str) -> IdentityRequest:
    """Patient Registry Record Added; ``sender`` and ``receiver`` are OIDs of devices."""
    return compose(ADD, patient, sender, receiver)


def revise(patient: PatientRole, sender: str, receiver: str) -> IdentityRequest:
    """Patient Registry Record Revised."""
    return compose(REVISE, patient, sender, receiver)


def merge(survivor: PatientRole, replaced: II, sender: str, receiver: str) -> IdentityRequest:
    """Patient Registry Duplicates Resolved: ``survivor`` stands for ``replaced`` from now on."""
    return compose(MERGE, survivor, sender, receiver, replaced)


def compose(
    interaction: str,
    patient: PatientRole,
    sender: str,
    receiver: str,
    replaced: II | None = None,
    *,
    message_id: II | None = None,
    now: datetime | None = None,
) -> IdentityRequest:
    """A request of any interaction.

    ``message_id`` defaults to a fresh one, ``now`` to the current time. Raises ValueError for
    text that XML cannot carry.
    """
    moment = now or datetime.now(UTC)
    root = transmission(interaction, "AL", II(sender), II(receiver), message_id, moment)
    act = node(root, "controlActProcess", classCode="CACT", moodCode="EVN")
    node(act, "code", code=interaction.replace("_IN", "_TE"), codeSystem=TRIGGERS)
    subject = node(act, "subject", typeCode="SUBJ", contextConductionInd="false")
    event = node(subject, "registrationEvent", classCode="REG", moodCode="EVN")
    node(event, "id", nullFlavor="NA")
    node(event, "statusCode", code="active")
    _patient(node(event, "subject1", typeCode="SBJ"), patient)
    custodian = node(event, "custodian", typeCode="CST")
    id_node(node(custodian, "assignedEntity", classCode="ASSIGNED"), II(sender))
    if replaced is not None:
        _prior(node(event, "replacementOf", typeCode="RPLC"), replaced)
    return IdentityRequest(root)


def _patient(parent: etree._Element, patient: PatientRole) -> None:
    role = node(parent, "patient", classCode="PAT")
    for identifier in patient.identifiers:
        id_node(role, identifier)
    node(role, "statusCode", code="active")
    person = node(role, "patientPerson", classCode="PSN", determinerCode="INSTANCE")
    name = node(person, "name")
    for part in ("family", "given"):
        if text := getattr(patient, part):
            node(name, part, text)
    if len(name) == 0:
        name.set("nullFlavor", "UNK")
    if patient.gender:
        node(person, "administrativeGenderCode", code=patient.gender)
    if patient.birth_time:
        node(person, "birthTime", value=patient.birth_time)
    provider = node(role, "providerOrganization", classCode="ORG", determinerCode="INSTANCE")
    for authority in dict.fromkeys(identifier.root for identifier in patient.identifiers):
        id_node(provider, II(authority))
    node(provider, "contactParty", classCode="CON")


def _prior(parent: etree._Element, replaced: II) -> None:
    registration = node(parent, "priorRegistration", classCode="REG", moodCode="EVN")
    node(registration, "statusCode", code="obsolete")
    subject = node(registration, "subject1", typeCode="SBJ")
    id_node(node(subject, "priorRegisteredRole", classCode="PAT"), replaced)


def root_of(interaction: str) -> str:
    """The root element of an interaction in Clark notation."""
    return f"{NS}{interaction}"
