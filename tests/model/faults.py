"""Messages made wrong on purpose, one way at a time: each must be refused without a trace.

A fault is a function of a draft and of the label of some registered object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metadata import identifiers as xds
from metadata.model import DocumentEntry, SubmissionSet
from tests.model.messages import Draft, content
from tests.model.world import World

NOWHERE = "nowhere"  # a symbolic id that nothing has
LOST = "lost"  # becomes a uuid that nothing has

Fault = Callable[[Draft, World, str], None]

REGISTRATIONS: dict[str, Fault] = {}
UPDATES: dict[str, Fault] = {}


def _in(*tables: dict[str, Fault]) -> Callable[[Fault], Fault]:
    def add(fault: Fault) -> Fault:
        for table in tables:
            table[fault.__name__.lstrip("_").replace("_", " ")] = fault
        return fault

    return add


# --- Of the message ------------------------------------------------------------------------------


@_in(REGISTRATIONS, UPDATES)
def _no_set(draft: Draft, world: World, other: str) -> None:
    draft.submission.submission_sets.clear()


@_in(REGISTRATIONS)
def _two_sets(draft: Draft, world: World, other: str) -> None:
    [first] = draft.submission.submission_sets
    second = replace(first, entry_uuid=draft.label("s"), unique_id=draft.unique_id())
    draft.submission.submission_sets.append(second)


@_in(REGISTRATIONS, UPDATES)
def _nothing_but_a_set(draft: Draft, world: World, other: str) -> None:
    draft.submission.documents.clear()
    draft.submission.folders.clear()
    draft.submission.associations.clear()


@_in(REGISTRATIONS, UPDATES)
def _set_with_a_registered_unique_id(draft: Draft, world: World, other: str) -> None:
    for obj in list(world.described())[-1:]:
        for one in draft.submission.submission_sets:
            one.unique_id = obj.unique_id


@_in(REGISTRATIONS, UPDATES)
def _set_with_a_registered_id(draft: Draft, world: World, other: str) -> None:
    _take_id(draft, draft.set, other)


@_in(REGISTRATIONS, UPDATES)
def _link_with_a_registered_id(draft: Draft, world: World, other: str) -> None:
    for link in draft.submission.associations[-1:]:
        link.entry_uuid = other


def _take_id(draft: Draft, label: str, other: str) -> None:
    """Let another label take the place of ``label`` in the whole message."""
    for obj in draft.submission.objects():
        if obj.entry_uuid == label:
            obj.entry_uuid = other
    for link in draft.submission.associations:
        link.source = other if link.source == label else link.source
        link.target = other if link.target == label else link.target


# --- Of a registration ----------------------------------------------------------------------------


@_in(REGISTRATIONS)
def _a_document_of_another_patient(draft: Draft, world: World, other: str) -> None:
    for patient in sorted(world.patients - {draft.patient}):
        draft.document(1).patient_id = patient


@_in(REGISTRATIONS)
def _a_folder_of_another_patient(draft: Draft, world: World, other: str) -> None:
    draft.folder().patient_id = max(world.patients - {draft.patient})


@_in(REGISTRATIONS)
def _a_document_outside_the_set(draft: Draft, world: World, other: str) -> None:
    draft.document(1)
    draft.submission.associations.pop()


@_in(REGISTRATIONS)
def _a_new_document_by_reference(draft: Draft, world: World, other: str) -> None:
    draft.document(1)
    draft.submission.associations[-1].submission_set_status = xds.REFERENCE


@_in(REGISTRATIONS)
def _a_registered_document_as_original(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.HAS_MEMBER, draft.set, other, submission_set_status=xds.ORIGINAL)


@_in(REGISTRATIONS)
def _a_member_without_status(draft: Draft, world: World, other: str) -> None:
    draft.document(1)
    draft.submission.associations[-1].submission_set_status = None


@_in(REGISTRATIONS)
def _one_unique_id_twice(draft: Draft, world: World, other: str) -> None:
    draft.document(1, unique_id=draft.document(1).unique_id)


@_in(REGISTRATIONS)
def _the_unique_id_of_another_set(draft: Draft, world: World, other: str) -> None:
    for obj in world.described():
        if isinstance(obj, SubmissionSet):
            draft.document(1).unique_id = obj.unique_id
            return


@_in(REGISTRATIONS)
def _a_folder_with_a_registered_unique_id(draft: Draft, world: World, other: str) -> None:
    folder = draft.folder()
    for obj in world.described():
        folder.unique_id = obj.unique_id


@_in(REGISTRATIONS)
def _a_document_with_a_registered_id(draft: Draft, world: World, other: str) -> None:
    _take_id(draft, draft.document(1).entry_uuid, other)


@_in(REGISTRATIONS)
def _a_later_version(draft: Draft, world: World, other: str) -> None:
    draft.document(1).logical_id = other


@_in(REGISTRATIONS)
def _a_document_without_class(draft: Draft, world: World, other: str) -> None:
    draft.document(1).class_code = None


@_in(REGISTRATIONS)
def _a_document_without_hash(draft: Draft, world: World, other: str) -> None:
    draft.document(1).hash = None


@_in(REGISTRATIONS)
def _a_folder_without_title(draft: Draft, world: World, other: str) -> None:
    draft.folder().title = None


@_in(REGISTRATIONS)
def _a_document_of_the_other_type(draft: Draft, world: World, other: str) -> None:
    stable = draft.object_type == xds.STABLE
    draft.document(1, object_type=xds.ON_DEMAND if stable else xds.STABLE)


@_in(REGISTRATIONS)
def _an_on_demand_document_with_content(draft: Draft, world: World, other: str) -> None:
    draft.document(1, object_type=xds.ON_DEMAND, **content(1))


@_in(REGISTRATIONS)
def _an_unknown_symbol(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.APND, draft.document(1).entry_uuid, NOWHERE)


@_in(REGISTRATIONS)
def _an_unknown_uuid(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.RPLC, draft.document(1).entry_uuid, LOST)


@_in(REGISTRATIONS)
def _an_unknown_folder(draft: Draft, world: World, other: str) -> None:
    draft.file(LOST, draft.document(1).entry_uuid)


@_in(REGISTRATIONS)
def _a_link_to_itself(draft: Draft, world: World, other: str) -> None:
    document = draft.document(1).entry_uuid
    draft.link(xds.APND, document, document)


@_in(REGISTRATIONS)
def _a_link_between_registered_documents(draft: Draft, world: World, other: str) -> None:
    labels = [obj.entry_uuid for obj in world.described() if isinstance(obj, DocumentEntry)]
    draft.link(xds.XFRM, other, (labels or [LOST])[-1])


@_in(REGISTRATIONS)
def _a_replacement_within_the_message(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.RPLC, draft.document(1).entry_uuid, draft.document(2).entry_uuid)


@_in(REGISTRATIONS)
def _an_addendum_to_a_new_transformation(draft: Draft, world: World, other: str) -> None:
    original, transformed, addendum = (draft.document(n).entry_uuid for n in (1, 2, 3))
    draft.link(xds.XFRM, transformed, original)
    draft.link(xds.APND, addendum, transformed)


@_in(REGISTRATIONS)
def _two_replacements_of_one_document(draft: Draft, world: World, other: str) -> None:
    for number in (1, 2):
        draft.link(xds.RPLC, draft.document(number).entry_uuid, other)


@_in(REGISTRATIONS)
def _a_member_of_another_set(draft: Draft, world: World, other: str) -> None:
    sets = [obj.entry_uuid for obj in world.described() if isinstance(obj, SubmissionSet)]
    document = draft.document(1).entry_uuid
    original = {"submission_set_status": xds.ORIGINAL}
    draft.link(xds.HAS_MEMBER, (sets or [LOST])[0], document, **original)


@_in(REGISTRATIONS)
def _a_folder_in_a_folder(draft: Draft, world: World, other: str) -> None:
    draft.file(draft.folder().entry_uuid, draft.folder().entry_uuid)


@_in(REGISTRATIONS)
def _a_membership_outside_the_set(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.HAS_MEMBER, draft.folder().entry_uuid, draft.document(1).entry_uuid)


@_in(REGISTRATIONS, UPDATES)
def _an_unknown_type_of_link(draft: Draft, world: World, other: str) -> None:
    draft.link("urn:example:Near", draft.set, other)


# --- Of an update ---------------------------------------------------------------------------------


def _versions(draft: Draft) -> list[DocumentEntry]:
    return [*draft.submission.documents, *draft.submission.folders]  # type: ignore[list-item]


@_in(UPDATES)
def _a_first_version(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        new.logical_id = None


@_in(UPDATES)
def _an_unknown_lid(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        new.logical_id = LOST


@_in(UPDATES)
def _the_lid_of_something_else(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        new.logical_id = other


@_in(UPDATES)
def _another_unique_id(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        new.unique_id = draft.unique_id()


@_in(UPDATES)
def _no_unique_id(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        new.unique_id = None


@_in(UPDATES)
def _a_version_of_another_patient(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        new.patient_id = max(world.patients - {draft.patient})


@_in(UPDATES)
def _a_stale_version(draft: Draft, world: World, other: str) -> None:
    for link in draft.submission.associations:
        if link.previous_version:
            link.previous_version = str(int(link.previous_version) + 1)


@_in(UPDATES)
def _no_previous_version(draft: Draft, world: World, other: str) -> None:
    for link in draft.submission.associations:
        link.previous_version = None


@_in(UPDATES)
def _a_version_held_twice(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft):
        draft.link(xds.HAS_MEMBER, draft.set, new.entry_uuid, previous_version="1")


@_in(UPDATES)
def _two_versions_of_one(draft: Draft, world: World, other: str) -> None:
    for new in _versions(draft)[:1]:
        draft.version(replace(new, version="1"))


@_in(UPDATES)
def _a_wrong_original_status(draft: Draft, world: World, other: str) -> None:
    turned = {xds.APPROVED: xds.DEPRECATED, xds.DEPRECATED: xds.APPROVED}
    for link in draft.submission.associations:
        if link.original_status:
            link.original_status = turned[link.original_status]


@_in(UPDATES)
def _no_new_status(draft: Draft, world: World, other: str) -> None:
    for link in draft.submission.associations:
        link.new_status = None


@_in(UPDATES)
def _a_status_twice(draft: Draft, world: World, other: str) -> None:
    for link in list(draft.submission.associations):
        if link.original_status:
            again = replace(link, entry_uuid=draft.label("a"))
            draft.submission.associations.append(again)


@_in(UPDATES)
def _a_link_that_nothing_submits(draft: Draft, world: World, other: str) -> None:
    links = draft.submission.associations
    links[:] = [one for one in links if one.association_type != xds.SUBMIT_ASSOCIATION]


@_in(UPDATES)
def _a_link_submitted_twice(draft: Draft, world: World, other: str) -> None:
    for link in list(draft.submission.associations):
        if link.association_type == xds.SUBMIT_ASSOCIATION:
            draft.link(xds.SUBMIT_ASSOCIATION, draft.set, link.target)


@_in(UPDATES)
def _a_registered_document_held(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.HAS_MEMBER, draft.set, other, submission_set_status=xds.REFERENCE)


@_in(UPDATES)
def _a_link_that_is_registered(draft: Draft, world: World, other: str) -> None:
    draft.link(xds.SUBMIT_ASSOCIATION, draft.set, other)
