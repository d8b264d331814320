"""Document Repository: Provide and Register (R01-R14, R16, R17) and Retrieve (R18-R22).

R10, R11, R12 and R15, which need a registry in the kit's hands, are in ``simulated``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from conformance import expectation, material
from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Exactly, HttpStatus, Same, Success, any_of, failure, fault
from conformance.mime import MixedMessage, Shape
from conformance.seen import Answer, Compared, Seen
from conformance.streams import Checksum, Generated
from conformance.wire import simple
from metadata.datatypes import OID, new_oid
from metadata.model import DocumentEntry, Submission
from transactions.iti_41 import ITI_41
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.stored_query import get_documents

CASES = Cases(Actor.REPOSITORY, "repository")

PROVIDE = "ITI TF-2 3.41.4.1.3.2"
RETRIEVE = "ITI TF-2 3.43.4.2"
ERRORS = "ITI TF-3 4.2.4.1"

NOBODY = "urn:uuid:00000000-0000-4000-8000-000000000000"
HOME = "urn:oid:2.25.99"


def prepared(
    bench: Bench, content: bytes = material.TEXT, **changes: Any
) -> tuple[Submission, DocumentEntry]:
    """A submission of one document as a source sends it."""
    patient = bench.patient()
    entry = material.changed(material.provided(bench.entry(patient, content)), changes)
    return bench.submission(patient, entry), entry


def sha1(content: bytes) -> str:
    """The hash of XDS metadata."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def contents(answer: Answer[Any]) -> list[bytes]:
    """The bytes of the documents that were handed over."""
    documents = answer.response.documents if answer.response else ()
    return [b"".join(document.content.chunks()) for document in documents]


@CASES.case(
    "R01",
    "One document, optimised MTOM; the repository completes its metadata",
    "Un document en MTOM optimisé ; l'entrepôt complète ses métadonnées",
    spec=PROVIDE,
    needs="registry patients",
    expected=[
        Success(mtom=True),
        Same("repositoryUniqueId, hash and size in the registry"),
        Same("the same bytes retrieved"),
    ],
)
def _provide_one(bench: Bench) -> Iterator[Seen]:
    submission, entry = prepared(bench)
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT})
    stored = bench.stored_entry(entry.entry_uuid)
    seen = (bool(stored.repository_unique_id), (stored.hash or "").lower(), stored.size)
    wanted = (True, sha1(material.TEXT), str(len(material.TEXT)))
    yield Compared("repositoryUniqueId given, hash, size", wanted, seen)
    request = DocumentRequest(stored.repository_unique_id or "", entry.unique_id or "")
    yield Compared("documents", [material.TEXT], contents(bench.retrieve(request)))


@CASES.case(
    "R02",
    "One document inline, its base64 broken into lines",
    "Un document en ligne, son base64 coupé en lignes",
    spec="ITI TF-2 V.8.2",
    needs="registry patients",
    expected=[Success(mtom=True), Same("hash in the registry")],
)
def _provide_inline(bench: Bench) -> Iterator[Seen]:
    content = bytes(range(256)) * 8
    submission, entry = prepared(bench, content)
    message = MixedMessage(submission, {entry.entry_uuid: content}, {}, token=bench.wire.token())
    yield bench.wire.send(bench.targets.endpoint("repository"), message.post(), ITI_41)
    stored = bench.stored_entry(entry.entry_uuid)
    yield Compared("hash", sha1(content), (stored.hash or "").lower())


@CASES.case(
    "R03",
    "Three documents, one inline, two as parts in reverse order, no start parameter",
    "Trois documents, un en ligne, deux en parties inversées, sans paramètre start",
    spec="ITI TF-2 V.8",
    needs="registry patients",
    expected=[Success(mtom=True), Same("the three hashes in the registry")],
)
def _provide_mixed(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    texts = [b"inline \x00\xff", b"a part \r\n-- of its own", b"another part"]
    entries = [material.provided(bench.entry(patient, text)) for text in texts]
    documents = {entry.entry_uuid: text for entry, text in zip(entries, texts, strict=True)}
    inline = {entries[0].entry_uuid: documents.pop(entries[0].entry_uuid)}
    submission = bench.submission(patient, *entries)
    message = MixedMessage(
        submission,
        inline,
        documents,
        Shape(start="", parts_reversed=True),
        bench.wire.token(),
    )
    yield bench.wire.send(bench.targets.endpoint("repository"), message.post(), ITI_41)
    stored = [(bench.stored_entry(entry.entry_uuid).hash or "").lower() for entry in entries]
    yield Compared("hashes", [sha1(text) for text in texts], stored)


@CASES.case(
    "R04",
    "A DocumentEntry without its document",
    "Une fiche sans son document",
    spec=ERRORS,
    needs="patients",
    expected=[failure("XDSMissingDocument")],
)
def _provide_without_document(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entries = [material.provided(bench.entry(patient)) for _ in range(2)]
    submission = bench.submission(patient, *entries)
    yield bench.provide(submission, {entries[0].entry_uuid: material.TEXT})


@CASES.case(
    "R05",
    "A document without its DocumentEntry",
    "Un document sans sa fiche",
    spec=ERRORS,
    needs="patients",
    expected=[failure("XDSMissingDocumentMetadata")],
)
def _provide_without_metadata(bench: Bench) -> Iterator[Seen]:
    submission, entry = prepared(bench)
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT, NOBODY: b"unannounced"})


def _wrong_checksum(attribute: str, value: str, bench: Bench) -> Iterator[Seen]:
    submission, entry = prepared(bench, material.TEXT, **{attribute: value})
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT})
    yield bench.found(get_documents(entry_uuid=[entry.entry_uuid]))


for _attribute, _value, _fr in (
    ("hash", sha1(b"something else"), "Une empreinte fausse"),
    ("size", str(len(material.TEXT) + 1), "Une taille fausse"),
):
    CASES.add(
        f"R06-{_attribute}",
        f"A wrong {_attribute}: refused, and nothing is registered",
        f"{_fr} : refus, et rien n'est enregistré",
        spec="ITI TF-2 3.41.4.1.3",
        needs="registry patients",
        expected=[
            failure("XDSRepositoryMetadataError", names=_attribute),
            Exactly("nothing"),
        ],
        stimulus=partial(_wrong_checksum, _attribute, _value),
    )


@CASES.case(
    "R07",
    "The right hash, in upper case",
    "La bonne empreinte, en majuscules",
    spec="ITI TF-3 4.2.3.2.10",
    needs="patients",
    expected=[Success(mtom=True)],
)
def _provide_upper_case_hash(bench: Bench) -> Iterator[Seen]:
    submission, entry = prepared(bench, hash=sha1(material.TEXT).upper())
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT})


@CASES.case(
    "R08",
    "A foreign repositoryUniqueId is replaced by the repository's own",
    "Un repositoryUniqueId étranger est remplacé par celui de l'entrepôt",
    spec=PROVIDE,
    needs="registry patients",
    expected=[Success(mtom=True), Same("repositoryUniqueId replaced"), Same("the same bytes")],
)
def _provide_foreign_repository(bench: Bench) -> Iterator[Seen]:
    foreign = OID(new_oid())
    submission, entry = prepared(bench, repository_unique_id=foreign)
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT})
    own = bench.stored_entry(entry.entry_uuid).repository_unique_id
    yield Compared("repositoryUniqueId replaced", True, own not in (None, foreign))
    answer = bench.retrieve(DocumentRequest(str(own), entry.unique_id or ""))
    yield Compared("documents", [material.TEXT], contents(answer))


@CASES.case(
    "R09",
    "What only a registry may judge is judged by the registry, and relayed",
    "Ce que seul un registre peut juger est jugé par lui, et relayé",
    spec=PROVIDE,
    needs="patients",
    expected=[failure("XDSRegistryMetadataError", names="classCode")],
)
def _provide_unknown_class(bench: Bench) -> Iterator[Seen]:
    submission, entry = prepared(bench, class_code=bench.targets.unlisted_code("classCode"))
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT})


@CASES.case(
    "R13",
    "The same document again under a new entry: two DocumentEntries",
    "Le même document sous une nouvelle fiche : deux fiches",
    spec="ITI TF-2 3.42.4.1.3.3.1",
    needs="registry patients",
    expected=[Success(mtom=True), Exactly("both entries")],
)
def _provide_again(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    first = bench.provided_entry(patient)
    second = material.provided(bench.entry(patient, unique_id=first.unique_id))
    submission = bench.submission(patient, second)
    yield bench.provide(submission, {second.entry_uuid: material.TEXT})
    query = get_documents(unique_id=[first.unique_id or ""])
    yield bench.found(query, first.entry_uuid, second.entry_uuid)


@CASES.case(
    "R14",
    "Other bytes under the same uniqueId: refused, the old ones are still served",
    "D'autres octets sous le même uniqueId : refus, les anciens restent servis",
    spec="ITI TF-2 3.41.4.1.3.2, 3.42.4.1.3.3.1",
    needs="registry patients",
    expected=[
        failure("XDSNonIdenticalHash", "XDSNonIdenticalSize", about="the uniqueId"),
        Same("the first bytes retrieved"),
    ],
)
def _provide_other_bytes(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    first = bench.provided_entry(patient)
    second = material.provided(bench.entry(patient, unique_id=first.unique_id))
    submission = bench.submission(patient, second)
    answer = bench.provide(submission, {second.entry_uuid: material.TEXT + b"changed"})
    yield answer.naming(first.unique_id or "")
    yield Compared("documents", [material.TEXT], contents(bench.retrieve_ids(first.unique_id)))


@CASES.case(
    "R16",
    "Provide and Register as simple SOAP is refused",
    "Un dépôt en SOAP simple est refusé",
    spec="ITI TF-2 V.8.1",
    needs="patients",
    expected=[any_of(HttpStatus(415), fault("Sender"))],
)
def _provide_simple_soap(bench: Bench) -> Iterator[Seen]:
    submission, entry = prepared(bench)
    url = bench.targets.endpoint("repository")
    message = MixedMessage(
        submission, {entry.entry_uuid: material.TEXT}, {}, token=bench.wire.token()
    )
    yield bench.wire.send(url, simple([message.root()], ITI_41.action), ITI_41)


@CASES.case(
    "R17",
    "A very large document, in and out",
    "Un très gros document, aller et retour",
    spec="ITI TF-2 V.8",
    needs="registry patients",
    expected=[Success(mtom=True), Same("hash and size of what was retrieved")],
)
def _provide_big(bench: Bench) -> Iterator[Seen]:
    content = Generated(bench.targets.big_document)
    patient = bench.patient()
    entry = material.provided(bench.entry(patient))
    yield bench.provide(bench.submission(patient, entry), {entry.entry_uuid: content})
    own = bench.repository_unique_id()
    request = RetrieveDocumentSetRequest((DocumentRequest(own, entry.unique_id or ""),))
    url = bench.targets.endpoint("repository")
    answer = bench.wire.call(url, ITI_43, request, spool=Checksum)
    documents = answer.response.documents if answer.response else ()
    received = [document.content for document in documents]
    seen = [(one.sha1, one.size) for one in received if isinstance(one, Checksum)]
    yield Compared("hash and size", [(content.sha1(), content.size)], seen)


@CASES.case(
    "R18",
    "Two documents retrieved: bytes and mime types exact",
    "Deux documents récupérés : octets et types exacts",
    spec=RETRIEVE,
    needs="patients",
    expected=[Success(mtom=True), Same("ids, mime types and bytes")],
)
def _retrieve_two(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    texts = [b"first\r\n\x00", b"second \xe9\xff"]
    entries = [bench.provided_entry(patient, text) for text in texts]
    answer = bench.retrieve_ids(*(entry.unique_id for entry in entries))
    yield answer
    documents = answer.response.documents if answer.response else ()
    ids = [document.request.document_unique_id for document in documents]
    kinds = [document.mime_type for document in documents]
    seen = sorted(zip(ids, kinds, contents(answer), strict=True))
    wanted = [
        (entry.unique_id, entry.mime_type, text) for entry, text in zip(entries, texts, strict=True)
    ]
    yield Compared("ids, mime types and bytes", sorted(wanted, key=str), sorted(seen, key=str))


@CASES.case(
    "R19",
    "An unknown document",
    "Un document inconnu",
    spec="ITI TF-2 3.43.5",
    needs="patients",
    expected=[failure("XDSDocumentUniqueIdError", about="the uniqueId")],
)
def _retrieve_unknown(bench: Bench) -> Iterator[Seen]:
    unknown = new_oid()
    yield bench.retrieve_ids(unknown).located(unknown)


@CASES.case(
    "R20",
    "One known and one unknown document",
    "Un document connu et un inconnu",
    spec="ITI TF-3 4.2.4.2",
    needs="patients",
    expected=[
        expectation.partial("XDSDocumentUniqueIdError", about="the uniqueId"),
        Same("the known document's bytes"),
    ],
)
def _retrieve_partly(bench: Bench) -> Iterator[Seen]:
    known, unknown = bench.provided_entry(bench.patient()), new_oid()
    answer = bench.retrieve_ids(known.unique_id, unknown).located(unknown)
    yield answer
    yield Compared("documents", [material.TEXT], contents(answer))


@CASES.case(
    "R21",
    "A document asked of another repository",
    "Un document demandé à un autre entrepôt",
    spec=ERRORS,
    needs="patients",
    expected=[failure("XDSUnknownRepositoryId", about="the uniqueId")],
)
def _retrieve_elsewhere(bench: Bench) -> Iterator[Seen]:
    known = bench.provided_entry(bench.patient()).unique_id or ""
    yield bench.retrieve(DocumentRequest(new_oid(), known)).located(known)


@CASES.case(
    "R22",
    "HomeCommunityId comes back exactly when it was sent",
    "HomeCommunityId revient si et seulement s'il a été envoyé",
    spec="ITI TF-2 3.43.4.2.2",
    needs="patients",
    expected=[Success(mtom=True), Same("home echoed"), Success(mtom=True), Same("no home")],
)
def _retrieve_home(bench: Bench) -> Iterator[Seen]:
    known = bench.provided_entry(bench.patient()).unique_id or ""
    own = bench.repository_unique_id()
    for home in (HOME, None):
        answer = bench.retrieve(DocumentRequest(own, known, home))
        yield answer
        documents = answer.response.documents if answer.response else ()
        seen = [document.request.home_community_id for document in documents]
        yield Compared("HomeCommunityId", [home], seen)
