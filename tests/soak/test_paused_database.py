"""A database server that stands still for a minute: nobody is lost, nothing piles up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from metadata import identifiers as xds
from soap.client import SoapClient
from soap.faults import PeerFault
from storage.blobs import BlobStore
from storage.postgresql import WRITERS
from tests.registry.conftest import Draft, cx
from tests.soak.conftest import at_most, resident, serving, threads
from tests.system.conftest import Nodes
from tests.system.test_two_nodes import Region, paused
from tests.waiting import wait_for
from transactions.iti_18 import ITI_18
from transactions.iti_42 import ITI_42
from transactions.stored_query import find_documents

pytestmark = pytest.mark.timeout(600)

PAUSE_SECONDS = 60.0
# Before the pause, and after it.
CALM_SECONDS = 5.0
# Half as many again as a node holds unless it is told otherwise (``limits.queue``).
CLIENTS, IN_FLIGHT = 96, 64
# Who was told that the node is busy comes back so much later.
COME_BACK_SECONDS = 0.5
# A call that has not been answered after so long waits for the database.
WAITING_SECONDS = 5.0
# The last of those who waited is answered so soon after the database goes on.
RESUME_SECONDS = 10.0
SLACK_KIB = 64 * 1024
LOOK_SECONDS = 0.25
# A connection that PostgreSQL ended with words of ours unread tells nobody what it has done.
ANSWERED, BUSY, UNKNOWN = "answered", "busy", "unknown"


@pytest.fixture
def region(postgresql_database_url: str, tmp_path: Path) -> Iterator[Region]:
    """One node on a PostgreSQL server."""
    database = postgresql_database_url.replace("+psycopg", "")
    (codes := tmp_path / "no_codes.toml").touch()  # any code is good
    nodes = Nodes(tmp_path)
    node = nodes.start(
        KOSMOS__REGISTRY__DATABASE=database,
        KOSMOS__REPOSITORY__DATABASE=database,
        KOSMOS__IMAGING_SOURCE__ENABLED="false",
        KOSMOS__AFFINITY_DOMAIN__CODES=str(codes),
    )
    assert [node.announce(patient) for patient in ("P1", "P2")] == ["AA", "AA"]
    client = SoapClient(timeout=PAUSE_SECONDS + 60)
    yield Region([node], client, database, BlobStore(tmp_path / "blobs"))
    client.close()
    nodes.close()


class Clients:
    """Ask and submit by turns, over and over; whoever is told to come back does."""

    def __init__(self, region: Region) -> None:
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: set[str | None] = set()
        """The uniqueId of each document whose submission was."""
        self._region = region
        self._node = region.nodes[0]
        self._over = threading.Event()
        self._since: dict[int, float] = {}

    @contextmanager
    def playing(self) -> Iterator[None]:
        """They play until this is left."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            playing = [pool.submit(self._play, number) for number in range(CLIENTS)]
            try:
                yield
            finally:
                self._over.set()
            for one in playing:
                one.result()

    def waiting(self, since: float) -> int:
        """How many calls that were made before this moment have no answer yet."""
        return sum(made < since for made in [*self._since.values()])

    def _play(self, number: int) -> None:
        for call in cycle((self._query, self._query, self._query, self._submit)):
            if self._over.is_set():
                return
            self._since[number] = time.monotonic()
            outcome = call()
            del self._since[number]
            self.outcomes[outcome] += 1
            if outcome == BUSY:
                self._over.wait(COME_BACK_SECONDS)

    def _query(self) -> str:
        return self._call(ITI_18, find_documents(cx("P2")))

    def _submit(self) -> str:
        draft = Draft(cx("P1"))
        document = draft.document()
        outcome = self._call(ITI_42, draft.request())
        if outcome == ANSWERED:
            self.acknowledged.add(document.unique_id)
        return outcome

    def _call(self, transaction: Any, request: Any) -> str:
        try:
            url = self._node.endpoints["registry"]
            response = self._region.client.call(url, transaction, request)
        except PeerFault as fault:
            return BUSY if fault.status == 503 else UNKNOWN
        if response.status == xds.SUCCESS:
            return ANSWERED
        found = {error.code for error in response.errors}
        return BUSY if found == {"XDSRegistryBusy"} else " ".join(found)


def test_a_database_that_stands_still_for_a_minute_holds_up_a_bounded_number_of_callers(
    region: Region, tell: Callable[[str], None]
) -> None:
    """Everybody else is told at once that the registry is busy.

    The node gets no more threads and keeps its memory. When the database goes on, whoever waited
    is answered within seconds, and what was acknowledged, before, meanwhile or after, is there.
    Of transactions that were under way when it stopped, nobody may know what became of them.
    """
    clients = Clients(region)
    pids = {"web-0": serving(region.nodes[0])["web-0"]}
    waiting, had, held = 0, Counter[str](), Counter[str]()
    with clients.playing():
        time.sleep(at_most(CALM_SECONDS))
        before, memory = threads(pids), resident(pids)
        calm = +clients.outcomes
        with paused(region):
            ends = time.monotonic() + at_most(PAUSE_SECONDS)
            while time.monotonic() < ends:
                time.sleep(LOOK_SECONDS)
                waiting = max(waiting, clients.waiting(time.monotonic() - WAITING_SECONDS))
                had, held = had | threads(pids), held | resident(pids)
        resumed = time.monotonic()
        meanwhile = clients.outcomes - calm
        wait_for(lambda: not clients.waiting(resumed))
        late = time.monotonic() - resumed
        time.sleep(at_most(CALM_SECONDS))
        after = clients.outcomes - calm - meanwhile
    tell(
        f"before {dict(calm)}, meanwhile {dict(meanwhile)}, after {dict(after)}; {waiting} waited"
        f" at most, the last was answered {late:.1f} s after the pause; threads {before['web-0']},"
        f" then {had['web-0']}; KiB {memory['web-0']}, then {held['web-0']}"
    )
    assert clients.outcomes.keys() <= {ANSWERED, BUSY, UNKNOWN}
    assert clients.outcomes[UNKNOWN] <= WRITERS
    assert waiting <= IN_FLIGHT
    assert late < RESUME_SECONDS
    assert had["web-0"] <= before["web-0"]
    assert held["web-0"] < memory["web-0"] + SLACK_KIB
    assert after[ANSWERED] > meanwhile[ANSWERED]
    there = region.query(region.nodes[0], find_documents(cx("P1"))).documents
    assert clients.acknowledged <= {one.unique_id for one in there}
