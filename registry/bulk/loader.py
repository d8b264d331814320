"""The one process that judges prepared submissions by the registry's state and writes them.

A submission goes one of two ways. The short one: nothing it names is known (no entryUUID, no
uniqueId) and its patient is known and active, so no rule of ITI TF-2 3.42.4.1.3 that looks at
the registry can be broken; its rows are gathered and inserted with those of many others. The
long one, for everything else: the code of ITI-42 judges and writes it, in its turn. So the order
of the sources is kept, and a replacement finds what was loaded a line before.

A batch is one transaction: when it fails, nothing of it is stored. What is registered already,
with the same SubmissionSet, is counted and left alone: a load that broke off is begun again
with the same sources.

Others may register meanwhile, on PostgreSQL. The short way only inserts, and under the same guards
as ITI-42: the patients are locked, shared, until the commit; a rival's uniqueId or entryUUID is a
key, so that of two who insert it one is undone and tries again, this time seeing the other's.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text

from metadata import ebrim
from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import Fault, RegistryError
from metadata.datatypes import DTM
from metadata.identifiers import SUCCESS
from metadata.model import Submission, changed
from registry import schema
from registry.bulk.preparation import Prepared, Source, Unreadable, prepare_all, read
from registry.lookup import Located, locate, rows_at
from registry.registration import Registration, prepare
from registry.rules import judge
from registry.submit import TABLES, has_errors, judge_alone, write_submission
from registry.surroundings import identities_of, look_around, survivors_of
from registry.work import Refused, write
from storage.database import Database
from storage.faultpoints import reach
from storage.operators import among
from storage.statement import Statement, insert_many
from transactions.registry_response import RegistryResponse

# Submissions in one transaction: its sync and its look-ups cost little beside the rows, a merge of
# one of its patients waits for it about a second, and its texts and rows weigh some 30 MB.
BATCH = 1000

# So many rows at once change what PostgreSQL's planner should know, and it would find out only
# in a minute. SQLite plans without statistics.
_ANALYZE = text(f"ANALYZE {', '.join(table.name for table in (schema.patient, *TABLES))}")

_SETS = Statement(
    select(schema.submission_set.c.entry_uuid, schema.submission_set.c.ebrim).where(
        among(schema.submission_set.c.patient, "patients"),
        among(schema.submission_set.c.entry_uuid, "ids"),
    )
)
_IDENTITIES = Statement(
    select(schema.identity.c.unique_id, schema.identity.c.entry_uuid).where(
        among(schema.identity.c.unique_id, "ids")
    )
)


class Told(NamedTuple):
    """What ITI-42 would have answered to a source, where that is more than plain Success."""

    name: str
    refused: bool
    errors: tuple[RegistryError, ...]


@dataclass(slots=True)
class Loaded:
    """What became of the sources of one batch, once that is durable.

    ``present`` were registered before; ``entries`` are the DocumentEntries of the
    ``registered``; ``told`` holds the refused, and what was registered with a warning.
    """

    registered: int = 0
    entries: int = 0
    present: int = 0
    refused: int = 0
    told: list[Told] = field(default_factory=list)

    def add(self, other: Loaded) -> None:
        """Count what another batch did as well."""
        self.registered += other.registered
        self.entries += other.entries
        self.present += other.present
        self.refused += other.refused
        self.told += other.told

    def take(self, name: str, answer: RegistryResponse, entries: int) -> None:
        """Count a source by its answer."""
        refused = answer.status != SUCCESS
        self.refused += refused
        self.registered += not refused
        self.entries += 0 if refused else entries
        if answer.errors:
            self.told.append(Told(name, refused, answer.errors))


class Loader:
    """Loads submissions into the registry of ``database``; ``pool`` prepares them."""

    def __init__(
        self,
        database: Database,
        domain: AffinityDomain,
        pool: Executor,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._domain = domain
        self._pool = pool
        self._clock = clock

    def load(self, sources: Iterable[Source], batch: int = BATCH) -> Iterator[Loaded]:
        """Load ``sources`` in their order, ``batch`` in a transaction; one report for each.

        Raises what ``registry.work.write`` raises: what was reported before is durable, of the
        batch at hand nothing is stored, unless the outcome of its commit is unknown.
        """
        for some, prepared in self._prepared(iter(sources), batch):
            yield write(self._database, partial(self._load, some, prepared))
        if self._database.backend == "postgresql":
            self._database.write(lambda connection: connection.execute(_ANALYZE).close())

    def _load(
        self,
        sources: Sequence[Source],
        prepared: Sequence[Prepared | None],
        connection: Connection,
    ) -> Loaded:
        return _Batch(connection, self._domain, self._now()).load(sources, prepared)

    def _now(self) -> DTM:
        return DTM.of(self._clock())

    def _prepared(
        self, sources: Iterator[Source], batch: int
    ) -> Iterator[tuple[list[Source], list[Prepared | None]]]:
        """Batches in their order, the next ones being prepared while one is written."""
        ahead = (os.cpu_count() or 1) + 1
        begun: deque[tuple[list[Source], Future[list[Prepared | None]]]] = deque()
        while some := list(islice(sources, batch)):
            begun.append((some, self._pool.submit(prepare_all, some, self._domain, self._now())))
            if len(begun) > ahead:
                yield _finished(begun)
        while begun:
            yield _finished(begun)


def _finished(
    begun: deque[tuple[list[Source], Future[list[Prepared | None]]]],
) -> tuple[list[Source], list[Prepared | None]]:
    some, future = begun.popleft()
    return some, future.result()


class _Batch:
    """One transaction."""

    def __init__(self, connection: Connection, domain: AffinityDomain, now: DTM) -> None:
        self._connection = connection
        self._domain = domain
        self._now = now
        self._loaded = Loaded()
        self._gathered: dict[str, list[tuple[Any, ...]]] = {table.name: [] for table in TABLES}
        self._known: set[str] = set()  # entryUUIDs and uniqueIds registered before or gathered

    def load(self, sources: Sequence[Source], prepared: Sequence[Prepared | None]) -> Loaded:
        """Judge and write ``sources``, as ``prepared``."""
        self._look_around([one for one in prepared if one is not None])
        for source, one in zip(sources, prepared, strict=True):
            self._load(source, one)
        self._write()
        reach("bulk.before_commit")
        return self._loaded

    def _look_around(self, ready: Sequence[Prepared]) -> None:
        """What the registry holds of all that is prepared: one statement for each kind."""
        self._survivors = survivors_of(self._connection, {o.patient for o in ready}, lock=True)
        self._known |= locate(self._connection, [i for o in ready for i in o.entry_uuids]).keys()
        ids = [unique_id for one in ready for unique_id in one.unique_ids]
        self._known |= identities_of(self._connection, ids, lock=True).keys()
        sets = [(one.submission_set[0], one.patient) for one in ready]
        places = [
            Located(entry_uuid, schema.SUBMISSION_SET, patient, patient)
            for entry_uuid, patient in sets
            if entry_uuid in self._known
        ]
        self._sets = dict(rows_at(self._connection, _SETS, places))

    def _load(self, source: Source, one: Prepared | None) -> None:
        if one is not None and self._is_new(one):
            self._gather(source, one)
        elif one is not None and self._is_stored(one):
            self._loaded.present += 1
        else:
            self._write()
            self._register(source)

    def _is_new(self, one: Prepared) -> bool:
        """Whether nothing of it is known but its patient, who is active."""
        active = self._survivors.get(one.patient) == one.patient
        return active and self._known.isdisjoint((*one.entry_uuids, *one.unique_ids))

    def _is_stored(self, one: Prepared) -> bool:
        """Whether it was loaded before: told without reading it again, if its ids are UUIDs."""
        entry_uuid, rendered = one.submission_set
        return self._sets.get(entry_uuid) == rendered and self._known.issuperset(one.unique_ids)

    def _gather(self, source: Source, one: Prepared) -> None:
        for name, rows in one.tables.items():
            self._gathered[name] += rows
        self._known.update(one.entry_uuids, one.unique_ids)
        self._loaded.take(source.name, RegistryResponse.of(one.warnings), one.entries)

    def _write(self) -> None:
        """Insert what was gathered in the order of keys, which stand first: neighbours share a
        page, and rivals wait for each other in one order.
        """
        for table in TABLES:
            rows = self._gathered[table.name]
            rows.sort()
            insert_many(self._connection, table, rows)
            rows.clear()

    def _register(self, source: Source) -> None:
        """The way of ITI-42, in a savepoint, unless it went that way before."""
        try:
            submission, faults = judge_alone(read(source.text), self._domain)
        except Unreadable as unreadable:
            self._loaded.take(source.name, unreadable.answer, 0)
            return
        if has_errors(faults):
            faults += judge(submission, look_around(self._connection, submission, lock=False))
        else:
            registration = prepare(submission)
            if self._is_present(registration):
                self._loaded.present += 1
                return
            faults += self._write_alone(submission, registration)
        answer = RegistryResponse.of(fault.error("ITI-42") for fault in faults)
        self._loaded.take(source.name, answer, len(submission.documents))

    def _is_present(self, one: Registration) -> bool:
        """Whether every uniqueId is registered, and the SubmissionSet as it would be now."""
        unique_ids = {obj.unique_id for obj in one.described()}
        found = dict(_IDENTITIES.rows(self._connection, {"ids": sorted(map(str, unique_ids))}))
        if len(found) < len(unique_ids):
            return False
        entry_uuid = found[one.submission_set.unique_id]
        place = Located(entry_uuid, schema.SUBMISSION_SET, one.patient, one.patient)
        renamed = changed(one.submission_set, entry_uuid=entry_uuid, logical_id=entry_uuid)
        stored = rows_at(self._connection, _SETS, [place])
        return stored == [(entry_uuid, ebrim.write_object(renamed))]

    def _write_alone(self, submission: Submission, registration: Registration) -> list[Fault]:
        """The faults for which ITI-42 refuses what is written now if there are none."""
        self._known |= {obj.entry_uuid for obj in registration.objects()}
        self._known |= {obj.unique_id for obj in registration.described() if obj.unique_id}
        try:
            with self._connection.begin_nested():
                write_submission(self._connection, submission, registration, self._now)
        except Refused as refused:
            return refused.faults
        return []
