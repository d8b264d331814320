"""ITI-57 and ITI-92: the operations of a message are judged and done as a whole, or not at all.

Covers Metadata Update 3.57.4.1.3 and Restricted Metadata Update 3.92.4.1.3. As in a registration
every fault is answered at once, and what is free of faults is written in one transaction in which
the state it was judged by holds still. Of two updates that follow one version, one wins: the rows
are locked, and a version's number is a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, update

from metadata import ebrim
from metadata.affinity_domain import DomainInForce
from metadata.catalogue import Fault
from metadata.datatypes import DTM
from metadata.model import DocumentEntry, Folder
from metadata.validation import validate_submission
from registry import schema
from registry.effects import deprecate, inherit_folders
from registry.lookup import RENEW_CONTENT
from registry.registration import Registration, without_extra_metadata
from registry.rows import STATUSES, content_hash, content_size
from registry.schema import association, document_entry, folder, revision
from registry.submit import connect, insert_links, insert_objects, name_of, tell
from registry.update.operations import Operations, decode
from registry.update.plan import Change, Plan, make_plan, patient_faults
from registry.update.rules import judge, version_conflicts
from registry.update.state import State, look_around
from registry.work import Refused, answer, write
from storage.database import Database
from storage.faultpoints import reach
from storage.statement import Statement
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse

_ITI_57, _ITI_92 = "ITI-57", "ITI-92"

_CHANGE = {
    kind: Statement(
        update(table)
        .where(table.c.patient == bindparam("of_patient"), table.c.entry_uuid == bindparam("id"))
        .values({name: bindparam(f"new_{name}") for name in columns})
    )
    for kind, table, columns in (
        (schema.DOCUMENT, document_entry, ("status", "level", "ebrim")),
        (schema.FOLDER, folder, ("status", "level", "ebrim")),
        (schema.ASSOCIATION, association, ("status", "ebrim")),
    )
}
_INSERT_REVISIONS = Statement(insert(revision))


class Updater:
    """Updates metadata. Safe for use by many threads."""

    def __init__(
        self, database: Database, domain: DomainInForce, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._domain = domain
        self._clock = clock

    def update(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Update Document Set; durable, and visible to queries, when this returns Success.

        Failure and RegistryUnavailable mean what they mean in a registration.
        """
        return self._answer(_ITI_57, request)

    def restricted_update(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Restricted Update Document Set: see ``update``."""
        return self._answer(_ITI_92, request)

    def _answer(self, transaction: str, request: SubmitObjectsRequest) -> RegistryResponse:
        name = name_of(request.submission)
        return answer(transaction, name, lambda: self._update(transaction, request))

    def _update(self, transaction: str, request: SubmitObjectsRequest) -> list[Fault]:
        """The faults and warnings of a message, which is done if none is an error."""
        restricted = transaction == _ITI_92
        domain, submission = self._domain.current, request.submission
        faults = validate_submission(submission, domain, transaction)
        if domain.extra_metadata == "warn":
            submission, warnings = without_extra_metadata(submission)
            faults += warnings
        asked, undecodable = decode(submission, restricted)
        faults += undecodable
        if any(not fault.rule.is_warning for fault in faults):
            with self._database.read() as connection:
                return faults + _judge(connection, asked, restricted)

        def work(connection: Connection) -> None:
            _write(connection, asked, restricted, DTM.of(self._clock()))

        try:
            write(self._database, work)
        except Refused as refused:
            return faults + refused.faults
        return faults


def _judge(connection: Connection, asked: Operations, restricted: bool) -> list[Fault]:
    """What the registry's state says of a message that is refused already."""
    if not asked.submission.submission_sets:
        return []
    return judge(asked, look_around(connection, asked, lock=False), restricted)


def _write(connection: Connection, asked: Operations, restricted: bool, now: DTM) -> None:
    """Judge and write within one transaction; raises Refused with the faults."""
    state = look_around(connection, asked, lock=True)
    if faults := judge(asked, state, restricted):
        raise Refused(faults)
    plan = make_plan(asked, state)
    if faults := [*patient_faults(plan, state)]:
        raise Refused(faults)
    if faults := [*version_conflicts(asked, state)]:
        raise Refused(faults)
    _change(connection, plan.changes.values())
    _renew_identities(connection, plan)
    registration = plan.registration
    insert_objects(connection, registration, state.identities, now)
    _INSERT_REVISIONS.run(connection, plan.revisions)
    links = registration.associations
    touched = connect(connection, registration.patient, links, state.located, now)
    touched += _replace(connection, plan, state, now)
    tell(connection, registration, _grown(touched, registration), now)
    reach("update.before_commit")


def _change(connection: Connection, changes: Iterable[Change]) -> None:
    """Give registered objects their new status, rendered anew."""
    for change in changes:
        held = change.held
        rendered = ebrim.write_object(replace(held.obj, availability_status=change.status))
        parameters = {
            "of_patient": held.place.patient,
            "id": held.place.entry_uuid,
            "new_status": STATUSES[change.status],
            "new_level": change.level,
            "new_ebrim": rendered,
        }
        _CHANGE[held.place.kind].run(connection, [parameters])


def _renew_identities(connection: Connection, plan: Plan) -> None:
    renewed = [
        {"id": new.unique_id, "new_hash": content_hash(new), "new_size": content_size(new)}
        for new, old in plan.followed
        if isinstance(new, DocumentEntry)
        and isinstance(old.obj, DocumentEntry)
        and (new.hash, new.size) != (old.obj.hash, old.obj.size)
    ]
    if renewed:
        RENEW_CONTENT.run(connection, renewed)


def _replace(connection: Connection, plan: Plan, state: State, now: DTM) -> list[Folder]:
    """The effects of a submitted RPLC or XFRM_RPLC: those of a registration.

    Last, so that new versions depend on what is replaced as those did that they follow. Returns
    the Folders that have grown.
    """
    if not plan.replaced:
        return []
    replaced = [state.located[target] for target in plan.replaced]
    deprecate(connection, replaced)
    added, folders = inherit_folders(connection, plan.registration, plan.replaced, replaced)
    insert_links(connection, plan.registration.patient, added)
    existing = {**state.located, **folders}
    return connect(connection, plan.registration.patient, added, existing, now)


def _grown(touched: Iterable[Folder], registration: Registration) -> list[Folder]:
    """Each Folder once; those of the message are told of with it."""
    new = {folder.entry_uuid for folder in registration.folders}
    return list({one.entry_uuid: one for one in touched if one.entry_uuid not in new}.values())
