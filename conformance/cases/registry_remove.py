"""Document Registry: Remove Metadata, ITI-62 (M07)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.changes import Change, remove, updated
from conformance.expectation import Exactly, Refusal, Success, any_of, failure, fault
from conformance.material import has_member
from conformance.seen import Found, Seen
from conformance.wire import new_message_id, simple
from metadata.datatypes import new_uuid_urn
from metadata.identifiers import LCM, RIM
from metadata.model import Submission
from soap import envelope
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_62 import ITI_62
from transactions.stored_query import get_submission_set_and_contents

CASES = Cases(Actor.REGISTRY_ADMINISTRATION, "registry patients administration")

SPEC = "Remove Metadata and Documents 3.62.4.1.3"
UNRESOLVED = "UnresolvedReferenceException"
REFERENCED = "ReferencesExistException"
UNREFERENCED = "XDSUnreferencedObjectException"


def whole(bench: Bench) -> Submission:
    """A registered submission: a document in a folder, and what links them."""
    patient = bench.patient()
    document, folder = bench.entry(patient), bench.folder(patient)
    link = has_member(folder.entry_uuid, document.entry_uuid)
    submission = bench.submission(patient, document, folders=[folder], associations=[link])
    return bench.registered(submission)


def ids_of(submission: Submission) -> list[str]:
    """Everything that a submission brought."""
    return [obj.entry_uuid for obj in submission.objects()]


def contents_of(submission: Submission) -> AdhocQueryRequest:
    """The query for all of it."""
    unique_id = submission.submission_sets[0].unique_id or ""
    return get_submission_set_and_contents(unique_id=unique_id)


def still_there(bench: Bench, submission: Submission) -> Found:
    """What the registry has of it, beside all of it."""
    return bench.found(contents_of(submission), *ids_of(submission))


@CASES.case(
    "M07-whole",
    "A whole submission goes; its ids and uniqueIds can be used again",
    "Tout un lot disparaît ; ses identifiants et uniqueId resservent",
    spec=SPEC,
    expected=[Exactly("everything submitted"), Success(), Exactly("nothing"), Success()],
)
def _remove_whole(bench: Bench) -> Iterator[Seen]:
    submission = whole(bench)
    yield still_there(bench, submission)
    yield remove(bench, *ids_of(submission))
    yield bench.found(contents_of(submission))
    yield bench.register(submission)


Choose = Callable[[Submission], tuple[list[str], str]]
"""What of a submission to remove, and what the error must name."""


def _unknown(submission: Submission) -> tuple[list[str], str]:
    unknown = new_uuid_urn()
    return [*ids_of(submission), unknown], unknown


def _document(submission: Submission) -> tuple[list[str], str]:
    document = submission.documents[0].entry_uuid
    return [document], document


def _set(submission: Submission) -> tuple[list[str], str]:
    name = submission.submission_sets[0].entry_uuid
    return [name], name


def _all_but_document(submission: Submission) -> tuple[list[str], str]:
    document = submission.documents[0].entry_uuid
    return [one for one in ids_of(submission) if one != document], document


def _membership_of_membership(submission: Submission) -> tuple[list[str], str]:
    links = {link.entry_uuid: link for link in submission.associations}
    [outer] = [link for link in links.values() if link.target in links]
    return [outer.entry_uuid], outer.target


REFUSED: tuple[tuple[str, str, str, Choose, Refusal], ...] = (
    (
        "unknown",
        "A whole submission and an unknown object",
        "Tout un lot et un objet inconnu",
        _unknown,
        failure(UNRESOLVED, about="the object"),
    ),
    (
        "referenced",
        "A document that associations still name",
        "Un document que des associations nomment encore",
        _document,
        failure(REFERENCED, about="the object"),
    ),
    (
        "set",
        "A SubmissionSet whose members stay",
        "Un lot de soumission dont les membres restent",
        _set,
        failure(REFERENCED, about="the object"),
    ),
    (
        "orphan",
        "All but the document, which no submission would hold",
        "Tout sauf le document, que plus aucun lot ne contiendrait",
        _all_but_document,
        failure(UNREFERENCED, about="the object"),
    ),
    (
        "membership",
        "What makes a folder's membership part of a submission",
        "Ce qui rattache à un lot une appartenance à un classeur",
        _membership_of_membership,
        failure(UNREFERENCED, about="the object"),
    ),
)


def _refused(choose: Choose, bench: Bench) -> Iterator[Seen]:
    submission = whole(bench)
    names, named = choose(submission)
    yield remove(bench, *names).naming(named)
    yield still_there(bench, submission)


for _variant, _en, _fr, _choose, _refusal in REFUSED:
    CASES.add(
        f"M07-{_variant}",
        f"{_en}: refused, and all is still there",
        f"{_fr} : refus, et tout est encore là",
        spec=SPEC,
        expected=[_refusal, Exactly("everything submitted")],
        stimulus=partial(_refused, _choose),
    )


@CASES.case(
    "M07-reference",
    "A document that another patient's submission holds by reference",
    "Un document que le lot d'un autre patient contient par référence",
    spec=SPEC,
    expected=[failure(REFERENCED, about="the object"), Success()],
)
def _referenced_elsewhere(bench: Bench) -> Iterator[Seen]:
    submission = whole(bench)
    document = submission.documents[0].entry_uuid
    [other] = bench.patients(2)[1:]
    reference = bench.submission(other, bench.entry(other), references=[document])
    bench.registered(reference)
    yield remove(bench, *ids_of(submission)).naming(document)
    yield remove(bench, *ids_of(submission), *ids_of(reference))


@CASES.case(
    "M07-versions",
    "A first version that another follows, then both",
    "Une première version qu'une autre suit, puis les deux",
    spec=SPEC,
    expected=[failure(REFERENCED), Success()],
)
def _versions(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    first = bench.registered(bench.submission(patient, bench.entry(patient)))
    change = Change(bench, patient)
    change.version(first.documents[0])
    updated(bench, change)
    yield remove(bench, *ids_of(first))
    yield remove(bench, *ids_of(first), *ids_of(change.submission))


DELETION_SCOPE = "urn:oasis:names:tc:ebxml-regrep:DeletionScopeType:DeleteRepositoryItemOnly"
CHOSEN_OTHERWISE = {
    "query": (
        f'<rim:AdhocQuery xmlns:rim="{RIM}" id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"/>',
        "",
    ),
    "scope": ("", f' deletionScope="{DELETION_SCOPE}"'),
}


def _chosen_otherwise(how: str, bench: Bench) -> Iterator[Seen]:
    submission = whole(bench)
    inside, attribute = CHOSEN_OTHERWISE[how]
    references = "".join(f'<rim:ObjectRef id="{one}"/>' for one in ids_of(submission))
    body = (
        f'<lcm:RemoveObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"{attribute}>{inside}'
        f"<rim:ObjectRefList>{references}</rim:ObjectRefList></lcm:RemoveObjectsRequest>"
    )
    url = bench.targets.endpoint("registry")
    pieces = envelope.write_request(
        [body.encode()],
        action=ITI_62.action,
        message_id=new_message_id(),
        to=url,
        token=bench.wire.token(),
    )
    yield bench.wire.send(url, simple(pieces, ITI_62.action), ITI_62)
    yield still_there(bench, submission)


for _variant, _en, _fr in (
    ("query", "Objects chosen by an AdhocQuery", "Des objets choisis par une AdhocQuery"),
    ("scope", "A request with a deletionScope", "Une requête avec un deletionScope"),
):
    CASES.add(
        f"M07-{_variant}",
        f"{_en}: refused, and all is still there",
        f"{_fr} : refus, et tout est encore là",
        spec="Remove Metadata and Documents 3.62.4.1.2",
        expected=[
            any_of(failure("XDSRegistryError", "XDSRegistryMetadataError"), fault("Sender")),
            Exactly("everything submitted"),
        ],
        stimulus=partial(_chosen_otherwise, _variant),
    )
