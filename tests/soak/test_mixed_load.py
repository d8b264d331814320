"""Everything that a region does, at once and for long; and ten times as much for a minute."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import fmean, linear_regression

import pytest

from benchmarks.figures import WrongAnswer
from benchmarks.images import Study, send
from benchmarks.peers import are_there
from hl7.client import MllpError
from metadata import identifiers as xds
from soap.client import SoapClient
from soap.faults import PeerFault
from storage.blobs import BlobStore
from tests.registry.conftest import Draft, cx
from tests.soak.conftest import at_most, own, serving
from tests.system.conftest import Nodes, RunningNode
from tests.system.test_hostile_input import dicom
from tests.system.test_two_nodes import Region
from transactions.iti_18 import OBJECT_REF, AdhocQueryRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_documents

pytestmark = pytest.mark.timeout(3600)

LOAD_SECONDS, BURST_SECONDS, CALM_SECONDS = 30 * 60.0, 60.0, 20.0
TIMES = 10
# The node is as it was so long after the burst.
RECOVERY_SECONDS = 30.0
MOST_TIMES_SLOWER = 2.0
# What is so short that twice as long says nothing.
LEAST_MILLISECONDS = 20.0

# Memory is looked at so often, once the node has come to its working size ...
LOOK_SECONDS = 5.0
WARM_SECONDS = 5 * 60.0
# ... and may grow by this share in ten minutes.
MOST_GROWTH = 0.01

PATIENTS, HITS = 50, 20
DOCUMENT_BYTES = 100_000
INSTANCES = 5
# The patient of the benchmarks' studies.
IMAGED = "123456"
# Answers that ask for the same again, a little later.
BUSY_CODES = {"XDSRegistryBusy", "XDSRepositoryBusy"}
# A door of DICOM or MLLP that holds as many connections as it may lets nobody else in; and
# DCMTK's sender does not say in which words it was refused.
OK, BUSY, NOT_DONE = "ok", "busy", "not done"


@dataclass
class Stream:
    """One kind of exchange, so many times a second by so many clients."""

    name: str
    rate: float
    clients: int
    act: Callable[[], str]
    """Do it once; ``OK``, ``BUSY``, ``NOT_DONE`` or what went wrong."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """Milliseconds that half of them take at most."""
        return sorted(self.seconds)[len(self.seconds) // 2] * 1000

    @property
    def late(self) -> float:
        """Milliseconds that 99 in a hundred take at most."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] * 1000

    def told(self) -> str:
        return f"{self.name} {dict(self.outcomes)} p50 {self.middle:.0f} p99 {self.late:.0f} ms"

    def play(self, over: threading.Event) -> None:
        """Be one of its clients; what could not be done in time is left out."""
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            started = time.monotonic()
            self.outcomes[self.act()] += 1
            self.seconds.append(time.monotonic() - started)
            due = max(due, started) + self.clients / self.rate


class Load:
    """Makes the exchanges, and remembers what was acknowledged."""

    def __init__(self, region: Region, folder: Path) -> None:
        self.region, self.folder = region, folder
        self.node: RunningNode = region.nodes[0]
        self.acknowledged: Counter[str] = Counter()
        """Documents of each patient."""
        self._numbers = count(1)
        for patient in ("HITS", IMAGED, *(f"P{number}" for number in range(PATIENTS))):
            assert self.node.announce(patient) == "AA"
        for _ in range(HITS):
            assert region.submit(self.node, draft_of("HITS")).status == xds.SUCCESS

    def streams(self, times: int = 1) -> list[Stream]:
        """All of them, each an eighth of what two cores do of it alone; or so many times that."""
        return [
            Stream("ITI-42", 36 * times, 2 * times, self._register),
            Stream("ITI-41", 12 * times, 2 * times, self._provide),
            Stream("ITI-18", 24 * times, 2 * times, self._query),
            Stream("ITI-8", 60 * times, 2 * times, self._announce),
            Stream("C-STORE", 2 * times, 1 * times, self._store),
        ]

    @contextmanager
    def playing(self, streams: Sequence[Stream]) -> Iterator[None]:
        """They play until this is left."""
        over = threading.Event()
        with ThreadPoolExecutor(sum(stream.clients for stream in streams)) as pool:
            clients = [pool.submit(one.play, over) for one in streams for _ in range(one.clients)]
            try:
                yield
            finally:
                over.set()
            for client in clients:
                client.result()

    def is_all_there(self) -> bool:
        """Whether nothing that was acknowledged is missing."""
        return all(
            len(self.region.query(self.node, references(patient)).object_refs) >= documents
            for patient, documents in self.acknowledged.items()
        )

    def _patient(self) -> str:
        return f"P{next(self._numbers) % PATIENTS}"

    def _register(self) -> str:
        patient = self._patient()
        draft = draft_of(patient)
        return self._done(patient, lambda: self.region.submit(self.node, draft))

    def _provide(self) -> str:
        patient = self._patient()
        draft, data = Draft(cx(patient)), os.urandom(DOCUMENT_BYTES)
        draft.document(hash=None, size=None, repository_unique_id=None)
        return self._done(patient, lambda: self.region.provide(self.node, draft, data))

    def _query(self) -> str:
        try:
            found = self.region.query(self.node, find_documents(cx("HITS")))
        except PeerFault as fault:
            return outcome(fault)
        return OK if len(found.documents) == HITS else f"{len(found.documents)} hits"

    def _done(self, patient: str, act: Callable[[], RegistryResponse]) -> str:
        try:
            response = act()
        except PeerFault as fault:
            return outcome(fault)
        if response.status == xds.SUCCESS:
            self.acknowledged[patient] += 1
            return OK
        codes = {error.code for error in response.errors}
        return BUSY if codes <= BUSY_CODES else " ".join(sorted(codes))

    def _announce(self) -> str:
        try:
            code = self.node.announce(f"A{next(self._numbers)}")
        except MllpError:
            return NOT_DONE
        return {"AA": OK, "AR": BUSY}.get(code, code)

    def _store(self) -> str:
        number = next(self._numbers)
        study = Study(self.folder / f"study-{number}", number, INSTANCES)
        try:
            send(study, "KOSMOS", dicom(self.node)[1], associations=1)
        except WrongAnswer:
            return NOT_DONE
        finally:
            shutil.rmtree(self.folder / f"study-{number}")
        return OK


def draft_of(patient: str) -> Draft:
    draft = Draft(cx(patient))
    draft.document()
    return draft


def references(patient: str) -> AdhocQueryRequest:
    return find_documents(cx(patient), return_type=OBJECT_REF)


def outcome(fault: PeerFault) -> str:
    return BUSY if fault.status == 503 else str(fault)


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    if not are_there("C-STORE among the rest", "storescu"):
        pytest.skip("storescu is not installed (Debian: dcmtk)")
    (codes := tmp_path / "no_codes.toml").touch()  # any code is good
    nodes = Nodes(tmp_path)
    node = nodes.start(KOSMOS__AFFINITY_DOMAIN__CODES=str(codes))
    client = SoapClient(timeout=120)
    yield Load(Region([node], client, "", BlobStore(tmp_path / "blobs")), tmp_path)
    client.close()
    nodes.close()


def growth(samples: Sequence[tuple[float, int]]) -> float:
    """The share of itself by which a figure grows in ten minutes: its line of best fit."""
    moments, figures = zip(*samples, strict=True)
    return 600 * linear_regression(moments, figures).slope / fmean(figures)


def test_half_an_hour_of_everything_has_no_error_and_memory_stays_as_it_is(
    load: Load, tell: Callable[[str], None]
) -> None:
    """Registrations, documents, queries, identity messages and images come all the time.

    Together they are some six tenths of what two cores do if nobody else, nor their senders, needed
    them: what cannot be sent in time is left out. Not one is refused, and no process has 1 % more
    memory after ten minutes than before, once it has come to its working size (what SQLite keeps of
    databases that grow is not counted, for it has a bound); where it is played for less than ten
    minutes, memory is told, and not judged.
    """
    pids, streams = serving(load.node), load.streams()
    samples: dict[str, list[tuple[float, int]]] = {name: [] for name in pids}
    began, length = time.monotonic(), at_most(LOAD_SECONDS)
    with load.playing(streams):
        while (passed := time.monotonic() - began) < length:
            time.sleep(min(LOOK_SECONDS, length - passed))
            for name, kib in own(pids).items():
                samples[name].append((passed, kib))
    warm = {
        name: [one for one in found if one[0] >= min(WARM_SECONDS, length / 2)]
        for name, found in samples.items()
    }
    grown = {name: growth(found) for name, found in warm.items() if len(found) > 1}
    figures = {name: (found[0][1] // 1024, found[-1][1] // 1024) for name, found in warm.items()}
    tell("; ".join(stream.told() for stream in streams))
    tell(f"{length:.0f} s; MiB {figures}; in ten minutes {grown}")
    assert {outcome for stream in streams for outcome in stream.outcomes} == {OK}
    assert load.is_all_there()
    if length >= 2 * WARM_SECONDS:
        assert max(grown.values()) < MOST_GROWTH


def test_ten_times_the_load_for_a_minute_is_told_to_come_back_and_then_all_is_as_before(
    load: Load, tell: Callable[[str], None]
) -> None:
    """Ten times the clients ask for ten times as much as the machine can do.

    Some are served all the time; who is not is told in the words of his protocol that the node is
    busy, or not let in; no process dies. On a machine that sends as slowly as it serves, there may
    be nobody whom it must turn away: the outcomes are told. Half a minute later nobody is refused,
    and half of the exchanges take less than twice the time that they took before the burst.
    """
    pids = serving(load.node)
    before, burst, after = load.streams(), load.streams(TIMES), load.streams()
    for streams, seconds in (
        (before, CALM_SECONDS),
        (burst, BURST_SECONDS),
        (load.streams(), RECOVERY_SECONDS),
        (after, CALM_SECONDS),
    ):
        with load.playing(streams):
            time.sleep(at_most(seconds))
    for name, streams in (("before", before), ("burst", burst), ("after", after)):
        tell(f"{name}: " + "; ".join(stream.told() for stream in streams))
    assert serving(load.node) == pids
    assert all(stream.outcomes[OK] for stream in burst)
    assert {outcome for stream in burst for outcome in stream.outcomes} <= {OK, BUSY, NOT_DONE}
    for early, late in zip(before, after, strict=True):
        assert {*early.outcomes, *late.outcomes} == {OK}
        assert late.middle < MOST_TIMES_SLOWER * max(early.middle, LEAST_MILLISECONDS)
    assert load.is_all_there()
