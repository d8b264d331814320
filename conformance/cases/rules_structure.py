"""Document Registry: every rule about how a message is put together, each broken once (C)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases.registry_links import linked, replacement
from conformance.material import has_member, related
from conformance.rules import RuleCases
from conformance.seen import Answer
from metadata import catalogue as rules
from metadata.catalogue import Rule
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import APND, HAS_MEMBER, RPLC, XFRM
from metadata.model import Association, Submission
from transactions.registry_response import RegistryResponse

CASES = RuleCases(Actor.REGISTRY_SUBMIT, "ITI-42", "registry patients")

Make = Callable[[Bench, CX], tuple[Submission, str]]
"""Makes a wrong registration of a patient, and says what the error must name."""


def _two_sets(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient, bench.entry(patient))
    other = bench.submission(patient, bench.entry(patient))
    submission.submission_sets += other.submission_sets
    return submission, other.submission_sets[0].entry_uuid


def _empty(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient)
    return submission, submission.submission_sets[0].entry_uuid


def _not_in_set(bench: Bench, patient: CX) -> tuple[Submission, str]:
    first, second = bench.entry(patient), bench.entry(patient)
    submission = bench.submission(patient, first, second)
    submission.associations.pop()
    return submission, second.entry_uuid


def _no_status(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient, bench.entry(patient))
    submission.associations[0].submission_set_status = None
    return submission, submission.associations[0].entry_uuid


def joining(
    kind: str, source: str, target: str, bench: Bench, patient: CX
) -> tuple[Submission, str]:
    """An association; ``document`` and ``folder`` stand for those of the message."""
    entry, folder = bench.entry(patient), bench.folder(patient)
    submission = bench.submission(patient, entry, folders=[folder])
    names = {"document": entry.entry_uuid, "folder": folder.entry_uuid}
    link = Association(
        entry_uuid=new_uuid_urn(),
        association_type=kind,
        source=names.get(source, source),
        target=names.get(target, target),
    )
    submission.associations.append(link)
    return submission, link.entry_uuid


def _documented(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient, bench.entry(patient))
    link = submission.associations[0]
    link.documentation = bench.targets.codes("documentation")[0]
    return submission, link.entry_uuid


def _old_source(bench: Bench, patient: CX) -> tuple[Submission, str]:
    old, new = bench.registered_entry(patient), bench.entry(patient)
    link = related(APND, old, new)
    return bench.submission(patient, new, associations=[link]), old.entry_uuid


def _new_target(bench: Bench, patient: CX) -> tuple[Submission, str]:
    old, new = bench.entry(patient), bench.entry(patient)
    link = related(RPLC, new, old)
    return bench.submission(patient, old, new, associations=[link]), old.entry_uuid


def _lonely_membership(bench: Bench, patient: CX) -> tuple[Submission, str]:
    entry, folder = bench.entry(patient), bench.folder(patient)
    link = has_member(folder.entry_uuid, entry.entry_uuid)
    submission = bench.submission(patient, entry, folders=[folder], associations=[link])
    submission.associations.pop()
    return submission, link.entry_uuid


def _to_transformation(bench: Bench, patient: CX) -> tuple[Submission, str]:
    transformation = linked(bench, XFRM, patient, bench.registered_entry(patient))
    submission, _ = replacement(bench, patient, transformation, APND)
    return submission, transformation.entry_uuid


def _same_unique_id(bench: Bench, patient: CX) -> tuple[Submission, str]:
    first, second = bench.entry(patient), bench.entry(patient)
    second.unique_id = first.unique_id
    return bench.submission(patient, first, second), first.unique_id or ""


def _same_id(bench: Bench, patient: CX) -> tuple[Submission, str]:
    first, second = bench.entry(patient), bench.entry(patient)
    second.entry_uuid = first.entry_uuid
    return bench.submission(patient, first, second), first.entry_uuid


STRUCTURE: tuple[tuple[Rule, str, str, Make], ...] = (
    (rules.ID_REPEATED, "Two documents with one id", "Deux documents au même id", _same_id),
    (rules.SUBMISSION_SET_COUNT, "Two SubmissionSets", "Deux lots de soumission", _two_sets),
    (
        rules.SUBMISSION_EMPTY,
        "A SubmissionSet of nothing",
        "Un lot de soumission vide",
        _empty,
    ),
    (
        rules.NOT_IN_SUBMISSION_SET,
        "A document that no HasMember holds",
        "Un document qu'aucun HasMember ne contient",
        _not_in_set,
    ),
    (
        rules.SUBMISSION_SET_STATUS,
        "A HasMember without SubmissionSetStatus",
        "Un HasMember sans SubmissionSetStatus",
        _no_status,
    ),
    (
        rules.ASSOCIATION_TYPE,
        "An association of an unknown type",
        "Une association de type inconnu",
        partial(joining, "urn:kit:association", "document", "folder"),
    ),
    (
        rules.ASSOCIATION_TO_ITSELF,
        "A document appended to itself",
        "Un document ajouté à lui-même",
        partial(joining, APND, "document", "document"),
    ),
    (
        rules.ASSOCIATION_ENDS,
        "A document with a folder as its member",
        "Un document dont un classeur est membre",
        partial(joining, HAS_MEMBER, "document", "folder"),
    ),
    (
        rules.DOCUMENTATION_NOT_ALLOWED,
        "A HasMember with a documentation code",
        "Un HasMember doté d'un code de documentation",
        _documented,
    ),
    (
        rules.UNRESOLVED_SYMBOL,
        "An association to a symbolic id that nothing has",
        "Une association vers un identifiant symbolique inconnu",
        partial(joining, APND, "document", "Nothing01"),
    ),
    (
        rules.RELATIONSHIP_SOURCE,
        "A registered document appended to a new one",
        "Un document enregistré ajouté à un nouveau",
        _old_source,
    ),
    (
        rules.RELATIONSHIP_TARGET_NEW,
        "A replacement of a document of the same message",
        "Le remplacement d'un document du même message",
        _new_target,
    ),
    (
        rules.MEMBERSHIP_NOT_IN_SUBMISSION_SET,
        "A folder's membership that is no member of the submission",
        "Une appartenance à un classeur hors du lot de soumission",
        _lonely_membership,
    ),
    (
        rules.APPEND_TO_TRANSFORMATION,
        "An addendum to a transformation",
        "Un addendum à une transformation",
        _to_transformation,
    ),
    (
        rules.UNIQUE_ID_REPEATED,
        "Two documents with one uniqueId",
        "Deux documents au même uniqueId",
        _same_unique_id,
    ),
)
"""Rules that the message alone breaks, or nearly."""


def wrong(make: Make, bench: Bench) -> Answer[RegistryResponse]:
    """ITI-42 of what ``make`` makes."""
    submission, named = make(bench, bench.patient())
    return bench.register(submission).naming(named)


for _rule, _en, _fr, _make in STRUCTURE:
    CASES.breaking(_rule, _en, _fr, partial(wrong, _make))
