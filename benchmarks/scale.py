"""A region's registry: a million entries and more, on both engines (``make bench SCALE=1m``).

One node with the large registry and one with ten thousand entries, both loaded in bulk
(``benchmarks.region``), are asked the same questions by turns: how an answer's time grows with
the registry is told by one client that asks nothing else meanwhile. Then a large answer,
registrations beside single-row commits, and twenty who submit beside twenty who ask.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

from benchmarks import region
from benchmarks.figures import MIB, Row, WrongAnswer, growth, interleaved, per_second
from benchmarks.load import Figures, Stream, address_of, alternate, drive, drive_together
from benchmarks.material import query, registration
from benchmarks.place import Place, Server, fresh
from benchmarks.postgresql import Cluster, cluster
from benchmarks.region import HITS, OBJECTS, Loading
from metadata.identifiers import SUCCESS
from node.migrate import open_database
from transactions.iti_18 import OBJECT_REF, AdhocQueryRequest
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    get_all,
    get_documents,
)

# Who submits and who asks at the same time.
SUBMITTERS = QUERIERS = 20
# Clients of the comparisons with the bare path and with single-row commits.
CLIENTS = 8

# On PostgreSQL a web process for each core, as a region runs them; an embedded database has one.
_CORES = os.cpu_count() or 1

# The least that a load should do, entries a second, and the longest wait for a large answer.
_LOAD_REACH, _FIRST_BYTE_REACH = 3_000, 1.0

_MANY_RESULTS = """
[limits]
query_results = 100000
"""

_SUCCESS = b'status="%s"' % SUCCESS.encode()
_BUSY = b"XDSRegistryBusy", b"HTTP/1.1 503 "
_DOCUMENT = b"<rim:ExtrinsicObject "
_OBJECTS = _DOCUMENT, b"<rim:RegistryPackage ", b"<rim:Association "
_REFERENCE = b"<rim:ObjectRef "


@dataclass(frozen=True, slots=True)
class Scale:
    """Entries of the large registry and of the small one, documents of the large answer,
    questions and registrations of one run, seconds of the mixed work and of the reference.
    """

    entries: int
    fewer: int
    large: int
    questions: int = 2_000
    registrations: int = 1_500
    mixed_seconds: float = 60.0
    seconds: float = 5.0
    rounds: int = 3


SCALES = {
    "small": Scale(
        entries=3_000,
        fewer=1_000,
        large=500,
        questions=100,
        registrations=50,
        mixed_seconds=1.0,
        seconds=1.0,
        rounds=1,
    ),
    "100k": Scale(entries=100_000, fewer=10_000, large=50_000),
    "1m": Scale(entries=1_000_000, fewer=10_000, large=50_000),
    "10m": Scale(entries=10_000_000, fewer=10_000, large=50_000),
}

ENGINES = ("postgresql", "sqlite")


def measure(scale: Scale, engines: Sequence[str] = ENGINES) -> Iterator[Row]:
    """Every figure on each engine. Raises WrongAnswer, NoPostgreSQL."""
    for engine in engines:
        with ExitStack() as stack:
            server = stack.enter_context(cluster()) if engine == "postgresql" else None
            for row in _measure(scale, server):
                yield row.named(f"{engine}: {row.work}")


def _measure(scale: Scale, server: Cluster | None) -> Iterator[Row]:
    with _loaded(scale.entries, scale.large, server) as large:
        count = f"{scale.entries:,}"
        rate = large.loading.rate
        yield Row(f"load of {count}", f"{rate:,.0f}/s", "entries", rate, _LOAD_REACH, unit="/s")
        with _loaded(scale.fewer, 0, server) as small:
            yield from _questions(scale, large, small, count)
        yield from _large_answer(scale, large)
        if server is not None:
            yield _registrations(scale, large, server)
        yield _mixed(scale, large)


# --- A registry that is loaded and served --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """A node with a loaded registry."""

    place: Place
    server: Server
    loading: Loading

    def drive(
        self, requests: Sequence[bytes], clients: int, check: Callable[[bytes], bool]
    ) -> Figures:
        """Send the requests; WrongAnswer if an answer is not right."""
        return drive(address_of(self.server.url("")), requests, clients, check)

    def ask(self, questions: Sequence[AdhocQueryRequest], path: str = "/registry") -> list[bytes]:
        """The HTTP requests for stored queries."""
        return [query(self.server.url(path), one) for one in questions]


@contextmanager
def _loaded(entries: int, large: int, server: Cluster | None) -> Iterator[Served]:
    url = server.new_database() if server else None
    processes = _CORES if server else 1
    with fresh("scale", database=url, extra=_MANY_RESULTS, web_processes=processes) as place:
        with open_database(place.settings.registry, "registry") as database:
            loading = region.load(database, place, entries, large)
        with place.serve("web") as web:
            yield Served(place, web, loading)


# --- Questions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """A stored query as it is asked of one registry, and what its answer must hold."""

    name: str
    make: Callable[[Loading, random.Random], AdhocQueryRequest]
    parts: tuple[bytes, ...]
    count: int

    def is_right(self, answer: bytes) -> bool:
        """Success with as many objects as there are."""
        return _SUCCESS in answer and sum(map(answer.count, self.parts)) == self.count


def _of_ten(loading: Loading, draw: random.Random) -> AdhocQueryRequest:
    return find_documents(draw.choice(list(loading.asked)))


def _by_unique_id(loading: Loading, draw: random.Random) -> AdhocQueryRequest:
    patient = draw.choice(list(loading.asked))
    return get_documents(unique_id=[draw.choice(loading.asked[patient]).unique_id])


def _by_reference(loading: Loading, draw: random.Random) -> AdhocQueryRequest:
    patient = draw.choice(list(loading.asked))
    document = draw.choice(loading.asked[patient])
    return find_documents_by_reference_id(patient, [f"{document.reference}%"])


def _everything(loading: Loading, draw: random.Random) -> AdhocQueryRequest:
    return get_all(draw.choice(loading.everything))


TEN = Question(f"FindDocuments, {HITS} hits", _of_ten, (_DOCUMENT,), HITS)
QUESTIONS = (
    TEN,
    Question("GetDocuments", _by_unique_id, (_DOCUMENT,), 1),
    Question("FindDocumentsByReferenceId", _by_reference, (_DOCUMENT,), 1),
    Question(f"GetAll, {OBJECTS} objects", _everything, _OBJECTS, OBJECTS),
)


def _questions(scale: Scale, large: Served, small: Served, count: str) -> Iterator[Row]:
    asked, bare = _asked(TEN, large, scale.questions), _asked(TEN, large, scale.questions, True)
    ours, theirs = interleaved(
        scale.rounds,
        lambda: large.drive(asked, CLIENTS, TEN.is_right),
        lambda: large.drive(bare, CLIENTS, lambda answer: answer.count(_DOCUMENT) == HITS),
    )
    rates = [one.rate for one in ours], [one.rate for one in theirs]
    yield per_second(f"{TEN.name} of {count}, {CLIENTS} clients", *rates, 0.5)
    for question in QUESTIONS:
        yield _growth(scale, question, large, small, count)


def _asked(question: Question, of: Served, count: int, bare: bool = False) -> list[bytes]:
    draw = random.Random(count)
    questions = [question.make(of.loading, draw) for _ in range(count)]
    return of.ask(questions, "/bare/query" if bare else "/registry")


def _growth(scale: Scale, question: Question, large: Served, small: Served, count: str) -> Row:
    questions = scale.questions // (10 if question.count == OBJECTS else 1)
    turns = [
        (address_of(of.server.url("")), _asked(question, of, questions), question.is_right)
        for of in (large, small)
    ]
    rounds = [alternate(turns) for _ in range(scale.rounds)]
    p50, p50_before = (median(one.p50 for one in some) for some in zip(*rounds, strict=True))
    return Row(
        f"{question.name} of {count}: growth from {scale.fewer:,}",
        f"p50 {p50:.2f} ms",
        f"p50 {p50_before:.2f} ms",
        p50 / p50_before,
        1.2,
        at_most=True,
    )


# --- A large answer ------------------------------------------------------------------------------


def _large_answer(scale: Scale, of: Served) -> Iterator[Row]:
    request = query(
        of.server.url("/registry"), find_documents(of.loading.large, return_type=OBJECT_REF)
    )
    waits, sizes = [], []
    for _ in range(scale.rounds):
        memory = of.server.watch_memory()
        first, whole, references = _received(address_of(of.server.url("")), request)
        if references != scale.large:
            raise WrongAnswer(f"{references} references came of {scale.large}")
        waits.append((first, whole))
        sizes.append(memory.growth())
    first, whole = (median(times) for times in zip(*waits, strict=True))
    work = f"FindDocuments, {scale.large:,} ObjectRefs"
    reference = f"whole {whole:.2f} s"
    yield Row(
        f"{work}: first byte", f"{first:.2f} s", reference, first, _FIRST_BYTE_REACH, True, " s"
    )
    yield growth(f"{work}: memory", sizes, 64)


def _received(address: tuple[str, int], request: bytes) -> tuple[float, float, int]:
    """Seconds to the first byte and to the last, and how many references came."""
    with socket.create_connection(address, timeout=60) as connection:
        request = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        started = time.perf_counter()
        connection.sendall(request)
        pieces = [connection.recv(MIB)]
        first = time.perf_counter() - started
        while piece := connection.recv(MIB):
            pieces.append(piece)
        whole = time.perf_counter() - started
    return first, whole, b"".join(pieces).count(_REFERENCE)


# --- Registrations -------------------------------------------------------------------------------


def _submissions(of: Served) -> Iterator[bytes]:
    """Registrations of one entry, for patients who are not asked for, without end."""
    url = of.server.url("/registry")
    made = region.moulds(of.place, lambda submission: registration(url, submission), (1,))[1]
    patients = sorted(of.loading.others)
    draw = random.Random(1)
    for mould in cycle(made):
        text, _ = mould.cast(draw.choice(patients))
        yield text


def _registrations(scale: Scale, of: Served, server: Cluster) -> Row:
    """ITI-42 beside single rows committed by pgbench."""
    submissions = _submissions(of)

    def ours() -> float:
        some = list(islice(submissions, scale.registrations))
        return of.drive(some, CLIENTS, lambda answer: _SUCCESS in answer).rate

    rates, commits = interleaved(scale.rounds, ours, lambda: server.commits(CLIENTS, scale.seconds))
    return per_second(f"ITI-42, one entry, {CLIENTS} clients", rates, commits, 0.3)


def _mixed(scale: Scale, of: Served) -> Row:
    """The slowest of a hundred questions, beside submitters and without them."""
    address = address_of(of.server.url(""))
    questions = cycle(_asked(TEN, of, scale.questions))

    def asking(seconds: float) -> Stream:
        return Stream(_until(questions, seconds), QUERIERS, _right_or_busy)

    [idle] = drive_together(address, [asking(scale.mixed_seconds / 4)])
    submitting = Stream(_until(_submissions(of), scale.mixed_seconds), SUBMITTERS, _done_or_busy)
    busy, submitted = drive_together(address, [asking(scale.mixed_seconds), submitting])
    return Row(
        f"p99 of {QUERIERS} who ask beside {SUBMITTERS} who submit ({submitted.rate:,.0f}/s)",
        f"{busy.p99:.1f} ms, {busy.rate:,.0f}/s",
        f"idle {idle.p99:.1f} ms, {idle.rate:,.0f}/s",
        busy.p99 / idle.p99,
        3,
        at_most=True,
    )


def _until(requests: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """Requests as long as the time lasts, from the first one on."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield next(requests)


def _right_or_busy(answer: bytes) -> bool:
    return TEN.is_right(answer) or _is_busy(answer)


def _done_or_busy(answer: bytes) -> bool:
    return _SUCCESS in answer or _is_busy(answer)


def _is_busy(answer: bytes) -> bool:
    return any(word in answer for word in _BUSY)
