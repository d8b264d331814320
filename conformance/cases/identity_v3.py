"""Patient Identity Feed in HL7 v3, ITI-44 (P07)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from lxml import etree

from conformance.bench import Bench, must
from conformance.case import Actor, Cases
from conformance.cases.patient_feed import UNKNOWN, patients_of, submit
from conformance.expectation import Exactly, Same, Success, failure
from conformance.identity_v3 import ADD, HL7, MERGE, RECEIVER, REVISE, device, message_of
from conformance.seen import Answer, Compared, Seen
from metadata.datatypes import CX
from transactions.stored_query import find_documents

CASES = Cases(Actor.PATIENT_FEED, "identity_v3 registry")


def feed(bench: Bench, number: str, patient: CX, subsumed: CX | None = None) -> Answer[str]:
    """ITI-44: send an add, a revision or a merge."""
    return bench.feed_v3(number, message_of(number, patient, subsumed))


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
        lambda text: text.replace(device("receiver", RECEIVER), ""),
    ),
    "two-receivers": (
        "two receivers",
        "avec deux destinataires",
        lambda text: text.replace(device("receiver", RECEIVER), device("receiver", RECEIVER) * 2),
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
    answer = bench.feed_v3(ADD, spoil(message_of(ADD, patient)))
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
