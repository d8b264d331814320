"""Messages of the identity feed in HL7 v3 (ITI-44), put together by hand.

Bytes that a case may spoil; whether they are right is proven against the official schemas.
"""

from __future__ import annotations

from lxml import etree

from conformance.evidence import now
from conformance.wire import new_message_id
from metadata.datatypes import CX
from soap.message import Incoming, Outgoing
from transactions.transaction import Transaction

HL7 = "urn:hl7-org:v3"
SENDER, RECEIVER = "2.25.44.1", "2.25.44.2"
ADD, REVISE, MERGE = "201301", "201302", "201304"


def _type_code(message: Incoming) -> str:
    """acknowledgement/typeCode: CA, CE or CR; empty in what is no acknowledgement."""
    found = message.body.find(f".//{{{HL7}}}acknowledgement/{{{HL7}}}typeCode")
    return "" if found is None else found.get("code", "")


def exchange_of(number: str) -> Transaction[str, str]:
    """The transaction of an interaction; its answer is the acknowledgement's code."""
    return Transaction(
        number="ITI-44",
        name="Patient Identity Feed HL7 V3",
        action=f"{HL7}:PRPA_IN{number}UV02",
        response_action=f"{HL7}:MCCI_IN000002UV01",
        root=f"{{{HL7}}}PRPA_IN{number}UV02",
        mtom=False,
        read_request=lambda message: etree.tostring(message.body, encoding="unicode"),
        write_request=lambda text: Outgoing([text.encode()]),
        read_response=_type_code,
        write_response=lambda code: Outgoing([code.encode()]),
        refuse=lambda text: text,
    )


def device(role: str, oid: str) -> str:
    """The sender or the receiver."""
    return (
        f'<{role} typeCode="{"RCV" if role == "receiver" else "SND"}">'
        f'<device classCode="DEV" determinerCode="INSTANCE"><id root="{oid}"/></device></{role}>'
    )


def message_of(number: str, patient: CX, subsumed: CX | None = None) -> str:
    """A PRPA_IN201301UV02 (add), PRPA_IN201302UV02 (revise) or PRPA_IN201304UV02 (merge)."""
    name = f"PRPA_IN{number}UV02"
    replaced = "" if subsumed is None else _replacement(subsumed)
    return (
        f'<{name} xmlns="{HL7}" ITSVersion="XML_1.0"><id root="2.25.44" extension='
        f'"{new_message_id()}"/><creationTime value="{now():%Y%m%d%H%M%S}"/>'
        f'<interactionId root="2.16.840.1.113883.1.6" extension="{name}"/>'
        '<processingCode code="P"/><processingModeCode code="T"/><acceptAckCode code="AL"/>'
        + device("receiver", RECEIVER)
        + device("sender", SENDER)
        + f'<controlActProcess classCode="CACT" moodCode="EVN"><code code="PRPA_TE{number}UV02" '
        'codeSystem="2.16.840.1.113883.1.18"/><subject typeCode="SUBJ" '
        'contextConductionInd="false"><registrationEvent classCode="REG" moodCode="EVN">'
        '<statusCode code="active"/><subject1 typeCode="SBJ"><patient classCode="PAT">'
        + _identifier(patient)
        + '<statusCode code="active"/><patientPerson classCode="PSN" determinerCode="INSTANCE">'
        "<name><given>CONFORMANCE</given><family>TEST</family></name></patientPerson>"
        + _organization(patient)
        + "</patient></subject1>"
        '<custodian typeCode="CST"><assignedEntity classCode="ASSIGNED">'
        f'<id root="{SENDER}"/></assignedEntity></custodian>{replaced}'
        f"</registrationEvent></subject></controlActProcess></{name}>"
    )


def renamed(message: str, oid: str) -> str:
    """The message with an OID of its own as its id."""
    head, _, rest = message.partition('<id root="2.25.44" extension="')
    return f'{head}<id root="{oid}"/>{rest.partition("/>")[2]}'


def _identifier(patient: CX) -> str:
    root = patient.assigning_authority.universal_id
    return f'<id root="{root}" extension="{patient.id}"/>'


def _organization(patient: CX) -> str:
    root = patient.assigning_authority.universal_id
    return (
        '<providerOrganization classCode="ORG" determinerCode="INSTANCE">'
        f'<id root="{root}"/><contactParty classCode="CON"/></providerOrganization>'
    )


def _replacement(subsumed: CX) -> str:
    return (
        '<replacementOf typeCode="RPLC"><priorRegistration classCode="REG" moodCode="EVN">'
        '<statusCode code="obsolete"/><subject1 typeCode="SBJ"><priorRegisteredRole '
        f'classCode="PAT">{_identifier(subsumed)}</priorRegisteredRole></subject1>'
        "</priorRegistration></replacementOf>"
    )
