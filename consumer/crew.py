"""One way at work: several portions at once, in threads that wait for whoever takes what came.

The threads fetch, compare and put in place; they share nothing but a queue that holds few. Whoever
stops taking stops them.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from queue import Full, Queue

from consumer.checking import Checker
from consumer.errors import ConsumerError, NotWritten, TooLarge, TooSlow
from consumer.files import Allowance, HalfFile, PartialFile, make_durable
from consumer.plan import Wanted
from consumer.report import Fault, FetchedInstance
from consumer.ways import Answer, Arrival, Desk, Loss, Remark, Unasked, Way

# Portions on their way at once: what hides the latency of a far source and of our own disk;
# more would be a burden for the source, which has other clients.
PARALLEL = 4

# Outcomes that may wait for whoever takes them.
_WAITING = 8

# A thread whose outcomes nobody takes looks this often whether it is still wanted (seconds).
_LOOK = 0.1

_FAULTS = (
    (NotWritten, Fault.NOT_WRITTEN),
    (TooLarge, Fault.TOO_LARGE),
    (TooSlow, Fault.TOO_SLOW),
)


Outcome = FetchedInstance | Loss | Remark | Unasked | ConsumerError


class _Stopped(Exception):
    """Nobody takes outcomes any more."""


class Crew:
    """Fetches by one ``way`` into ``incoming`` and from there into place; used once."""

    def __init__(
        self, way: Way, checker: Checker, folder: Path, incoming: Path, allowance: Allowance
    ) -> None:
        self._way = way
        self._checker = checker
        self._folder = folder
        self._outcomes: Queue[Outcome | None] = Queue(_WAITING)
        self._stopping = threading.Event()
        self._desk = Desk(lambda: PartialFile(incoming, allowance), allowance, self._stopping)
        self._silent: dict[str, ConsumerError] = {}

    def outcomes(self, wanted: Sequence[Wanted]) -> Generator[Outcome, None, None]:
        """Everything that comes of ``wanted``; whatever is not fetched is a Loss."""
        with ThreadPoolExecutor(PARALLEL, "fetch") as pool:
            try:
                running = [pool.submit(self._run, one) for one in self._way.batches(wanted)]
                yield from self._taken(running)
            finally:
                self._stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _taken(self, running: Sequence[Future[None]]) -> Generator[Outcome, None, None]:
        ended = 0
        while ended < len(running):
            outcome = self._outcomes.get()
            if outcome is None:
                ended += 1
            else:
                yield outcome
        for one in running:
            one.result()

    def _run(self, batch: Sequence[Wanted]) -> None:
        with suppress(_Stopped):
            try:
                self._fetch(batch)
            finally:
                self._put(None)

    def _fetch(self, batch: Sequence[Wanted]) -> None:
        """Fetch a portion; the first call to a source without an answer is the last."""
        left = {one.sop_instance_uid: one for one in batch}
        source = batch[0].source
        error = self._silent.get(source)
        if error is None:
            try:
                self._fetch_into_place(batch, left)
            except ConsumerError as failure:
                error = self._silent[source] = failure
                self._put(failure)
        fault, reason = _told(error)
        for uid in left:
            self._put(Loss(uid, fault, reason))

    def _fetch_into_place(self, batch: Sequence[Wanted], left: dict[str, Wanted]) -> None:
        placed: list[Path] = []
        try:
            with closing(self._way.fetch(batch, self._desk)) as answers:
                for answer in answers:
                    outcome = self._outcome(answer, left)
                    if isinstance(outcome, FetchedInstance):
                        placed.append(outcome.path)
                    self._put(outcome)
        finally:
            if placed:
                self._secure(placed)

    def _outcome(self, answer: Answer, left: dict[str, Wanted]) -> Outcome:
        if isinstance(answer, Arrival):
            return self._place(answer, left)
        if isinstance(answer, Loss):
            left.pop(answer.sop_instance_uid, None)
        return answer

    def _place(self, arrival: Arrival, left: dict[str, Wanted]) -> Outcome:
        """Put what came in its place if it is what was wanted."""
        wanted = left.get(arrival.sop_instance_uid)
        try:
            if wanted is None:
                return Unasked(arrival.sop_instance_uid)
            loss = self._checker.judge(wanted, arrival.file.path)
            if loss is None:
                arrival.file.keep(wanted.target)
            del left[arrival.sop_instance_uid]
            HalfFile.forget(wanted.target)
            if loss is not None:
                return loss
        finally:
            arrival.file.discard()
        series, uid = wanted.series_instance_uid, wanted.sop_instance_uid
        return FetchedInstance(wanted.target, series, uid, arrival.file.size, self._way.name.value)

    def _secure(self, placed: Sequence[Path]) -> None:
        """Make the names of new files durable, and those of the folders they are in."""
        series = {path.parent for path in placed}
        for folder in {self._folder, *series, *(one.parent for one in series)}:
            make_durable(folder)

    def _put(self, outcome: Outcome | None) -> None:
        while not self._stopping.is_set():
            with suppress(Full):
                self._outcomes.put(outcome, timeout=_LOOK)
                return
        raise _Stopped


def _told(error: ConsumerError | None) -> tuple[Fault, str]:
    """Why what is left of a portion did not come."""
    if error is None:
        return Fault.NOT_SENT, "the source did not send it"
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return fault, str(error)
    return Fault.NO_ANSWER, str(error)
