"""Document Registry: how stored queries compare values (Q01-Q06, Q12, Q13, Q16-Q19).

What each of the queries answers is in ``every_query``, wrong requests are in ``query_faults``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.corpus import (
    ACCESSION,
    CODED,
    ORDER,
    OTHER_ORDER,
    Corpus,
    corpus,
)
from conformance.expectation import Exactly, Same, Success, any_of, failure
from conformance.seen import Compared, Found, Seen
from metadata.datatypes import (
    CX,
    DTM,
    XCN,
    XON,
    XTN,
    CXi,
    LocalizedString,
    new_uuid_urn,
)
from metadata.identifiers import (
    APPROVED,
    DEPRECATED,
    ON_DEMAND,
    ORDER_REFERENCE,
    RIM,
    STABLE,
)
from metadata.model import Author, Code
from transactions.iti_18 import LEAF_CLASS, AdhocQueryRequest
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    get_documents,
)

CASES = Cases(Actor.REGISTRY_QUERY, "registry patients")

FIND = "ITI TF-2 3.18.4.1.2.3.7.1"
CODING = "ITI TF-2 3.18.4.1.2.3.5"
TIMES = "ITI TF-2 3.18.4.1.2.3.3"

Filters = Callable[[Corpus], dict[str, Any]]


def find(bench: Bench, one: Corpus, letters: str, **filters: Any) -> Found:
    """FindDocuments for the corpus's patient, beside the documents it must find."""
    query = find_documents(one.patient, **filters)
    return bench.found(query, *one.ids(letters), labels=one.labels)


def _found_by(filters: Filters, letters: str, bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    yield find(bench, one, letters, **filters(one))


def _by_code(field: str, name: str, number: int) -> Filters:
    return lambda one: {field: [one.codes[name][number]]}


def _by(**filters: Any) -> Filters:
    return lambda one: filters


def _combined(one: Corpus) -> dict[str, Any]:
    return {
        "class_code": [one.codes["classCode"][0]],
        "confidentiality_code": [one.codes["confidentialityCode"][0]],
        "creation_time_from": "20260101",
        "creation_time_to": "20260301",
        "author_person": ["%WELBY%"],
        "status": [APPROVED],
    }


ALONE: tuple[tuple[str, Filters, str], ...] = (
    *((name, _by_code(field, name, 0), "AC") for field, name in CODED.items()),
    ("eventCodeList", _by_code("event_code_list", "eventCodeList", 0), "AB"),
    ("confidentialityCode", _by_code("confidentiality_code", "confidentialityCode", 1), "BC"),
    ("creationTimeFrom", _by(creation_time_from="20260215"), "BC"),
    ("creationTimeTo", _by(creation_time_to="20260215"), "A"),
    # C has no service times: it is not filtered by them.
    ("serviceStartTimeFrom", _by(service_start_time_from="20260201"), "BC"),
    ("serviceStartTimeTo", _by(service_start_time_to="20260201"), "AC"),
    ("serviceStopTimeFrom", _by(service_stop_time_from="20260201"), "BC"),
    ("serviceStopTimeTo", _by(service_stop_time_to="20260201"), "AC"),
    ("authorPerson", _by(author_person=["^WELBY^KILEY"]), "B"),
    ("status", _by(status=[DEPRECATED]), "D"),
    ("statuses", _by(status=[APPROVED, DEPRECATED]), "ABCD"),
    ("none", _by(), "ABC"),
    ("combined", _combined, "A"),
)
"""FindDocuments' parameters, each alone, then several: what is asked, what must be found."""

WORDS = {
    "status": ("status, Deprecated", "statut, Deprecated"),
    "statuses": ("status, either", "statut, l'un ou l'autre"),
    "none": ("patient and status alone", "patient et statut seuls"),
    "combined": ("several parameters at once", "plusieurs critères à la fois"),
}
"""What is no parameter of FindDocuments, in words."""

for _name, _filters, _letters in ALONE:
    _en, _fr = WORDS.get(_name, (_name, _name))
    CASES.add(
        f"Q01-{_name}",
        f"FindDocuments by {_en}",
        f"FindDocuments par {_fr}",
        spec=FIND,
        expected=[Exactly()],
        stimulus=partial(_found_by, _filters, _letters),
    )


@CASES.case(
    "Q02",
    "Time limits: from = value is in, to = value is out, shorter precision, absent time",
    "Bornes de temps : égal au début inclus, égal à la fin exclu, précisions, temps absent",
    spec=TIMES,
    expected=[Exactly()] * 6,
)
def _time_edges(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    yield find(bench, one, "ABC", creation_time_from="20260110120000")
    yield find(bench, one, "", creation_time_to="20260110120000")
    yield find(bench, one, "A", creation_time_to="20260110120001")
    yield find(bench, one, "BC", service_start_time_from="20260220000000")
    yield find(bench, one, "AC", service_start_time_to="20260220")
    yield find(bench, one, "ABC", service_start_time_from="2026", service_stop_time_to="2027")


@CASES.case(
    "Q03",
    "Event codes: two in one slot are OR, two slots are AND, both together",
    "Codes d'événement : deux dans un slot = OU, deux slots = ET, les deux ensemble",
    spec=CODING,
    expected=[Exactly()] * 3,
)
def _and_or(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    first, second, third = one.codes["eventCodeList"][:3]
    yield find(bench, one, "BC", event_code_list=[second, third])
    yield find(bench, one, "B", event_code_list=[[first], [second]])
    yield find(bench, one, "BC", event_code_list=[[first, third], [second]])


@CASES.case(
    "Q04",
    "A code in another scheme matches nothing; a code without scheme is an error",
    "Un code d'une autre nomenclature ne trouve rien ; sans nomenclature, c'est une erreur",
    spec="ITI TF-2 3.18.4.1.2.3.4",
    expected=[
        Exactly("nothing"),
        failure("XDSRegistryError", "XDSRegistryMetadataError", about="the parameter"),
    ],
)
def _code_scheme(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    code = one.codes["classCode"][0].code
    yield find(bench, one, "", class_code=[Code(code, "2.25.404")])
    query = find_documents(one.patient)
    slots = [*query.parameters, ("$XDSDocumentEntryClassCode", [f"('{code}')"])]
    answer = bench.query(AdhocQueryRequest(query.query_id, LEAF_CLASS, slots))
    yield answer.naming("$XDSDocumentEntryClassCode")


@CASES.case(
    "Q05",
    "Author patterns: % and _, a quote, % and _ in the data, all authors",
    "Motifs d'auteur : % et _, une apostrophe, % et _ dans les données, tous les auteurs",
    spec=FIND,
    expected=[Exactly()] * 6,
)
def _author_like(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    yield find(bench, one, "AB", author_person=["%WELBY%"])
    yield find(bench, one, "A", author_person=["_WELBY^MARCU_"])
    yield find(bench, one, "B", author_person=["%O'BRIEN%"])
    yield find(bench, one, "C", author_person=["^100%^ANN"])
    yield find(bench, one, "", author_person=["^100XXSURE^ANN"])
    yield find(bench, one, "", author_person=["%welby%"])


@CASES.case(
    "Q06",
    "A list over two Values, and one of three hundred UUIDs",
    "Une liste sur deux Value, et une autre de trois cents UUID",
    spec=CODING,
    expected=[Exactly(), Exactly()],
)
def _split_lists(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    first, second = one.codes["classCode"][:2]
    query = find_documents(one.patient)
    values = [f"('{code.code}^^{code.scheme}')" for code in (first, second)]
    slots = [*query.parameters, ("$XDSDocumentEntryClassCode", values)]
    split = AdhocQueryRequest(query.query_id, LEAF_CLASS, slots)
    yield bench.found(split, *one.ids("ABC"), labels=one.labels)
    many = [*one.ids("A"), *(new_uuid_urn() for _ in range(298)), *one.ids("B")]
    yield bench.found(get_documents(entry_uuid=many), *one.ids("AB"), labels=one.labels)


@CASES.case(
    "Q12",
    "A patient never announced: nothing, or XDSUnknownPatientId, as the domain decides",
    "Un patient jamais annoncé : rien, ou XDSUnknownPatientId, au choix du domaine",
    spec="ITI TF-2 3.18.4.1.3",
    expected=[any_of(Success(), failure("XDSUnknownPatientId")), Same("no objects")],
)
def _unknown_patient(bench: Bench) -> Iterator[Seen]:
    answer = bench.query(find_documents(bench.unknown_patient()))
    yield answer
    yield Compared("objects", 0, len(answer.response.fragments if answer.response else []))


@CASES.case(
    "Q13",
    "Type: Stable by default, On-Demand only when asked for",
    "Type : Stable par défaut, On-Demand seulement sur demande",
    spec="ITI TF-2 3.18.4.1.2.3.6.2",
    expected=[Exactly(), Exactly("nothing"), Exactly()],
)
def _document_type(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    yield find(bench, one, "ABC", type=[STABLE])
    yield find(bench, one, "", type=[ON_DEMAND])
    yield find(bench, one, "ABC", type=[STABLE, ON_DEMAND])


@CASES.case(
    "Q16",
    "FindDocumentsByReferenceId: OR, AND, pattern",
    "FindDocumentsByReferenceId : OU, ET, motif",
    spec="ITI TF-2 3.18.4.1.2.3.7.14",
    expected=[Exactly()] * 4,
)
def _reference_ids(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)

    def by(letters: str, references: Any) -> Found:
        query = find_documents_by_reference_id(one.patient, references)
        return bench.found(query, *one.ids(letters), labels=one.labels)

    yield by("AB", [ORDER])
    yield by("BC", [ACCESSION, OTHER_ORDER])
    yield by("B", [[ORDER], [ACCESSION]])
    yield by("ABC", [f"%^{ORDER_REFERENCE}"])


# --- Values ------------------------------------------------------------------------------------


EVERYTHING: dict[str, Any] = {
    "title": LocalizedString("Échographie <b>“β & Ω”</b> 'n° 1' 漢字", "fr-FR"),
    "comments": LocalizedString('ligne 1 ; ligne 2 % _ \\ "', "fr-FR"),
    "service_start_time": DTM("202603011200"),
    "service_stop_time": DTM("20260301"),
    "legal_authenticator": XCN("123^MÜLLER^ANNE^^^DR^^^&1.2.250.1.71.4.2.1&ISO"),
    "source_patient_id": CX("A\\T\\B^^^&2.25.7&ISO"),
    "source_patient_info": ["PID-5|O'HARA^ÉLODIE", "PID-8|F"],
    "reference_id_list": [CXi(f"É-1^^^&2.25.7&ISO^{ORDER_REFERENCE}")],
    "uri": "IHE_XDM/DOC0001.TXT",
    "author": [
        Author(
            person=XCN("^D'ARC^JEANNE"),
            institution=[XON("Hôpital Général^^^^^&1.2.250.1.71.4.2.2&ISO^^^^750000001")],
            role=["Auteur"],
            specialty=["Radiologie"],
            telecommunication=[XTN("^^Internet^jeanne@example.org")],
        )
    ],
}
"""Attributes that are easily damaged on the way in or out."""


@CASES.case(
    "Q17",
    "Everything submitted comes back as it was",
    "Tout ce qui a été soumis revient tel quel",
    spec="ITI TF-3 4.3.2.1",
    expected=[Same("every attribute"), Same("status, lid, version, objectType")],
)
def _round_trip(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    sent = bench.registered_entry(patient, **EVERYTHING)
    stored = bench.stored_entry(sent.entry_uuid)
    fields = [*EVERYTHING, "unique_id", "patient_id", "hash", "size", "language_code"]
    wanted = {field: getattr(sent, field) for field in fields}
    yield Compared("attributes", wanted, {field: getattr(stored, field) for field in fields})
    added = (
        stored.availability_status,
        stored.logical_id,
        bool(stored.version),
        stored.object_type,
    )
    yield Compared("added", (APPROVED, sent.entry_uuid, True, STABLE), added)


NASTY = "x' OR '1'='1'; DROP TABLE document; -- %_\\"


@CASES.case(
    "Q18",
    "SQL and pattern characters in values have no effect",
    "Les caractères SQL et de motif dans les valeurs sont sans effet",
    spec=CODING,
    expected=[Exactly("nothing"), Exactly("nothing"), Exactly("nothing"), Exactly()],
)
def _injection(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    yield find(bench, one, "", class_code=[Code(NASTY, NASTY)])
    yield find(bench, one, "", author_person=[NASTY])
    yield bench.found(get_documents(unique_id=[NASTY, "%"]))
    yield find(bench, one, "ABC")


@CASES.case(
    "Q19",
    "An answer without objects still has its RegistryObjectList",
    "Une réponse sans objet a quand même sa RegistryObjectList",
    spec="ITI TF-3 4.2.4",
    expected=[Success(), Same("one empty RegistryObjectList")],
)
def _empty_list(bench: Bench) -> Iterator[Seen]:
    answer = bench.query(get_documents(entry_uuid=[new_uuid_urn()]))
    yield answer
    body = answer.message.body if answer.message else None
    lists = [] if body is None else body.findall(f"{{{RIM}}}RegistryObjectList")
    yield Compared("objects in each list", [0], [len(one) for one in lists])
