"""Patient Identity Feed in HL7 v3, ITI-44 (P07)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from lxml import etree

from conformance.bench import Bench, must
from conformance.case import Actor, Cases
from conformance.cases.patient_feed import UNKNOWN, patients_of, submit
from conformance.evidence import now
from conformance.expectation import Exactly, Same, Success, failure
from conformance.seen import Answer, Compared, Seen
from conformance.wire import new_message_id, simple
from metadata.datatypes import CX
from soap import envelope
from soap.message import Incoming, Outgoing
from transactions.stored_query import find_documents
from transactions.transaction import Transaction

CASES = Cases(Actor.PATIENT_FEED, "identity_v3 registry")

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


def _device(role: str, oid: str) -> str:
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
        + _device("receiver", RECEIVER)
        + _device("sender", SENDER)
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


def feed(bench: Bench, number: str, patient: CX, subsumed: CX | None = None) -> Answer[str]:
    """ITI-44: send an add, a revision or a merge."""
    return send(bench, number, message_of(number, patient, subsumed))


def send(bench: Bench, number: str, text: str) -> Answer[str]:
    """ITI-44: send any message as this interaction."""
    exchange, url = exchange_of(number), bench.targets.endpoint("identity_v3")
    pieces = envelope.write_request(
        [text.encode()], action=exchange.action, message_id=new_message_id(), to=url
    )
    return bench.wire.send(url, simple(pieces, exchange.action), exchange)


@CASES.case(
    "P07",
    "HL7 v3: add makes an identifier usable, merge takes it away, a wrong merge is refused",
    "HL7 v3 : l'ajout rend un identifiant utilisable, la fusion le retire, une fausse est refusée",
    spec="ITI TF-2 3.44",
    expected=[
        Same("CA for both additions"),
        Success(),
        Same("CA for the merge"),
        failure(UNKNOWN),
        Same("CE for a merge with itself"),
    ],
)
def _add_and_merge(bench: Bench) -> Iterator[Seen]:
    survivor, subsumed = bench.unknown_patient(), bench.unknown_patient()
    added = [feed(bench, ADD, patient).response for patient in (survivor, subsumed)]
    yield Compared("acknowledgement", ["CA", "CA"], added)
    yield submit(bench, subsumed)
    yield Compared("acknowledgement", "CA", feed(bench, MERGE, survivor, subsumed).response)
    yield submit(bench, subsumed)
    yield Compared("acknowledgement", "CE", feed(bench, MERGE, survivor, survivor).response)


@CASES.case(
    "P07-revise",
    "HL7 v3: a revision is accepted and makes no identifier usable",
    "HL7 v3 : une révision est acceptée et ne rend aucun identifiant utilisable",
    spec="ITI TF-2 3.44.4.1.3",
    expected=[Same("CA for the revision"), failure(UNKNOWN)],
)
def _revise(bench: Bench) -> Iterator[Seen]:
    patient = bench.unknown_patient()
    yield Compared("acknowledgement", "CA", feed(bench, REVISE, patient).response)
    yield submit(bench, patient)


@CASES.case(
    "P07-survivor",
    "HL7 v3: the survivor of a merge has all documents under its own id",
    "HL7 v3 : le survivant d'une fusion a tous les documents sous son identifiant",
    spec="ITI TF-2 3.44.4.2.3",
    expected=[Same("CA for the merge"), Exactly(), Same("patientId of both")],
)
def _survivor(bench: Bench) -> Iterator[Seen]:
    survivor, subsumed = bench.unknown_patient(), bench.unknown_patient()
    for patient in (survivor, subsumed):
        acknowledgement = Compared("acknowledgement", "CA", feed(bench, ADD, patient).response)
        must(Same("CA"), acknowledgement, "adding a test patient")
    entries = [bench.registered_entry(patient) for patient in (survivor, subsumed)]
    yield Compared("acknowledgement", "CA", feed(bench, MERGE, survivor, subsumed).response)
    found = bench.found(find_documents(survivor), *(entry.entry_uuid for entry in entries))
    yield found
    yield Compared("patientId", {survivor}, patients_of(found.answer))


@CASES.case(
    "P07-target",
    "HL7 v3: the acknowledgement names the message it answers",
    "HL7 v3 : l'acquittement nomme le message auquel il répond",
    spec="ITI TF-2 3.44.4.1.3, O.1.3",
    expected=[Same("the id of the request")],
)
def _target_message(bench: Bench) -> Iterator[Seen]:
    answer = feed(bench, ADD, bench.unknown_patient())
    sent = etree.fromstring(bench.record.exchanges[-1].request.text.encode())
    wanted = sent.find(f".//{{{HL7}}}PRPA_IN{ADD}UV02/{{{HL7}}}id")
    body = None if answer.message is None else answer.message.body
    found = None if body is None else body.find(f".//{{{HL7}}}targetMessage/{{{HL7}}}id")
    yield Compared("targetMessage", _id_in(wanted), _id_in(found))


def _id_in(element: etree._Element | None) -> tuple[str | None, str | None] | None:
    return None if element is None else (element.get("root"), element.get("extension"))


SPOILT: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "no-event": (
        "no registrationEvent",
        "sans registrationEvent",
        lambda text: text.replace("registrationEvent", "otherEvent"),
    ),
    "no-receiver": (
        "no receiver",
        "sans destinataire",
        lambda text: text.replace(_device("receiver", RECEIVER), ""),
    ),
    "two-receivers": (
        "two receivers",
        "avec deux destinataires",
        lambda text: text.replace(_device("receiver", RECEIVER), _device("receiver", RECEIVER) * 2),
    ),
    "interaction": (
        "another interactionId than its root",
        "avec un autre interactionId que sa racine",
        lambda text: text.replace(f'"PRPA_IN{ADD}UV02"', f'"PRPA_IN{MERGE}UV02"'),
    ),
    "status": (
        "a registration that is not active",
        "avec un enregistrement qui n'est pas actif",
        lambda text: text.replace('code="active"/><subject1', 'code="aborted"/><subject1'),
    ),
    "domain": (
        "no identifier of the domain",
        "sans identifiant du domaine",
        lambda text: re.sub(r'(<patient classCode="PAT"><id root=)"[^"]*"', r'\1"2.25.404"', text),
    ),
}
"""What makes a message wrong."""


def _spoilt(spoil: Callable[[str], str], bench: Bench) -> Iterator[Seen]:
    patient = bench.unknown_patient()
    answer = send(bench, ADD, spoil(message_of(ADD, patient)))
    yield Compared("acknowledgement", "CE", answer.response)
    yield submit(bench, patient)


for _variant, (_en, _fr, _spoil) in SPOILT.items():
    CASES.add(
        f"P07-{_variant}",
        f"HL7 v3: an addition with {_en} is refused and has no effect",
        f"HL7 v3 : un ajout {_fr} est refusé et sans effet",
        spec="ITI TF-2 3.44.4.1.2",
        expected=[Same("CE for a wrong message"), failure(UNKNOWN)],
        stimulus=partial(_spoilt, _spoil),
    )
