"""Patient Identity Feed: a local identifier goes to another patient, ITI-64 (P12)."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.patient_feed import FOREIGN, UNKNOWN, submit
from conformance.expectation import Acknowledged, Exactly, Same, Success, failure
from conformance.seen import Compared, Seen
from hl7.message import FieldValue
from metadata.datatypes import CX
from metadata.model import DocumentEntry
from transactions.stored_query import find_documents

CASES = Cases(Actor.PATIENT_FEED, "mllp registry link_change")

SPEC = "ITI TF-2 3.64.4.1"


def documents(bench: Bench, patient: CX) -> tuple[CX, DocumentEntry, DocumentEntry]:
    """A local identifier of its own, a document of that and one of another."""
    local, other = (CX.of(bench.session.identifier(), FOREIGN) for _ in range(2))
    moving, staying = (
        bench.registered_entry(patient, source_patient_id=one) for one in (local, other)
    )
    return local, moving, staying


@CASES.case(
    "P12-move",
    "A43: the documents of a local identifier go to the other patient, the others stay",
    "A43 : les documents d'un identifiant local passent à l'autre patient, les autres restent",
    spec=SPEC,
    expected=[
        Acknowledged("AA"),
        Exactly("the document moved"),
        Exactly("the other document"),
        Same("patientId and sourcePatientId of what moved"),
    ],
)
def _move(bench: Bench) -> Iterator[Seen]:
    previous, new = bench.patients(2)
    local, moving, staying = documents(bench, previous)
    yield bench.feed(bench.link_change(new.id, previous.id, local))
    yield bench.found(find_documents(new), moving.entry_uuid)
    yield bench.found(find_documents(previous), staying.entry_uuid)
    stored = bench.stored_entry(moving.entry_uuid)
    seen = (stored.patient_id, stored.source_patient_id)
    yield Compared("patientId, sourcePatientId", (new, local), seen)


@CASES.case(
    "P12-both",
    "A43 is no merge: both identifiers stay usable",
    "A43 n'est pas une fusion : les deux identifiants restent utilisables",
    spec=SPEC,
    expected=[Acknowledged("AA"), Success(), Success()],
)
def _both_usable(bench: Bench) -> Iterator[Seen]:
    previous, new = bench.patients(2)
    local, _, _ = documents(bench, previous)
    yield bench.feed(bench.link_change(new.id, previous.id, local))
    for patient in (previous, new):
        yield submit(bench, patient)


@CASES.case(
    "P12-refused",
    "Five link changes that must be refused, and change nothing",
    "Cinq changements de lien qui doivent être refusés, sans rien changer",
    spec=SPEC,
    expected=[*[Acknowledged("AE")] * 5, Same("patientId of the document"), failure(UNKNOWN)],
)
def _refused(bench: Bench) -> Iterator[Seen]:
    previous, new, gone = bench.patients(3)
    local, moving, _ = documents(bench, previous)
    bench.merged(new, gone)
    nobody = bench.unknown_patient()
    own: FieldValue = (new.id, "", "", ("", bench.targets.assigning_authority, "ISO"))
    for message in (
        bench.link_change(previous.id, previous.id, local),
        bench.link_change(nobody.id, previous.id, local),
        bench.link_change(gone.id, previous.id, local),
        bench.link_change(new.id, previous.id, local, PID_3=own),
        bench.link_change(new.id, previous.id, local, MRG_1=""),
    ):
        yield bench.feed(message)
    yield Compared("patientId", previous, bench.stored_entry(moving.entry_uuid).patient_id)
    yield submit(bench, nobody)
