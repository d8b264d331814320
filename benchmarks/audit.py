"""What the audit trail costs those who ask, and how fast a trail is proved.

ITI-18 with a durable record before each answer stands beside the same without a trail: same data,
same questions, by turns. A trail of many records is proved record by record.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from benchmarks import queries
from benchmarks.figures import Row, WrongAnswer, interleaved, per_second
from benchmarks.place import Place, fresh
from node.logs import hush
from node.wiring.audit import open_trail, trail_folder
from security.audit.chain import Verifier
from security.audit.trail import Record
from security.audit.verification import trails, verify

# An audit message of a query has about this length.
_MESSAGE_BYTES = 2_000
# Appended at once, while the trail is filled.
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Scale:
    """Entries of the registries and queries of one run; records of the trail that is proved."""

    entries: int = 10_000
    queries: int = 4_000
    records: int = 1_000_000
    rounds: int = 3


QUICK = Scale(entries=200, queries=60, records=2_000, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """The rate of queries with a trail beside that without; records proved a second."""
    with ExitStack() as stack:
        audited, plain = (
            queries.Queried(
                stack,
                stack.enter_context(fresh("audit", audit=audit)),
                scale.entries,
                scale.queries,
            )
            for audit in (True, False)
        )
        ours, bare = interleaved(scale.rounds, audited.ask, plain.ask)
    work = "ITI-18 with an audit trail, beside the same without"
    yield per_second(work, [one.rate for one in ours], [one.rate for one in bare], 0.55)
    with fresh("audit", audit=True) as place:
        _fill(place, scale.records)
        rate = median(_proved(place, scale.records) for _ in range(scale.rounds))
    yield Row(f"audit trail of {scale.records:,} proved", f"{rate:,.0f}/s", "records", rate, 50_000)


def _fill(place: Place, count: int) -> None:
    hush()  # its heads
    when, message = datetime.now(UTC), b"x" * _MESSAGE_BYTES
    batch = [Record(message, when, "ITI-18", "E", 0, ["4711"], ["somebody"])] * _BATCH
    with ExitStack() as stack:
        trail = open_trail(place.settings, stack, "web-0")
        for _ in range(count // _BATCH):
            trail.append(batch).result()


def _proved(place: Place, count: int) -> float:
    """Records proved a second; WrongAnswer when the trail is not whole."""
    folder = trail_folder(place.settings)
    [file] = trails(folder)
    started = time.perf_counter()
    proved = verify(file, place.settings.node.name, Verifier.of(folder))
    if proved.fault or proved.records != count:
        raise WrongAnswer(f"{proved.records} records proved, then {proved.fault}")
    return count / (time.perf_counter() - started)
