"""Fetching the images a manifest lists: what is there, what is wanted, way by way, what is missing.

Each way is asked for what the ways before it did not bring. What arrives is compared with the
manifest before it gets its name (``consumer.checking``), whatever the way.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from consumer.checking import Checker
from consumer.crew import Crew, Outcome
from consumer.errors import ConsumerError, UnknownSource
from consumer.files import Allowance
from consumer.journal import Journal
from consumer.plan import Wanted, plan
from consumer.report import (
    Failure,
    Fault,
    FetchedInstance,
    FetchReport,
    MissingInstance,
    Progress,
)
from consumer.ways import Loss, Remark, Unasked, Way
from manifest.kos import Manifest
from metadata.catalogue import RegistryError


class ImageFetch:
    """One run over one manifest: ``instances`` while it goes on, ``report`` at the end."""

    def __init__(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        ways: Sequence[Way],
        checker: Checker,
        allowance: Allowance,
        resume: bool,
        progress: Callable[[Progress], None],
    ) -> None:
        self._manifest = manifest
        self._folder = folder
        self._ways = ways
        self._checker = checker
        self._allowance = allowance
        self._resume = resume
        self._progress = progress
        self._started = time.monotonic()
        self._bytes = 0
        self._present: list[Path] = []
        self._fetched: list[FetchedInstance] = []
        self._attempts: dict[str, list[Failure]] = {}
        self._missing: list[MissingInstance] = []
        self._unexpected: list[str] = []
        self._errors: list[RegistryError] = []
        self._failures: list[ConsumerError] = []
        self._unknown: dict[str, UnknownSource] = {}

    def instances(self) -> Iterator[FetchedInstance]:
        """Fetch what is not there yet, yielding each instance once it is in its place."""
        try:
            wanted = self._absent(plan(self._manifest, self._folder, self._miss))
            if wanted:
                self._folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self._folder) as name:
                    yield from self._fetch(wanted, Path(name))
        finally:
            for way in self._ways:
                way.close()

    def report(self) -> FetchReport:
        """What came of it, once ``instances`` has ended."""
        return FetchReport(
            fetched=tuple(one.path for one in self._fetched),
            present=tuple(self._present),
            missing=tuple(self._missing),
            unexpected=tuple(self._unexpected),
            errors=tuple(self._errors),
            failures=tuple(self._failures),
            bytes=self._bytes,
            seconds=self._seconds(),
            ways=dict(Counter(one.way for one in self._fetched)),
        )

    def _absent(self, listed: Sequence[Wanted]) -> list[Wanted]:
        """What has to be fetched: it is not there, or it is not what it should be."""
        recorded = Journal(self._study_folder()).sizes() if listed else {}
        wanted = []
        for one in listed:
            if self._resume and self._is_there(one, recorded.get(one.sop_instance_uid)):
                self._present.append(one.target)
            else:
                wanted.append(one)
        return wanted

    def _is_there(self, one: Wanted, recorded: int | None) -> bool:
        """Whether the file is as it was when it was compared, or stands the comparison now."""
        try:
            size = one.target.stat().st_size
            return size == recorded or self._checker.judge(one, one.target) is None
        except OSError:
            return False

    def _study_folder(self) -> Path:
        return self._folder / self._manifest.study_instance_uid

    def _fetch(self, wanted: Sequence[Wanted], incoming: Path) -> Iterator[FetchedInstance]:
        journal = Journal(self._study_folder())
        left = {one.sop_instance_uid: one for one in wanted}
        for way in self._ways:
            served = [one for one in left.values() if way.serves(one)]
            crew = Crew(way, self._checker, self._folder, incoming, self._allowance)
            with closing(crew.outcomes(served)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome, FetchedInstance):
                        del left[outcome.sop_instance_uid]
                        journal.add(outcome)
                        self._count(outcome, len(wanted))
                        yield outcome
                    else:
                        self._note(way, outcome)
            for uid in [uid for uid in left if self._is_hopeless(uid)]:
                self._give_up(left.pop(uid))
        for one in left.values():
            self._give_up(one)

    def _count(self, one: FetchedInstance, total: int) -> None:
        self._fetched.append(one)
        self._bytes += one.size
        self._progress(Progress(len(self._fetched), total, self._bytes, self._seconds()))

    def _note(self, way: Way, outcome: Outcome) -> None:
        match outcome:
            case Loss(uid, fault, reason, error):
                failure = Failure(way.name.value, fault, reason, error)
                self._attempts.setdefault(uid, []).append(failure)
            case Remark(error):
                self._errors.append(error)
            case ConsumerError():
                self._failures.append(outcome)
            case Unasked():
                self._unexpected.append(str(outcome))

    def _is_hopeless(self, uid: str) -> bool:
        """Whether our own disk failed: no other way would help."""
        return any(one.fault is Fault.NOT_WRITTEN for one in self._attempts.get(uid, ()))

    def _give_up(self, one: Wanted) -> None:
        """Report an instance that no way brought, with all that was tried."""
        series, uid = one.series_instance_uid, one.sop_instance_uid
        attempts = tuple(self._attempts.get(uid, ()))
        if not attempts:
            self._miss(series, uid, Fault.NO_ADDRESS, str(self._unknown_source(one.source)))
            return
        last = attempts[-1]
        several = "; ".join(f"{one.way}: {one.reason}" for one in attempts)
        reason = several if len(attempts) > 1 else last.reason
        self._missing.append(MissingInstance(series, uid, reason, last.error, last.fault, attempts))

    def _unknown_source(self, source: str) -> UnknownSource:
        if source not in self._unknown:
            self._unknown[source] = UnknownSource("imaging source", source)
            self._failures.append(self._unknown[source])
        return self._unknown[source]

    def _miss(self, series: str, instance: str, fault: Fault, reason: str) -> None:
        self._missing.append(MissingInstance(series, instance, reason, fault=fault))

    def _seconds(self) -> float:
        return time.monotonic() - self._started
