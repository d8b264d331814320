"""ITI-42, ITI-61: a submission is judged as a whole and registered as a whole, or not at all.

Covers ITI TF-2 3.42.4.1.3 and 3.61.4.1.3. First the message alone is judged
(``metadata.validation``), then the message against the registry's state (``registry.rules``);
every fault found by either is answered at once. What is free of faults is written, with its
effects, in one transaction in which the state it was judged by holds still.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter

from sqlalchemy import Connection, insert

from metadata.affinity_domain import DomainInForce
from metadata.catalogue import Fault
from metadata.datatypes import DTM
from metadata.identifiers import HAS_MEMBER
from metadata.model import Association, Folder, Submission
from metadata.validation import validate_submission
from registry import rows, schema
from registry.effects import deprecate, inherit_folders, replacements, touch_folders
from registry.lookup import ADD_REACH, Located
from registry.registration import Registration, prepare, updated_at, without_extra_metadata
from registry.rules import judge
from registry.statement import Statement
from registry.subscriptions.matching import Described, announce, source_of
from registry.surroundings import Surroundings, look_around
from registry.work import Refused, answer, write
from storage.database import Database
from storage.faultpoints import reach
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse

_INSERT_OBJECTS = Statement(insert(schema.object_))
_INSERT_IDENTITIES = Statement(insert(schema.identity))
_INSERT_NAMESAKES = Statement(insert(schema.namesake))
_INSERT_DOCUMENTS = Statement(insert(schema.document_entry))
_INSERT_SUBMISSION_SET = Statement(insert(schema.submission_set))
_INSERT_FOLDERS = Statement(insert(schema.folder))
_INSERT_ASSOCIATIONS = Statement(insert(schema.association))
_INSERT_VALUES = Statement(insert(schema.attribute_value))


class Registrar:
    """Registers submissions. Safe for use by many threads."""

    def __init__(
        self, database: Database, domain: DomainInForce, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._domain = domain
        self._clock = clock

    def register(
        self, request: SubmitObjectsRequest, transaction: str = "ITI-42"
    ) -> RegistryResponse:
        """Register one submission; durable, and visible to queries, when this returns Success.

        ``transaction`` is ITI-42 for Stable entries, ITI-61 for On-Demand ones.

        Failure means that nothing was stored, and lists every fault found, or that there was
        no room or no time for it. Raises RegistryUnavailable when the database failed and the
        outcome is unknown: the sender may repeat the same message.
        """
        submission = request.submission
        perform = partial(self._register, submission, transaction)
        return answer(transaction, name_of(submission), perform)

    def _register(self, submission: Submission, transaction: str) -> list[Fault]:
        """The faults and warnings of ``submission``, which is registered if none is an error."""
        domain = self._domain.current
        faults = validate_submission(submission, domain, transaction)
        if any(not fault.rule.is_warning for fault in faults):
            return faults + self._judge(submission)
        if domain.extra_metadata == "warn":
            submission, warnings = without_extra_metadata(submission)
            faults += warnings
        registration = prepare(submission)

        def work(connection: Connection) -> None:
            _write(connection, submission, registration, DTM.of(self._clock()))

        try:
            write(self._database, work)
        except Refused as refused:
            return faults + refused.faults
        return faults

    def _judge(self, submission: Submission) -> list[Fault]:
        with self._database.read() as connection:
            return judge(submission, look_around(connection, submission, lock=False))


def name_of(submission: Submission) -> str:
    """What to call the submission in an error."""
    packages = submission.submission_sets
    return packages[0].entry_uuid if packages else "the submission"


def _write(
    connection: Connection, submission: Submission, registration: Registration, now: DTM
) -> None:
    """Judge and write within one transaction; raises Refused with the faults."""
    around = look_around(connection, submission, lock=True)
    faults = judge(submission, around)
    if faults:
        raise Refused(faults)
    added, folders = _replace(connection, registration, around)
    insert_objects(connection, registration, around.identities, now)
    insert_links(connection, registration.patient, added)
    links = [*registration.associations, *added]
    existing = {**around.located, **folders}
    touched = connect(connection, registration.patient, links, existing, now)
    tell(connection, registration, touched, now)
    reach("registry.before_commit")


def _replace(
    connection: Connection, registration: Registration, around: Surroundings
) -> tuple[list[Association], dict[str, Located]]:
    """The effects of RPLC and XFRM_RPLC: see ``registry.effects``."""
    replaced_by = replacements(registration)
    if not replaced_by:
        return [], {}
    replaced = [around.located[target] for target in replaced_by]
    deprecate(connection, replaced)
    return inherit_folders(connection, registration, replaced_by, replaced)


def insert_objects(
    connection: Connection,
    registration: Registration,
    known: Container[str | None],
    now: DTM,
) -> None:
    """Add the submission's objects.

    ``known`` are the uniqueIds that stand for something already.
    """
    patient = registration.patient
    objects = [rows.object_row(obj, patient) for obj in registration.objects()]
    identities = [
        rows.identity_row(obj, patient)
        for obj in registration.described()
        if obj.unique_id not in known
    ]
    namesakes = [
        rows.namesake_row(obj, patient)
        for obj in registration.described()
        if obj.unique_id in known
    ]
    folders = [rows.folder_row(updated_at(folder, now), patient) for folder in registration.folders]
    values = [row for obj in registration.described() for row in rows.value_rows(obj, patient)]
    for statement, new_rows in (
        # In the order of their keys: of two rivals one waits, neither for the other.
        (_INSERT_IDENTITIES, sorted(identities, key=itemgetter("unique_id"))),
        (_INSERT_NAMESAKES, namesakes),
        (_INSERT_OBJECTS, objects),
        (_INSERT_SUBMISSION_SET, [registration.submission_set_row]),
        (_INSERT_DOCUMENTS, registration.document_rows),
        (_INSERT_FOLDERS, folders),
        (_INSERT_ASSOCIATIONS, registration.association_rows),
        (_INSERT_VALUES, values),
    ):
        if new_rows:
            statement.run(connection, new_rows)


def insert_links(connection: Connection, patient: str, links: Sequence[Association]) -> None:
    """Add the associations that follow from a submission for ``patient``."""
    if links:
        _INSERT_OBJECTS.run(connection, [rows.object_row(link, patient) for link in links])
        _INSERT_ASSOCIATIONS.run(
            connection, [rows.association_row(link, patient) for link in links]
        )


def connect(
    connection: Connection,
    patient: str,
    links: Sequence[Association],
    existing: Mapping[str, Located],
    now: DTM,
) -> list[Folder]:
    """Make registered objects aware of the new links to them, which are kept under ``patient``.

    Returns the Folders that have grown.
    """
    grown = {
        link.source: existing[link.source]
        for link in links
        if link.association_type == HAS_MEMBER and link.source in existing
    }
    touched = touch_folders(connection, grown.values(), now) if grown else []
    foreign = {
        end
        for link in links
        for end in (link.source, link.target)
        if end in existing and existing[end].patient != patient
    }
    if foreign:
        reached = [{"entry_uuid": end, "patient": patient} for end in sorted(foreign)]
        ADD_REACH.run(connection, reached)
    return touched


def tell(
    connection: Connection, registration: Registration, touched: list[Folder], now: DTM
) -> None:
    """Let those who have subscribed be told."""
    submission_set = registration.submission_set
    folders = [updated_at(folder, now) for folder in registration.folders] + touched
    objects: list[Described] = [submission_set, *registration.documents, *folders]
    announce(connection, registration.patient, objects, now, source_of(submission_set))
