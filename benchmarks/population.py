"""A registry full of entries, made by the registry's own functions without the wire.

Every submission is valid, judged by the rules of the domain, and stands in the tables as
ITI-42 would have put it there; only the look at the state before each is left out, for
nothing in it can clash. Most patients have a few documents, few have hundreds (a Pareto
distribution); those that are asked for have exactly ten.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from sqlalchemy import Connection, insert

from benchmarks.figures import WrongAnswer
from benchmarks.material import Material
from metadata.validation import validate_submission
from node.config_file import load
from node.wiring.common import affinity_domain
from registry import rows, schema
from registry.registration import Registration, prepare
from storage.database import Database

Tables = dict[str, list[rows.Row]]

HITS = 10

# A fifth of all entries belong to patients with exactly ten: 2,000 of them in 100,000.
_ASKED_SHARE = 0.2
# Pareto's alpha of 1.2 and a cut at 500: the median patient has one document, the mean four.
_ALPHA, _MOST = 1.2, 500
# Mean of the numbers of documents, for the share of those with ten to come out.
_MEAN = 4.2
# Submissions in one transaction: large enough that its sync costs nothing.
_BATCH = 1000

Counts = list[tuple[int, int]]
"""Numbers of patients, and how many documents each has."""


def populate(database: Database, config: Path, entries: int) -> list[int]:
    """Fill the empty registry of the node ``config`` with ``entries`` DocumentEntries.

    The numbers of the patients that have ten (``Material.patient``).
    """
    counts = list(enumerate(_documents_of_patients(entries), start=1))
    batches = list(_batches(counts))
    if len(batches) == 1:
        database.write(partial(_insert, new=_prepare(config, batches[0])))
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
            for prepared in workers.map(_prepare, repeat(config), batches):
                database.write(partial(_insert, new=prepared))
    return [number for number, count in counts if count == HITS]


def _batches(counts: Counts) -> Iterator[Counts]:
    batch: Counts = []
    documents = 0
    for number, count in counts:
        batch.append((number, count))
        documents += count
        if documents >= _BATCH:
            yield batch
            batch, documents = [], 0
    if batch:
        yield batch


def _documents_of_patients(entries: int) -> Iterator[int]:
    """How many documents each patient has, those with ten spread among the others."""
    draw = random.Random(entries)
    left = entries
    while left > 0:
        asked = draw.random() < _ASKED_SHARE * _MEAN / HITS
        count = HITS if asked else min(_MOST, int(draw.paretovariate(_ALPHA)))
        yield min(count, left)
        left -= count


def _prepare(config: Path, counts: Counts) -> Tables:
    """The rows of these patients and their documents."""
    settings = load(config)
    domain = affinity_domain(settings)
    material = Material(domain, settings.repository.unique_id, seed=counts[0][0])
    patients = {number: material.patient(number) for number, _ in counts}
    submissions = [material.submission(patients[number]) for number, n in counts for _ in range(n)]
    if any(validate_submission(submission, domain) for submission in submissions):
        raise WrongAnswer("the population is not valid")
    known = [{"id": patient, "survivor": patient} for patient in patients.values()]
    return {"patient": known, **tables(map(prepare, submissions))}


def _insert(connection: Connection, new: Tables) -> None:
    for table, new_rows in new.items():
        if new_rows:
            connection.execute(insert(schema.METADATA.tables[table]), new_rows)


def tables(batch: Iterable[Registration]) -> Tables:
    """The rows that registrations of new documents become, by table."""
    found: Tables = {}
    for one in batch:
        patient = one.patient
        for table, new_rows in (
            ("object", [rows.object_row(obj, patient) for obj in one.objects()]),
            ("identity", [rows.identity_row(obj, patient) for obj in one.described()]),
            ("submission_set", [one.submission_set_row]),
            ("document_entry", one.document_rows),
            ("association", one.association_rows),
            (
                "attribute_value",
                [row for obj in one.described() for row in rows.value_rows(obj, patient)],
            ),
        ):
            found.setdefault(table, []).extend(new_rows)
    return found
