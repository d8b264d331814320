"""The work of a helper process: a submission as text becomes rows, if it stands for itself.

Reading, validation and rendering are those of ITI-42. What is valid and ties nothing that is
registered already is prepared for the short way; anything else is left to the long way, where
ITI-42's own code judges and writes it (``registry.bulk.loader``).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from operator import itemgetter
from typing import Any, NamedTuple

from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import RegistryError
from metadata.datatypes import DTM
from metadata.model import Submission
from registry.effects import replacements
from registry.registration import prepare
from registry.submit import TABLES, has_errors, judge_alone, new_rows
from soap.xml import XMLRefused, parse
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.registry_response import RegistryResponse
from transactions.transaction import InvalidBody

# Nothing made here refers to itself: the collector of cycles would look at some thousand objects
# for each submission, a seventh of the time, and find nothing.
_COLLECT_EVERY = 200_000


# glibc keeps at hand, of each size, what was freed last: 7 pieces as it comes, while the tree of a
# message is made of thousands. Kept so, they need not be merged and cut again for the next message,
# which is more than a tenth of the time; some 2 MB a process. Read when a process starts.
_ALLOCATION = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=4000"}


# From a row by names to its values in the order of the table's columns.
_IN_ORDER = {table.name: itemgetter(*table.columns.keys()) for table in TABLES}


class Source(NamedTuple):
    """An lcm:SubmitObjectsRequest as text, and what to call it in a report."""

    name: str
    text: bytes


class Unreadable(Exception):
    """The text is no SubmitObjectsRequest; ``answer`` is what ITI-42 would say."""

    def __init__(self, answer: RegistryResponse) -> None:
        super().__init__("no SubmitObjectsRequest")
        self.answer = answer


class Prepared(NamedTuple):
    """A valid submission, all of it new: its rows by table, and the warnings it earned.

    A row has the values of all columns in their order: many of them travel between processes, and
    names would be half of the way.
    """

    patient: str
    entry_uuids: list[str]
    unique_ids: list[str]
    submission_set: tuple[str, bytes]  # entryUUID, as rendered
    tables: dict[str, list[tuple[Any, ...]]]
    warnings: tuple[RegistryError, ...]

    @property
    def entries(self) -> int:
        """How many DocumentEntries it holds."""
        return len(self.tables["document_entry"])


@contextmanager
def helpers(count: int | None = None) -> Iterator[Executor]:
    """Processes that prepare submissions, as many as the machine has cores."""
    processes = count or os.cpu_count()
    for name, value in _ALLOCATION.items():
        os.environ.setdefault(name, value)  # what is said from outside stands
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin) as pool:
        yield pool


def _begin() -> None:
    gc.set_threshold(_COLLECT_EVERY)


def prepare_all(
    sources: Sequence[Source], domain: AffinityDomain, now: DTM
) -> list[Prepared | None]:
    """Each of ``sources`` prepared, None where it must go the long way."""
    return [_prepare(source.text, domain, now) for source in sources]


def read(text: bytes) -> Submission:
    """The submission in a lcm:SubmitObjectsRequest. Raises Unreadable."""
    try:
        return SubmitObjectsRequest(parse(text)).submission
    except (XMLRefused, InvalidBody) as error:
        raise Unreadable(ITI_42.refuse(str(error))) from None


def _prepare(text: bytes, domain: AffinityDomain, now: DTM) -> Prepared | None:
    try:
        submission, faults = judge_alone(read(text), domain)
    except Unreadable:
        return None
    if has_errors(faults) or _reaches_out(submission):
        return None
    registration = prepare(submission)
    if replacements(registration):
        return None
    tables = new_rows(registration, (), now)
    [package] = tables["submission_set"]
    return Prepared(
        patient=registration.patient,
        entry_uuids=[row["entry_uuid"] for row in tables["object"]],
        unique_ids=[row["unique_id"] for row in tables["identity"]],
        submission_set=(package["entry_uuid"], package["ebrim"]),
        tables={name: list(map(_IN_ORDER[name], rows)) for name, rows in tables.items()},
        warnings=tuple(fault.error("ITI-42") for fault in faults),
    )


def _reaches_out(submission: Submission) -> bool:
    """Whether an association has an end outside the submission."""
    own = {obj.entry_uuid for obj in submission.objects()}
    return any(not {link.source, link.target} <= own for link in submission.associations)
