"""Document Repository: Remove Documents, ITI-86 (M08)."""

from __future__ import annotations

from collections.abc import Iterator

from conformance import expectation
from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.repository import contents
from conformance.expectation import Same, Success, failure
from conformance.material import TEXT
from conformance.seen import Answer, Compared, Seen
from metadata.datatypes import new_oid
from soap.media import parse_media_type
from transactions.iti_43 import DocumentRequest
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.registry_response import RegistryResponse

CASES = Cases(Actor.REPOSITORY_ADMINISTRATION, "repository patients administration")

SPEC = "Remove Metadata and Documents 3.86.4.1.3"
UNKNOWN_DOCUMENT = "XDSDocumentUniqueIdError"


def remove(bench: Bench, *requests: DocumentRequest) -> Answer[RegistryResponse]:
    """ITI-86."""
    url = bench.targets.endpoint("repository")
    return bench.wire.call(url, ITI_86, RemoveDocumentsRequest(requests))


def provided(bench: Bench, content: bytes = TEXT) -> DocumentRequest:
    """A document that the repository holds."""
    entry = bench.provided_entry(bench.patient(), content)
    return DocumentRequest(bench.repository_unique_id(), entry.unique_id or "")


@CASES.case(
    "M08-removed",
    "A document goes: it cannot be retrieved, nor removed again",
    "Un document disparaît : il n'est plus récupérable, ni supprimable",
    spec=SPEC,
    expected=[
        Success(),
        failure(UNKNOWN_DOCUMENT, about="the uniqueId"),
        failure(UNKNOWN_DOCUMENT, about="the uniqueId"),
    ],
)
def _removed(bench: Bench) -> Iterator[Seen]:
    document = provided(bench)
    yield remove(bench, document)
    yield bench.retrieve(document).located(document.document_unique_id)
    yield remove(bench, document).naming(document.document_unique_id)


@CASES.case(
    "M08-repository",
    "A document of another repository: refused, and still served",
    "Un document d'un autre entrepôt : refus, et il reste servi",
    spec=SPEC,
    expected=[
        failure("XDSUnknownRepositoryId", about="the uniqueId"),
        Same("the same bytes retrieved"),
    ],
)
def _other_repository(bench: Bench) -> Iterator[Seen]:
    document = provided(bench)
    elsewhere = DocumentRequest(new_oid(), document.document_unique_id)
    yield remove(bench, elsewhere).naming(document.document_unique_id)
    yield Compared("documents", [TEXT], contents(bench.retrieve(document)))


@CASES.case(
    "M08-unknown",
    "A document nobody has provided",
    "Un document que personne n'a déposé",
    spec=SPEC,
    expected=[failure(UNKNOWN_DOCUMENT, about="the uniqueId")],
)
def _unknown(bench: Bench) -> Iterator[Seen]:
    unknown = DocumentRequest(bench.repository_unique_id(), new_oid())
    yield remove(bench, unknown).naming(unknown.document_unique_id)


@CASES.case(
    "M08-mixed",
    "A known and an unknown document: the known one goes",
    "Un document connu et un inconnu : le connu disparaît",
    spec=SPEC,
    expected=[
        expectation.partial(UNKNOWN_DOCUMENT, about="the uniqueId"),
        failure(UNKNOWN_DOCUMENT),
    ],
)
def _mixed(bench: Bench) -> Iterator[Seen]:
    document, unknown = provided(bench), new_oid()
    own = bench.repository_unique_id()
    yield remove(bench, document, DocumentRequest(own, unknown)).naming(unknown)
    yield bench.retrieve(document)


@CASES.case(
    "M08-twin",
    "One of two documents of the same bytes: the other is still served",
    "Un de deux documents aux mêmes octets : l'autre reste servi",
    spec=SPEC,
    expected=[Success(), Same("the same bytes retrieved")],
)
def _twin(bench: Bench) -> Iterator[Seen]:
    content = b"the same bytes twice"
    one, other = (provided(bench, content) for _ in range(2))
    yield remove(bench, one)
    yield Compared("documents", [content], contents(bench.retrieve(other)))


@CASES.case(
    "M08-action",
    "The answer's Content-Type names its action",
    "Le Content-Type de la réponse nomme son action",
    spec="Remove Metadata and Documents 3.86.4.2.2",
    expected=[Same("the action in the Content-Type")],
)
def _action(bench: Bench) -> Iterator[Seen]:
    answer = remove(bench, DocumentRequest(new_oid(), new_oid()))
    lower = {name.lower(): value for name, value in answer.headers.items()}
    media = parse_media_type(lower.get("content-type", ""))
    yield Compared("action", ITI_86.response_action, media.parameters.get("action"))
