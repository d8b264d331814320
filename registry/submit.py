"""ITI-42, ITI-61: a submission is judged as a whole and registered as a whole, or not at all.

Covers ITI TF-2 3.42.4.1.3 and 3.61.4.1.3. First the message alone is judged
(``metadata.validation``), then the message against the registry's state (``registry.rules``);
every fault found by either is answered at once. What is free of faults is written, with its
effects, in one transaction in which the state it was judged by holds still.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter

from sqlalchemy import Connection, insert

from metadata.affinity_domain import AffinityDomain, DomainInForce
from metadata.catalogue import Fault
from metadata.datatypes import DTM
from metadata.identifiers import HAS_MEMBER
from metadata.model import Association, Folder, Submission
from metadata.validation import validate_submission
from registry import rows, schema
from registry.effects import deprecate, inherit_folders, replacements, touch_folders
from registry.lookup import ADD_REACH, Located
from registry.registration import Registration, prepare, updated_at, without_extra_metadata
from registry.rows import Row
from registry.rules import judge
from registry.subscriptions.matching import Described, announce, source_of
from registry.surroundings import Surroundings, look_around
from registry.work import Refused, answer, write
from storage.database import Database
from storage.faultpoints import reach
from storage.statement import Statement, one_exchange
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse

# The tables of objects in the order in which they are written: of two rivals for an identity one
# waits, neither for the other.
TABLES = (
    schema.identity,
    schema.namesake,
    schema.object_,
    schema.submission_set,
    schema.document_entry,
    schema.folder,
    schema.association,
    schema.attribute_value,
)
_INSERT = {table.name: Statement(insert(table)) for table in TABLES}


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
        submission, faults = judge_alone(submission, self._domain.current, transaction)
        if has_errors(faults):
            return faults + self._judge(submission)
        registration = prepare(submission)

        def work(connection: Connection) -> None:
            now = DTM.of(self._clock())
            touched = write_submission(connection, submission, registration, now)
            tell(connection, registration, touched, now)
            reach("registry.before_commit")

        try:
            write(self._database, work)
        except Refused as refused:
            return faults + refused.faults
        reach("registry.committed")
        return faults

    def _judge(self, submission: Submission) -> list[Fault]:
        with self._database.read() as connection:
            return judge(submission, look_around(connection, submission, lock=False))


def judge_alone(
    submission: Submission, domain: AffinityDomain, transaction: str = "ITI-42"
) -> tuple[Submission, list[Fault]]:
    """The submission as it may be registered, and what is wrong with the message by itself."""
    faults = validate_submission(submission, domain, transaction)
    if domain.extra_metadata == "warn" and not has_errors(faults):
        submission, warnings = without_extra_metadata(submission)
        faults += warnings
    return submission, faults


def has_errors(faults: Iterable[Fault]) -> bool:
    """Whether there is more than warnings."""
    return any(not fault.rule.is_warning for fault in faults)


def name_of(submission: Submission) -> str:
    """What to call the submission in an error."""
    packages = submission.submission_sets
    return packages[0].entry_uuid if packages else "the submission"


def write_submission(
    connection: Connection, submission: Submission, registration: Registration, now: DTM
) -> list[Folder]:
    """Judge and write within one transaction; the Folders that have grown.

    Raises Refused with the faults.
    """
    around = look_around(connection, submission, lock=True)
    faults = judge(submission, around)
    if faults:
        raise Refused(faults)
    added, folders = _replace(connection, registration, around)
    insert_objects(connection, registration, around.identities, now)
    insert_links(connection, registration.patient, added)
    links = [*registration.associations, *added]
    existing = {**around.located, **folders}
    return connect(connection, registration.patient, links, existing, now)


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
    insert_rows(connection, new_rows(registration, known, now))


def insert_rows(connection: Connection, tables: Mapping[str, Sequence[Row]]) -> None:
    """Insert rows of tables of objects, by the name of the table."""
    with one_exchange(connection):
        for name, statement in _INSERT.items():
            if tables[name]:
                statement.run(connection, tables[name])


def new_rows(
    registration: Registration, known: Container[str | None], now: DTM
) -> dict[str, list[Row]]:
    """The rows that ``insert_objects`` adds, by the name of their table."""
    patient = registration.patient
    described = list(registration.described())
    named = [obj for obj in described if obj.unique_id not in known]
    again = [obj for obj in described if obj.unique_id in known]
    identities = [rows.identity_row(obj, patient) for obj in named]
    return {
        "identity": sorted(identities, key=itemgetter("unique_id")),
        "namesake": [rows.namesake_row(obj, patient) for obj in again],
        "object": [rows.object_row(obj, patient) for obj in registration.objects()],
        "submission_set": [registration.submission_set_row],
        "document_entry": registration.document_rows,
        "folder": [
            rows.folder_row(updated_at(folder, now), patient) for folder in registration.folders
        ],
        "association": registration.association_rows,
        "attribute_value": [row for obj in described for row in rows.value_rows(obj, patient)],
    }


def insert_links(connection: Connection, patient: str, links: Sequence[Association]) -> None:
    """Add the associations that follow from a submission for ``patient``."""
    if links:
        _INSERT["object"].run(connection, [rows.object_row(link, patient) for link in links])
        added = [rows.association_row(link, patient) for link in links]
        _INSERT["association"].run(connection, added)


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
