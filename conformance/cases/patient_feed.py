"""Patient Identity Feed: admissions, merges, refusals over HL7 v2 (P01-P06)."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Acknowledged, Exactly, Same, Success, any_of, failure
from conformance.seen import Answer, Compared, Seen
from hl7.message import FieldValue
from metadata.datatypes import CX
from transactions.iti_18 import AdhocQueryResponse
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_documents

CASES = Cases(Actor.PATIENT_FEED, "mllp")

MANAGEMENT = "ITI TF-2 3.8.4.1.4"
MERGING = "ITI TF-2 3.8.4.2.4"
UNKNOWN = "XDSUnknownPatientId"
FOREIGN = "2.25.7"


def submit(bench: Bench, patient: CX) -> Answer[RegistryResponse]:
    """A submission for ``patient``: whether the registry knows the id."""
    return bench.register(bench.submission(patient, bench.entry(patient)))


@CASES.case(
    "P01",
    "A01, A04 and A05 make an identifier usable; A08 is accepted and does not",
    "A01, A04 et A05 rendent un identifiant utilisable ; A08 est accepté sans effet",
    spec=MANAGEMENT,
    needs="registry",
    expected=[
        *(Acknowledged("AA"), Success()),
        *(Acknowledged("AA"), Success()),
        *(Acknowledged("AA"), Success()),
        *(Acknowledged("AA"), failure(UNKNOWN)),
    ],
)
def _admissions(bench: Bench) -> Iterator[Seen]:
    for event in ("A01", "A04", "A05", "A08"):
        patient = bench.unknown_patient()
        yield bench.feed(bench.adt(event, patient.id))
        yield submit(bench, patient)


@CASES.case(
    "P02-namespace",
    "An identifier whose authority is given by its namespace alone",
    "Un identifiant dont l'autorité n'est donnée que par son espace de noms",
    spec="ITI TF-2 3.8.4.1.2.3",
    needs="registry namespace",
    expected=[Acknowledged("AA"), Success()],
)
def _namespace_only(bench: Bench) -> Iterator[Seen]:
    patient = bench.unknown_patient()
    identifier: FieldValue = (patient.id, "", "", (bench.targets.namespace or "",))
    yield bench.feed(bench.adt("A04", patient.id, PID_3=identifier))
    yield submit(bench, patient)


@CASES.case(
    "P02-foreign",
    "Identifiers of other domains beside the registry's own are ignored",
    "Les identifiants d'autres domaines, à côté du bon, sont ignorés",
    spec=MANAGEMENT,
    needs="registry",
    expected=[Acknowledged("AA"), Success(), failure(UNKNOWN, "XDSRegistryMetadataError")],
)
def _foreign_identifiers(bench: Bench) -> Iterator[Seen]:
    patient, foreign = bench.unknown_patient(), CX.of(bench.session.identifier(), FOREIGN)
    own: FieldValue = [
        (foreign.id, "", "", ("", FOREIGN, "ISO")),
        (patient.id, "", "", ("", bench.targets.assigning_authority, "ISO")),
    ]
    yield bench.feed(bench.adt("A04", patient.id, PID_3=own))
    yield submit(bench, patient)
    yield submit(bench, foreign)


@CASES.case(
    "P03",
    "A message type, then an event, that is not for a registry",
    "Un type de message, puis un événement, qui ne concernent pas un registre",
    spec="ITI TF-2 C.2.3",
    expected=[Acknowledged("AR", error="200"), Acknowledged("AR", error="201")],
)
def _wrong_type(bench: Bench) -> Iterator[Seen]:
    identifier = bench.session.identifier()
    for kind in (("ORU", "R01"), ("ADT", "A99")):
        yield bench.feed(bench.adt("A04", identifier, MSH_9=kind))


@CASES.case(
    "P04",
    "Merge: the survivor has all documents under its own id, the other id is gone",
    "Fusion : le survivant a tous les documents sous son identifiant, l'autre disparaît",
    spec=MERGING,
    needs="registry",
    expected=[
        Acknowledged("AA"),
        Exactly(),
        Same("patientId of both"),
        any_of(Success(), failure(UNKNOWN)),
        Same("nothing under the merged id"),
        failure(UNKNOWN, about="the patient"),
    ],
)
def _merge(bench: Bench) -> Iterator[Seen]:
    survivor, subsumed = bench.patients(2)
    entries = [bench.registered_entry(patient) for patient in (survivor, subsumed)]
    yield bench.feed(bench.merge(survivor.id, subsumed.id))
    found = bench.found(find_documents(survivor), *(entry.entry_uuid for entry in entries))
    yield found
    yield Compared("patientId", {survivor}, patients_of(found.answer))
    answer = bench.query(find_documents(subsumed))
    yield answer
    yield Compared("objects", set(), patients_of(answer))
    yield submit(bench, subsumed).naming(subsumed.id)


def patients_of(answer: Answer[AdhocQueryResponse]) -> set[CX | None]:
    """The patients of the documents found."""
    documents = answer.response.objects().documents if answer.response else []
    return {entry.patient_id for entry in documents}


@CASES.case(
    "P05",
    "A chain of merges: everything under the last survivor",
    "Une chaîne de fusions : tout sous le dernier survivant",
    spec="ITI TF-2 3.18.4.1.2.3.9",
    needs="registry",
    expected=[Acknowledged("AA"), Acknowledged("AA"), Exactly(), Same("patientId of all")],
)
def _merge_chain(bench: Bench) -> Iterator[Seen]:
    first, second, third = bench.patients(3)
    entries = [bench.registered_entry(patient) for patient in (first, second, third)]
    yield bench.feed(bench.merge(second.id, first.id))
    yield bench.feed(bench.merge(third.id, second.id))
    found = bench.found(find_documents(third), *(entry.entry_uuid for entry in entries))
    yield found
    yield Compared("patientId", {third}, patients_of(found.answer))


@CASES.case(
    "P06",
    "Six merges that must be refused, and change nothing",
    "Six fusions qui doivent être refusées, sans rien changer",
    spec=MERGING,
    needs="registry",
    expected=[*[Acknowledged("AE")] * 6, Success(), Success(), failure(UNKNOWN)],
)
def _merges_refused(bench: Bench) -> Iterator[Seen]:
    one, two, gone = bench.patients(3)
    bench.merged(one, gone)
    foreign: FieldValue = (bench.session.identifier(), "", "", ("", FOREIGN, "ISO"))
    for message in (
        bench.merge(one.id, two.id, MRG_1=foreign),
        bench.merge(one.id, two.id, PID_3=foreign),
        bench.merge(one.id, one.id),
        bench.merge(two.id, gone.id),
        bench.merge(gone.id, two.id),
        bench.merge(one.id, bench.session.identifier()),
    ):
        yield bench.feed(message)
    for patient in (one, two, gone):
        yield submit(bench, patient)
