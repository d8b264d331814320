"""Document Registry: identifiers, attributes, codes, patients, uniqueness (G01-G14, G27-G29).

Folders and relationships between documents are in ``registry_links``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Exactly, Same, Success, any_of, failure
from conformance.material import related
from conformance.seen import Compared, Seen
from conformance.targets import NotRun
from conformance.text import Text
from metadata.datatypes import (
    CX,
    DTM,
    OID,
    XCN,
    XON,
    CXi,
    LocalizedString,
    is_uuid_urn,
    new_oid,
    new_uuid_urn,
)
from metadata.identifiers import APND, APPROVED, RIM, RPLC, SS_NODE
from metadata.model import Author, Code, DocumentEntry, Folder, Submission, SubmissionSet
from transactions.iti_42 import SubmitObjectsRequest
from transactions.stored_query import get_associations, get_documents

CASES = Cases(Actor.REGISTRY_SUBMIT, "registry patients")

CHECKS = "ITI TF-2 3.42.4.1.3.3"
ATTRIBUTES = "ITI TF-3 4.3.1"
METADATA_ERROR = "XDSRegistryMetadataError"

DOCUMENT, SET, FOLDER = "DocumentEntry", "SubmissionSet", "Folder"


@CASES.case(
    "G01",
    "One document under symbolic ids: UUIDs are assigned, the entry is Approved",
    "Un document sous des identifiants symboliques : UUID attribués, fiche approuvée",
    spec="ITI TF-2 3.42.4.1.3.7",
    expected=[Success(), Same("one Approved entry with an entryUUID")],
)
def _register_minimal(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = bench.entry(patient, entry_uuid="Document01")
    yield bench.register(bench.submission(patient, entry, entry_uuid="SubmissionSet01"))
    found = bench.objects(get_documents(unique_id=[entry.unique_id or ""])).documents
    seen = [(is_uuid_urn(one.entry_uuid), one.availability_status) for one in found]
    yield Compared("entryUUID assigned, status", [(True, APPROVED)], seen)


@CASES.case(
    "G02",
    "Submitted UUIDs are kept; the same UUIDs cannot be registered again",
    "Les UUID soumis sont conservés ; ils ne peuvent être enregistrés deux fois",
    spec="ITI TF-2 3.42.4.1.3.7",
    expected=[
        Success(),
        Exactly("the entry under its UUID"),
        failure(METADATA_ERROR, about="the entryUUID"),
    ],
)
def _register_uuids(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = bench.entry(patient)
    yield bench.register(bench.submission(patient, entry))
    yield bench.found(get_documents(entry_uuid=[entry.entry_uuid]), entry.entry_uuid)
    again = bench.entry(patient, entry_uuid=entry.entry_uuid)
    yield bench.register(bench.submission(patient, again)).naming(entry.entry_uuid)


@CASES.case(
    "G03",
    "The SubmissionSet's Classification beside the package, not inside",
    "La Classification du lot de soumission à côté du paquet, non dedans",
    spec="ITI TF-3 4.2.1.2.1",
    expected=[Success(), Same("the document found")],
)
def _register_classified_beside(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = bench.entry(patient)
    request = SubmitObjectsRequest.of(bench.submission(patient, entry))
    nodes = request.registry_objects.iter(f"{{{RIM}}}Classification")
    node = next(one for one in nodes if one.get("classificationNode") == SS_NODE)
    request.registry_objects.append(node)
    yield bench.register(request)
    found = bench.objects(get_documents(entry_uuid=[entry.entry_uuid])).documents
    yield Compared("documents", 1, len(found))


# --- Attributes, each wrong in turn ------------------------------------------------------------


def _with(bench: Bench, kind: str, **changes: Any) -> Submission:
    """A submission of one document in one folder, with ``changes`` to one of its objects."""
    patient = bench.patient()
    entry = bench.entry(patient, **(changes if kind == DOCUMENT else {}))
    folder = bench.folder(patient, **(changes if kind == FOLDER else {}))
    set_changes = changes if kind == SET else {}
    return bench.submission(patient, entry, folders=[folder], **set_changes)


def _attribute_dropped(kind: str, field: str, bench: Bench) -> Iterator[Seen]:
    model: Any = {DOCUMENT: DocumentEntry, SET: SubmissionSet, FOLDER: Folder}[kind]
    empty: Any = [] if isinstance(getattr(model(), field), list) else None
    yield bench.register(_with(bench, kind, **{field: empty}))


REQUIRED = (
    (DOCUMENT, "class_code", "classCode"),
    (DOCUMENT, "confidentiality_code", "confidentialityCode"),
    (DOCUMENT, "creation_time", "creationTime"),
    (DOCUMENT, "format_code", "formatCode"),
    (DOCUMENT, "hash", "hash"),
    (DOCUMENT, "healthcare_facility_type_code", "healthcareFacilityTypeCode"),
    (DOCUMENT, "language_code", "languageCode"),
    (DOCUMENT, "mime_type", "mimeType"),
    (DOCUMENT, "patient_id", "patientId"),
    (DOCUMENT, "practice_setting_code", "practiceSettingCode"),
    (DOCUMENT, "repository_unique_id", "repositoryUniqueId"),
    (DOCUMENT, "size", "size"),
    (DOCUMENT, "source_patient_id", "sourcePatientId"),
    (DOCUMENT, "type_code", "typeCode"),
    (DOCUMENT, "unique_id", "uniqueId"),
    (SET, "content_type_code", "contentTypeCode"),
    (SET, "patient_id", "patientId"),
    (SET, "source_id", "sourceId"),
    (SET, "submission_time", "submissionTime"),
    (SET, "unique_id", "uniqueId"),
    (FOLDER, "code_list", "codeList"),
    (FOLDER, "patient_id", "patientId"),
    (FOLDER, "title", "title"),
    (FOLDER, "unique_id", "uniqueId"),
)
"""The attributes a registry demands (ITI TF-3 Table 4.3.1-3, column ITI-42)."""

for _kind, _field, _name in REQUIRED:
    CASES.add(
        f"G04-{_kind}.{_name}",
        f"{_kind}.{_name} is missing",
        f"{_kind}.{_name} est absent",
        spec=ATTRIBUTES,
        expected=[failure(METADATA_ERROR, names=_name)],
        stimulus=partial(_attribute_dropped, _kind, _field),
    )


def _value_wrong(kind: str, field: str, value: object, bench: Bench) -> Iterator[Seen]:
    yield bench.register(_with(bench, kind, **{field: value}))


WRONG = (
    (DOCUMENT, "creation_time", DTM("20261340"), "creationTime", "no such month"),
    (DOCUMENT, "creation_time", DTM("2026-03-01"), "creationTime", "hyphens"),
    (DOCUMENT, "service_start_time", DTM("20260301120000+0100"), "serviceStartTime", "time zone"),
    (DOCUMENT, "source_patient_id", CX("LOCAL-1^^^HOSPITAL"), "sourcePatientId", "namespace"),
    (DOCUMENT, "patient_id", CX("NOBODY"), "patientId", "no authority"),
    (DOCUMENT, "language_code", "french!", "languageCode", "no language tag"),
    (DOCUMENT, "hash", "123", "hash", "no SHA-1"),
    (DOCUMENT, "size", "many", "size", "no number"),
    (DOCUMENT, "repository_unique_id", OID("1.02.3"), "repositoryUniqueId", "leading zero"),
    (DOCUMENT, "home_community_id", "1.2.3", "homeCommunityId", "no urn:oid"),
    (DOCUMENT, "legal_authenticator", XCN("^^MARCUS"), "legalAuthenticator", "no name, no id"),
    (DOCUMENT, "reference_id_list", [CXi("1^^^&1.2.3&ISO")], "referenceIdList", "no type"),
    (
        DOCUMENT,
        "author",
        [Author(institution=[XON("^^^^^^^^^1.2.3")])],
        "authorInstitution",
        "no name",
    ),
    (SET, "source_id", OID("kit"), "sourceId", "no OID"),
    (SET, "unique_id", "submission-1", "uniqueId", "no OID"),
    (SET, "submission_time", DTM("yesterday"), "submissionTime", "words"),
    (FOLDER, "unique_id", "folder-1", "uniqueId", "no OID"),
)
"""Values that are not of their data type (ITI TF-3 4.2.3.1.7), and what is wrong."""

WRONG_IN_FRENCH = {
    "no such month": "mois inexistant",
    "hyphens": "traits d'union",
    "time zone": "fuseau horaire",
    "namespace": "espace de noms",
    "no authority": "sans autorité",
    "no language tag": "pas une langue",
    "no SHA-1": "pas un SHA-1",
    "no number": "pas un nombre",
    "leading zero": "zéro initial",
    "no urn:oid": "sans urn:oid",
    "no name, no id": "ni nom ni identifiant",
    "no type": "sans type",
    "no name": "sans nom",
    "no OID": "pas un OID",
    "words": "des mots",
}

for _number, (_kind, _field, _value, _name, _why) in enumerate(WRONG, 1):
    CASES.add(
        f"G05-{_number:02}",
        f"{_kind}.{_name} is not of its data type ({_why})",
        f"{_kind}.{_name} n'est pas du bon type de donnée ({WRONG_IN_FRENCH[_why]})",
        spec="ITI TF-3 4.2.3.1.7",
        expected=[failure(METADATA_ERROR, names=_name)],
        stimulus=partial(_value_wrong, _kind, _field, _value),
    )


@CASES.case(
    "G05-uuid",
    "A reference to a registered document with its UUID in upper case",
    "Une référence à un document enregistré avec son UUID en majuscules",
    spec="ITI TF-3 4.2.3.1.7",
    expected=[failure("UnresolvedReferenceException", METADATA_ERROR)],
)
def _register_upper_case_uuid(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    uuid = "urn:uuid:abcdef00" + new_uuid_urn()[len("urn:uuid:") + 8 :]
    old = bench.registered_entry(patient, entry_uuid=uuid)
    new = bench.entry(patient)
    target = "urn:uuid:" + old.entry_uuid[len("urn:uuid:") :].upper()
    replacement = related(RPLC, new, target)
    yield bench.register(bench.submission(patient, new, associations=[replacement]))


# --- Codes ---------------------------------------------------------------------------------------


def _code_unlisted(kind: str, field: str, name: str, bench: Bench) -> Iterator[Seen]:
    code = bench.targets.unlisted_code(name)
    many = field in ("confidentiality_code", "event_code_list", "code_list")
    yield bench.register(_with(bench, kind, **{field: [code] if many else code})).naming(code.code)


for _kind, _field, _name in (
    (DOCUMENT, "class_code", "classCode"),
    (DOCUMENT, "type_code", "typeCode"),
    (DOCUMENT, "format_code", "formatCode"),
    (DOCUMENT, "confidentiality_code", "confidentialityCode"),
    (DOCUMENT, "healthcare_facility_type_code", "healthcareFacilityTypeCode"),
    (DOCUMENT, "practice_setting_code", "practiceSettingCode"),
    (DOCUMENT, "event_code_list", "eventCodeList"),
    (SET, "content_type_code", "contentTypeCode"),
    (FOLDER, "code_list", "codeList"),
):
    CASES.add(
        f"G06-{_name}",
        f"{_kind}.{_name} holds a code the affinity domain does not know",
        f"{_kind}.{_name} porte un code inconnu du domaine d'affinité",
        spec="ITI TF-2 3.42.4.1.3.3.3",
        expected=[failure(METADATA_ERROR, names=_name, about="the code")],
        stimulus=partial(_code_unlisted, _kind, _field, _name),
    )


@CASES.case(
    "G06-display",
    "A known code under another display name is accepted",
    "Un code connu sous un autre libellé est accepté",
    spec="ITI TF-2 3.42.4.1.3.3.3",
    expected=[Success()],
)
def _register_display_name(bench: Bench) -> Iterator[Seen]:
    known = bench.targets.codes("classCode")[0]
    code = Code(known.code, known.scheme, LocalizedString("Anything else"))
    yield bench.register(_with(bench, DOCUMENT, class_code=code))


@CASES.case(
    "G07",
    "A mime type the affinity domain does not allow",
    "Un type MIME non admis par le domaine d'affinité",
    spec="ITI TF-2 3.42.4.1.3.3.4",
    expected=[failure(METADATA_ERROR, names="mimeType")],
)
def _register_mime_type(bench: Bench) -> Iterator[Seen]:
    if bench.targets.domain.mime_types is None:
        raise NotRun(Text("every mime type is allowed", "tout type MIME est admis"))
    yield bench.register(_with(bench, DOCUMENT, mime_type="application/x-kit-unlisted"))


@CASES.case(
    "G08",
    "Service times: start after stop is refused, start equal to stop accepted",
    "Dates de service : début après la fin refusé, début égal à la fin accepté",
    spec="ITI TF-2 3.42.4.1.3.3.6",
    expected=[failure(METADATA_ERROR, names="serviceStartTime serviceStopTime"), Success()],
)
def _register_service_times(bench: Bench) -> Iterator[Seen]:
    for start in (DTM("20260302"), DTM("20260301")):
        times = {"service_start_time": start, "service_stop_time": DTM("20260301")}
        yield bench.register(_with(bench, DOCUMENT, **times))


# --- Patients and uniqueness ---------------------------------------------------------------------


@CASES.case(
    "G09",
    "A patient never announced",
    "Un patient jamais annoncé",
    spec="ITI TF-2 3.42.4.1.3.3.2",
    expected=[failure("XDSUnknownPatientId", about="the patient")],
)
def _register_unknown_patient(bench: Bench) -> Iterator[Seen]:
    patient = bench.unknown_patient()
    answer = bench.register(bench.submission(patient, bench.entry(patient)))
    yield answer.naming(patient.id)


@CASES.case(
    "G10",
    "Document, then folder, of another patient than the SubmissionSet",
    "Document, puis classeur, d'un autre patient que le lot de soumission",
    spec="ITI TF-2 3.42.4.1.3.3.2",
    expected=[
        failure("XDSPatientIdDoesNotMatch", about="the patient"),
        failure("XDSPatientIdDoesNotMatch", about="the patient"),
    ],
)
def _register_other_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    yield bench.register(bench.submission(one, bench.entry(other))).naming(other.id)
    submission = bench.submission(one, bench.entry(one), folders=[bench.folder(other)])
    yield bench.register(submission).naming(other.id)


@CASES.case(
    "G11",
    "SubmissionSet.uniqueId already used by a SubmissionSet, a Folder, a DocumentEntry",
    "SubmissionSet.uniqueId déjà utilisé par un lot, un classeur, une fiche",
    spec="ITI TF-2 3.42.4.1.3.3.7",
    expected=[failure("XDSDuplicateUniqueIdInRegistry", about="the uniqueId")] * 3,
)
def _register_duplicate_set(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry, folder = bench.entry(patient), bench.folder(patient)
    first = bench.registered(bench.submission(patient, entry, folders=[folder]))
    for used in (first.submission_sets[0], folder, entry):
        unique_id = used.unique_id or ""
        again = bench.submission(patient, bench.entry(patient), unique_id=unique_id)
        yield bench.register(again).naming(unique_id)


@CASES.case(
    "G12",
    "DocumentEntry.uniqueId again: same hash and size, another hash, another size",
    "DocumentEntry.uniqueId répété : mêmes empreinte et taille, autre empreinte, autre taille",
    spec="ITI TF-2 3.42.4.1.3.3.1",
    expected=[
        Success(),
        failure("XDSNonIdenticalHash", about="the uniqueId"),
        failure("XDSNonIdenticalSize", "XDSNonIdenticalHash", about="the uniqueId"),
    ],
)
def _register_same_document(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    unique_id = bench.registered_entry(patient).unique_id or ""
    variants: list[dict[str, Any]] = [{}, {"hash": "0" * 40}, {"size": "1"}]
    for changes in variants:
        entry = bench.entry(patient, unique_id=unique_id, **changes)
        answer = bench.register(bench.submission(patient, entry))
        yield answer.naming(unique_id) if changes else answer


@CASES.case(
    "G13",
    "A uniqueId twice in one message: two documents, a document and a folder",
    "Un uniqueId deux fois dans un message : deux documents, un document et un classeur",
    spec="ITI TF-3 4.2.4.1",
    expected=[failure("XDSRegistryDuplicateUniqueIdInMessage", about="the uniqueId")] * 2,
)
def _register_twice_in_message(bench: Bench) -> Iterator[Seen]:
    patient, unique_id = bench.patient(), new_oid()
    entries = [bench.entry(patient, unique_id=unique_id) for _ in range(2)]
    yield bench.register(bench.submission(patient, *entries)).naming(unique_id)
    folder = bench.folder(patient, unique_id=unique_id)
    submission = bench.submission(patient, entries[0], folders=[folder])
    yield bench.register(submission).naming(unique_id)


@CASES.case(
    "G14",
    "Two documents, the second wrong: nothing is kept, all ids can be used again",
    "Deux documents, le second fautif : rien n'est gardé, les identifiants resservent",
    spec="ITI TF-2 3.42.4.1.3.1",
    expected=[failure(METADATA_ERROR, names="classCode"), Exactly("nothing"), Success()],
)
def _register_atomic(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    good, bad = bench.entry(patient), bench.entry(patient)
    right_code, bad.class_code = bad.class_code, None
    submission = bench.submission(patient, good, bad)
    yield bench.register(submission)
    yield bench.found(get_documents(entry_uuid=[good.entry_uuid, bad.entry_uuid]))
    bad.class_code = right_code
    yield bench.register(submission)


@CASES.case(
    "G27",
    "An association documented by a code keeps it",
    "Une association documentée par un code le conserve",
    spec="ITI TF-3 4.2.2.2",
    expected=[Success(), Same("the association's documentation")],
)
def _register_documented(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    code = bench.targets.codes("documentation")[0]
    original = bench.registered_entry(patient)
    entry = bench.entry(patient)
    association = related(APND, entry, original)
    association.documentation = code
    yield bench.register(bench.submission(patient, entry, associations=[association]))
    found = bench.objects(get_associations([original.entry_uuid])).associations
    seen = [one.documentation for one in found if one.association_type == APND]
    yield Compared("documentation", [code], seen)


@CASES.case(
    "G28",
    "A document of another patient, by reference",
    "Un document d'un autre patient, par référence",
    spec="ITI TF-3 4.2.2.1.1",
    expected=[Success()],
)
def _register_by_reference(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    existing = bench.registered_entry(other)
    submission = bench.submission(one, bench.entry(one), references=[existing.entry_uuid])
    yield bench.register(submission)


SLOT = "urn:conformance-kit:extra"


@CASES.case(
    "G29-urn",
    "An extra slot under a URN of its own: kept and returned, or dropped with a warning",
    "Un slot supplémentaire sous une URN propre : conservé, ou écarté avec avertissement",
    spec="ITI TF-3 4.2.3.1.6",
    expected=[
        any_of(Success(), Success(warning="XDSExtraMetadataNotSaved")),
        Same("kept, or a warning"),
    ],
)
def _register_extra_slot(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = bench.entry(patient, extra_slots={SLOT: ["one", "two"]})
    answer = bench.register(bench.submission(patient, entry))
    yield answer
    warned = "XDSExtraMetadataNotSaved" in [error.code for error in answer.errors]
    kept = bench.stored_entry(entry.entry_uuid).extra_slots.get(SLOT) == ["one", "two"]
    yield Compared("kept, or a warning", True, kept or warned)


@CASES.case(
    "G29-ihe",
    "An unknown slot under urn:ihe: is refused",
    "Un slot inconnu sous urn:ihe: est refusé",
    spec="ITI TF-3 4.2.3.1.6",
    expected=[failure(METADATA_ERROR, about="the slot")],
)
def _register_ihe_slot(bench: Bench) -> Iterator[Seen]:
    slot = "urn:ihe:iti:2099:unknown"
    submission = _with(bench, DOCUMENT, extra_slots={slot: ["value"]})
    yield bench.register(submission).naming(slot)
