"""Document Registry: what each stored query answers (Q10, Q11, Q14, Q15, Q20).

Covers the fourteen queries of ITI-18 and the two of ITI-51, in both return types. How values are
compared is in ``registry_query``, wrong requests are in ``query_faults``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Exactly, Same, failure
from conformance.graph import REFERENCE, Graph, graph
from conformance.seen import Compared, Found, Seen
from metadata.identifiers import APND, RPLC, XFRM
from transactions import stored_query as ask
from transactions.iti_18 import ITI_18, LEAF_CLASS, OBJECT_REF, AdhocQueryRequest
from transactions.iti_51 import ITI_51
from transactions.stored_query import ContentFilters

CASES = Cases(Actor.REGISTRY_QUERY, "registry patients")

ACROSS = "ITI TF-2 3.51.4.1.2.3"
OF_PATIENT = ("S1", "S2", "S3")

Ask = Callable[[Graph, str], AdhocQueryRequest]


class Asked(NamedTuple):
    """A question about the graph in either return type, and the ids that answer it."""

    ask: Ask
    finds: Callable[[Graph], Sequence[str]]


EACH_QUERY: dict[str, Asked] = {
    "FindDocuments": Asked(
        lambda one, kind: ask.find_documents(one.patient, return_type=kind),
        lambda one: one.ids("ABD"),
    ),
    "FindDocumentsByReferenceId": Asked(
        lambda one, kind: ask.find_documents_by_reference_id(
            one.patient, [REFERENCE], return_type=kind
        ),
        lambda one: one.ids("A"),
    ),
    "FindSubmissionSets": Asked(
        lambda one, kind: ask.find_submission_sets(one.patient, return_type=kind),
        lambda one: [one.set_id(name) for name in OF_PATIENT],
    ),
    "FindFolders": Asked(
        lambda one, kind: ask.find_folders(one.patient, return_type=kind),
        lambda one: one.ids("F"),
    ),
    # Of the deprecated document there is what links it to others: associations may dangle.
    "GetAll": Asked(
        lambda one, kind: ask.get_all(one.patient, return_type=kind),
        lambda one: [
            found for name in OF_PATIENT for found in one.everything(name) if found != one.id("C")
        ],
    ),
    "GetDocuments": Asked(
        lambda one, kind: ask.get_documents(entry_uuid=one.ids("AC"), return_type=kind),
        lambda one: one.ids("AC"),
    ),
    "GetFolders": Asked(
        lambda one, kind: ask.get_folders(entry_uuid=one.ids("F"), return_type=kind),
        lambda one: one.ids("F"),
    ),
    "GetAssociations": Asked(
        lambda one, kind: ask.get_associations(one.ids("AD"), return_type=kind),
        lambda one: one.touching(*one.ids("AD")),
    ),
    "GetDocumentsAndAssociations": Asked(
        lambda one, kind: ask.get_documents_and_associations(
            entry_uuid=one.ids("AC"), return_type=kind
        ),
        lambda one: [*one.ids("AC"), *one.touching(*one.ids("AC"))],
    ),
    "GetSubmissionSets": Asked(
        lambda one, kind: ask.get_submission_sets(one.ids("BFD"), return_type=kind),
        lambda one: [
            *(sets := [one.set_id("S1"), one.set_id("S3")]),
            *one.between(sets, one.ids("BFD")),
        ],
    ),
    "GetSubmissionSetAndContents": Asked(
        lambda one, kind: ask.get_submission_set_and_contents(
            entry_uuid=one.set_id("S1"), return_type=kind
        ),
        lambda one: one.everything("S1"),
    ),
    "GetFolderAndContents": Asked(
        lambda one, kind: ask.get_folder_and_contents(entry_uuid=one.id("F"), return_type=kind),
        lambda one: [*one.ids("FAB"), *one.between(one.ids("F"), one.ids("AB"))],
    ),
    "GetFoldersForDocument": Asked(
        lambda one, kind: ask.get_folders_for_document(entry_uuid=one.id("A"), return_type=kind),
        lambda one: one.ids("F"),
    ),
    "GetRelatedDocuments": Asked(
        lambda one, kind: ask.get_related_documents(
            [RPLC], entry_uuid=one.id("D"), return_type=kind
        ),
        lambda one: [*one.ids("DC"), *one.between(one.ids("D"), one.ids("C"))],
    ),
    "FindDocumentsForMultiplePatients": Asked(
        lambda one, kind: ask.find_documents_for_multiple_patients(
            [one.patient, one.other_patient], return_type=kind
        ),
        lambda one: one.ids("ABDXZ"),
    ),
    "FindFoldersForMultiplePatients": Asked(
        lambda one, kind: ask.find_folders_for_multiple_patients(
            [one.patient, one.other_patient], return_type=kind
        ),
        lambda one: one.ids("FY"),
    ),
}
"""Each query about the first patient, or both; C is deprecated."""


def found(bench: Bench, one: Graph, request: AdhocQueryRequest, ids: Sequence[str]) -> Found:
    """A query's answer beside the ids it must hold."""
    return bench.found(request, *ids, labels=one.labels)


def needs(query: str) -> str:
    """What asking a query takes beyond a registry."""
    return "multi_patient" if query.endswith("ForMultiplePatients") else ""


# --- Both return types -------------------------------------------------------------------------


def _both_return_types(asked: Asked, bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    full = found(bench, one, asked.ask(one, LEAF_CLASS), asked.finds(one))
    yield full
    yield found(bench, one, asked.ask(one, OBJECT_REF), asked.finds(one))
    assert full.answer.response is not None
    objects = full.answer.response.objects()
    incomplete = [obj.entry_uuid for obj in objects.objects() if not obj.availability_status]
    incomplete += [
        entry.entry_uuid
        for entry in objects.documents
        if not (entry.logical_id and entry.version and entry.object_type)
    ]
    yield Compared("objects without status, lid, version or objectType", [], incomplete)


for _name, _asked in EACH_QUERY.items():
    CASES.add(
        f"Q10-{_name}",
        f"{_name}: ObjectRef and LeafClass name the same objects, LeafClass is complete",
        f"{_name} : ObjectRef et LeafClass donnent les mêmes objets, LeafClass est complet",
        spec="ITI TF-2 3.18.4.1.2.3.1",
        needs=needs(_name),
        expected=[Exactly(), Exactly(), Same("complete objects")],
        stimulus=partial(_both_return_types, _asked),
    )


# --- One patient -------------------------------------------------------------------------------

TWO_PATIENTS: dict[str, Asked] = {
    "GetDocuments": Asked(
        lambda one, kind: ask.get_documents(unique_id=[one.unique_id("A")], return_type=kind),
        lambda one: one.ids("AX"),
    ),
    "GetFolders": Asked(
        lambda one, kind: ask.get_folders(entry_uuid=one.ids("FY"), return_type=kind),
        lambda one: one.ids("FY"),
    ),
    "GetDocumentsAndAssociations": Asked(
        lambda one, kind: ask.get_documents_and_associations(
            entry_uuid=one.ids("AX"), return_type=kind
        ),
        lambda one: [*one.ids("AX"), *one.touching(*one.ids("AX"))],
    ),
    "GetSubmissionSets": Asked(
        lambda one, kind: ask.get_submission_sets(one.ids("AX"), return_type=kind),
        lambda one: [
            *(sets := [one.set_id("S1"), one.set_id("S4")]),
            *one.between(sets, one.ids("AX")),
        ],
    ),
    "GetFoldersForDocument": Asked(
        lambda one, kind: ask.get_folders_for_document(
            unique_id=one.unique_id("A"), return_type=kind
        ),
        lambda one: one.ids("FY"),
    ),
    "GetRelatedDocuments": Asked(
        lambda one, kind: ask.get_related_documents(
            [XFRM], unique_id=one.unique_id("A"), return_type=kind
        ),
        lambda one: [*one.ids("ACXZ"), *one.between(one.ids("CZ"), one.ids("AX"))],
    ),
}
"""Questions that both patients answer. A folder's contents are of one patient always."""


def _two_patients(asked: Asked, bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    yield bench.query(asked.ask(one, LEAF_CLASS))
    yield found(bench, one, asked.ask(one, OBJECT_REF), asked.finds(one))


for _name, _asked in TWO_PATIENTS.items():
    CASES.add(
        f"Q11-{_name}",
        f"{_name} for two patients: an error as LeafClass, allowed as ObjectRef",
        f"{_name} pour deux patients : erreur en LeafClass, permis en ObjectRef",
        spec="ITI TF-2 3.18.4.1.2.3.7.5",
        expected=[failure("XDSResultNotSinglePatient"), Exactly()],
        stimulus=partial(_two_patients, _asked),
    )


@CASES.case(
    "Q11-GetSubmissionSetAndContents",
    "A submission with a document of another patient by reference: as LeafClass, as ObjectRef",
    "Un lot avec, par référence, le document d'un autre patient : en LeafClass, en ObjectRef",
    spec="ITI TF-2 3.18.4.1.2.3.7.10",
    expected=[failure("XDSResultNotSinglePatient"), Exactly()],
)
def _set_of_two_patients(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    existing = bench.registered_entry(other)
    submission = bench.submission(one, bench.entry(one), references=[existing.entry_uuid])
    bench.registered(submission)
    name = submission.submission_sets[0].entry_uuid
    yield bench.query(ask.get_submission_set_and_contents(entry_uuid=name))
    ids = [existing.entry_uuid, *(obj.entry_uuid for obj in submission.objects())]
    yield bench.found(
        ask.get_submission_set_and_contents(entry_uuid=name, return_type=OBJECT_REF), *ids
    )


# --- Contents ----------------------------------------------------------------------------------


def _filtered(kind: str, bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    formats = bench.targets.codes("formatCode")
    normal, secret = bench.targets.codes("confidentialityCode")[:2]
    wanted: list[tuple[ContentFilters, str]] = [
        ({"format_code": [formats[0]]}, "B"),
        ({"format_code": formats[:2]}, ""),
        ({"confidentiality_code": [secret]}, "A"),
        ({"confidentiality_code": [[normal], [secret]]}, "AB"),
    ]
    for filters, without in wanted:
        if kind == "GetFolderAndContents":
            kept = "".join(letter for letter in "AB" if letter not in without)
            ids = [*one.ids("F" + kept), *one.between(one.ids("F"), one.ids(kept))]
            request = ask.get_folder_and_contents(entry_uuid=one.id("F"), **filters)
        else:
            ids = one.everything("S1", without)
            request = ask.get_submission_set_and_contents(entry_uuid=one.set_id("S1"), **filters)
        yield found(bench, one, request, ids)


for _name in ("GetSubmissionSetAndContents", "GetFolderAndContents"):
    CASES.add(
        f"Q14-{_name}",
        f"{_name} filtered by format and confidentiality: no dangling association",
        f"{_name} filtré par format et confidentialité : pas d'association pendante",
        spec="ITI TF-2 3.18.4.1.2.3.7.10, 3.18.4.1.2.3.7.11",
        expected=[Exactly()] * 4,
        stimulus=partial(_filtered, _name),
    )


@CASES.case(
    "Q15",
    "GetRelatedDocuments: no relation, one type, two types, from the other end",
    "GetRelatedDocuments : aucune relation, un type, deux types, depuis l'autre bout",
    spec="ITI TF-2 3.18.4.1.2.3.7.13",
    expected=[Exactly("nothing"), Exactly("nothing"), *[Exactly()] * 4],
)
def _related(bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    transformed, replaced = (one.between(one.ids(a), one.ids(b)) for a, b in ("CA", "DC"))
    for letter, types, letters, links in (
        ("B", [RPLC, XFRM], "", []),
        ("A", [APND, RPLC], "", []),
        ("C", [XFRM], "CA", transformed),
        ("C", [RPLC], "CD", replaced),
        ("C", [RPLC, XFRM], "ACD", [*transformed, *replaced]),
        ("A", [RPLC, XFRM], "AC", transformed),
    ):
        request = ask.get_related_documents(types, entry_uuid=one.id(letter))
        yield found(bench, one, request, [*one.ids(letters), *links])


# --- Across patients (ITI-51) ------------------------------------------------------------------


@CASES.case(
    "Q20-patients",
    "FindDocumentsForMultiplePatients: one patient of two, both, both and a format",
    "FindDocumentsForMultiplePatients : un patient sur deux, les deux, les deux et un format",
    spec=ACROSS,
    needs="multi_patient",
    expected=[Exactly()] * 3,
)
def _several_patients(bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    both = [one.patient, one.other_patient]
    second = bench.targets.codes("formatCode")[1]
    for request, letters in (
        (ask.find_documents_for_multiple_patients([one.other_patient]), "XZ"),
        (ask.find_documents_for_multiple_patients(both), "ABDXZ"),
        (ask.find_documents_for_multiple_patients(both, format_code=[second]), "B"),
    ):
        yield found(bench, one, request, one.ids(letters))


@CASES.case(
    "Q20-criteria",
    "FindDocumentsForMultiplePatients without patients: by class code",
    "FindDocumentsForMultiplePatients sans patient : par code de classe",
    spec=ACROSS,
    needs="multi_patient",
    expected=[Same("both patients' documents")],
)
def _no_patient(bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    code = bench.targets.codes("classCode")[0]
    answer = bench.query(
        ask.find_documents_for_multiple_patients(class_code=[code], return_type=OBJECT_REF)
    )
    seen = set(answer.response.objects().object_refs) if answer.response else set()
    yield Compared("documents of both among them", set(one.ids("ABDXZ")), seen & one.labels.keys())


@CASES.case(
    "Q20-other",
    "A query of ITI-18 by ITI-51, and one of ITI-51 by ITI-18, is unknown",
    "Une requête d'ITI-18 par ITI-51, et une d'ITI-51 par ITI-18, est inconnue",
    spec="ITI TF-2 3.51.4.1.2, 3.18.4.1.2.4",
    needs="multi_patient",
    expected=[failure("XDSUnknownStoredQuery", about="the query")] * 2,
)
def _other_transaction(bench: Bench) -> Iterator[Seen]:
    one = graph(bench)
    for exchange, query in (
        (ITI_51, "FindDocuments"),
        (ITI_18, "FindDocumentsForMultiplePatients"),
    ):
        request = EACH_QUERY[query].ask(one, LEAF_CLASS)
        yield bench.ask(exchange, request).naming(request.query_id)
