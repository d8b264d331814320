"""ITI-18 FindDocuments: ten LeafClass hits from a large registry, eight clients.

The reference is the bare path on the same server: parse the body with lxml, run the same
SQL on the driver, join the stored bytes. A second, smaller registry shows the growth.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import Row, interleaved, per_second
from benchmarks.load import Figures, address_of, drive
from benchmarks.material import query
from benchmarks.place import Place, fresh
from benchmarks.population import HITS, populate
from metadata.identifiers import SUCCESS
from node.migrate import open_database
from node.wiring.common import client_tls, own_assertions
from transactions.stored_query import find_documents

CLIENTS = 8

_HIT = b"<rim:ExtrinsicObject "
_SUCCESS = SUCCESS.encode()


@dataclass(frozen=True, slots=True)
class Scale:
    """Entries of the large and the small registry, queries of one run."""

    entries: int = 100_000
    fewer: int = 10_000
    queries: int = 6_000
    rounds: int = 3


QUICK = Scale(entries=400, fewer=200, queries=100, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """Rate beside the bare path, the slowest of a hundred, growth with the registry."""
    with ExitStack() as stack:
        large, small = (
            Queried(stack, stack.enter_context(fresh("query")), entries, scale.queries)
            for entries in (scale.entries, scale.fewer)
        )
        ours, bare, fewer = interleaved(scale.rounds, large.ask, large.ask_bare, small.ask)
    work = f"ITI-18 FindDocuments, {HITS} hits of {scale.entries:,}"
    yield per_second(work, [one.rate for one in ours], [one.rate for one in bare], 0.5)
    p50, p99 = median(one.p50 for one in ours), median(one.p99 for one in ours)
    yield Row(f"{work}: p99", f"{p99:.1f} ms", f"p50 {p50:.1f} ms", p99, 20, True, " ms")
    before = median(one.p50 for one in fewer)
    growth = f"{work}: growth from {scale.fewer:,}"
    yield Row(growth, f"p50 {p50:.2f} ms", f"p50 {before:.2f} ms", p50 / before, 1.2, True)


class Queried:
    """A node with a populated registry, and questions for it."""

    def __init__(self, stack: ExitStack, place: Place, entries: int, count: int) -> None:
        with open_database(place.settings.registry, "registry") as database:
            patients = populate(database, place.config, entries)
        server = stack.enter_context(place.serve("web"))
        draw = random.Random(entries)
        asked = [
            find_documents(place.material.patient(draw.choice(patients))) for _ in range(count)
        ]
        self._address = address_of(server.url(""))
        self._tls = client_tls(place.settings)
        token = own_assertions(place.settings, "benchmark")()
        self._requests = [query(server.url("/registry"), one, token) for one in asked]
        self._bare = [query(server.url("/bare/query"), one) for one in asked]

    def ask(self) -> Figures:
        """Ask the registry."""
        return drive(self._address, self._requests, CLIENTS, _is_right, tls=self._tls)

    def ask_bare(self) -> Figures:
        """Ask the bare path."""
        return drive(self._address, self._bare, CLIENTS, _has_the_hits)


def _has_the_hits(answer: bytes) -> bool:
    return answer.count(_HIT) == HITS


def _is_right(answer: bytes) -> bool:
    return _SUCCESS in answer and _has_the_hits(answer)
