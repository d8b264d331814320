"""Fetching the images a manifest lists: plan, ask source by source, put each in its place.

Covers the client's side of RAD TF-2 4.69. Instances already in place are not asked for
again, requests are small enough that an interruption costs little, and what the sources
send is compared with what the manifest lists, instance by instance.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, cast

from consumer.errors import ConsumerError, UnknownSource
from consumer.files import CompleteFile, PartialFile, make_durable, sop_instance_uid
from consumer.report import FetchReport, MissingInstance, Progress
from manifest.kos import Manifest
from metadata.catalogue import RegistryError
from metadata.identifiers import WARNING
from soap.message import Spool
from transactions.iti_43 import DocumentRequest, RetrievedDocument, RetrieveDocumentSetResponse
from transactions.rad_69 import RetrieveImagingDocumentSetRequest, SeriesRequest, StudyRequest

# Instances of one request: about 100 MB of CT, which is what a broken connection costs at
# most; the price of a request (a few milliseconds) vanishes beside it.
BATCH = 200

# UIDs become names of files and folders: "." and ".." are none. Not stricter than that, for
# there are devices that make UIDs with a dot too many, and their images are wanted all the same.
_UID = re.compile(r"[0-9][0-9.]{0,63}")

Retrieve = Callable[
    [str, RetrieveImagingDocumentSetRequest, Callable[[], Spool]], RetrieveDocumentSetResponse
]


class Wanted(NamedTuple):
    """One instance to fetch: who has it, and where it goes."""

    source: str
    series_instance_uid: str
    sop_instance_uid: str
    target: Path


class ImageFetch:
    """One run over one manifest; ``run`` is all there is to do with it.

    ``retrieve`` performs RAD-69 at an address; ``sources`` are the addresses by
    Retrieve Location UID.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        retrieve: Retrieve,
        sources: Mapping[str, str],
        transfer_syntaxes: Sequence[str],
        progress: Callable[[Progress], None],
        home_community_id: str | None,
    ) -> None:
        self._manifest = manifest
        self._folder = folder
        self._retrieve = retrieve
        self._sources = sources
        self._transfer_syntaxes = tuple(transfer_syntaxes)
        self._progress = progress
        self._home = home_community_id
        self._started = time.monotonic()
        self._total = 0
        self._received = 0
        self._bytes = 0
        self._fetched: list[Path] = []
        self._present: list[Path] = []
        self._missing: list[MissingInstance] = []
        self._unexpected: list[str] = []
        self._errors: list[RegistryError] = []
        self._failures: list[ConsumerError] = []

    def run(self) -> FetchReport:
        """Fetch what is not there yet and report on everything."""
        listed = sorted(set(self._plan()))
        self._present = [one.target for one in listed if one.target.exists()]
        wanted = [one for one in listed if not one.target.exists()]
        self._total = len(wanted)
        if wanted:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self._folder) as name:
                for source, instances in groupby(wanted, key=lambda one: one.source):
                    self._fetch_from(source, list(instances), Path(name))
        return self._report()

    def _plan(self) -> Iterator[Wanted]:
        """What the manifest lists, without what cannot be named or belongs to two series."""
        study = self._manifest.study_instance_uid
        listed: dict[str, str] = {}
        for series in self._manifest.series:
            for instance in series.instances:
                uids = (study, series.series_instance_uid, instance.sop_instance_uid)
                first = listed.setdefault(uids[2], uids[1])
                if not all(map(_UID.fullmatch, uids)):
                    self._miss(uids[1], uids[2], "the manifest names it by an invalid UID")
                elif first != uids[1]:
                    self._miss(uids[1], uids[2], f"the manifest lists it in series {first} too")
                else:
                    target = self._folder / uids[0] / uids[1] / f"{uids[2]}.dcm"
                    yield Wanted(series.retrieve_location_uid, uids[1], uids[2], target)

    def _fetch_from(self, source: str, wanted: Sequence[Wanted], incoming: Path) -> None:
        """Ask one source, batch by batch; the first call without an answer is the last."""
        for start in range(0, len(wanted), BATCH):
            try:
                self._fetch_batch(source, wanted[start : start + BATCH], incoming)
            except ConsumerError as error:
                self._give_up(wanted[start:], error)
                return

    def _give_up(self, wanted: Sequence[Wanted], error: ConsumerError) -> None:
        """Report what a failed call leaves undone."""
        self._failures.append(error)
        self._received = len(self._fetched)
        settled = {(path.parent.name, path.stem) for path in self._fetched}
        settled |= {(one.series_instance_uid, one.sop_instance_uid) for one in self._missing}
        for one in wanted:
            if (one.series_instance_uid, one.sop_instance_uid) not in settled:
                self._miss(one.series_instance_uid, one.sop_instance_uid, str(error))

    def _fetch_batch(self, source: str, batch: Sequence[Wanted], incoming: Path) -> None:
        if source not in self._sources:
            raise UnknownSource("imaging source", source)

        def spool() -> Spool:
            return PartialFile(incoming, self._count)

        before = len(self._fetched)
        response = self._retrieve(self._sources[source], self._request(batch), spool)
        self._errors += response.errors
        asked = {one.sop_instance_uid: one for one in batch}
        for document in response.documents:
            self._take(document, asked)
        self._explain(asked.values(), response.errors)
        self._secure(self._fetched[before:])

    def _secure(self, placed: Sequence[Path]) -> None:
        """Make the names of new files durable, and those of the folders they are in."""
        series = {path.parent for path in placed}
        for folder in {self._folder, *series, *(one.parent for one in series)}:
            make_durable(folder)

    def _request(self, batch: Sequence[Wanted]) -> RetrieveImagingDocumentSetRequest:
        series = tuple(
            SeriesRequest(
                uid,
                tuple(
                    DocumentRequest(one.source, one.sop_instance_uid, self._home)
                    for one in instances
                ),
            )
            for uid, instances in groupby(batch, key=lambda one: one.series_instance_uid)
        )
        study = StudyRequest(self._manifest.study_instance_uid, series)
        return RetrieveImagingDocumentSetRequest((study,), self._transfer_syntaxes)

    def _take(self, document: RetrievedDocument, asked: dict[str, Wanted]) -> None:
        """Put a document in its place if it is one of those asked for."""
        file = cast(CompleteFile, document.content)  # what PartialFile makes of every part
        wanted = asked.pop(document.request.document_unique_id, None)
        if wanted is None:
            self._unexpected.append(document.request.document_unique_id)
            file.discard()
        elif sop_instance_uid(file.path) != wanted.sop_instance_uid:
            file.discard()
            reason = "what the source sent is not this DICOM instance"
            self._miss(wanted.series_instance_uid, wanted.sop_instance_uid, reason)
        else:
            file.keep(wanted.target)
            self._fetched.append(wanted.target)

    def _explain(self, lost: Iterable[Wanted], errors: Sequence[RegistryError]) -> None:
        """Report what was asked for and not sent, each with the error about it if any.

        RAD-69 names the instance in the error's location, gateways in its context.
        """
        located = {error.location: error for error in errors if error.severity != WARNING}
        for one in lost:
            uid = one.sop_instance_uid
            error = located.get(uid) or next((e for e in errors if uid in e.context), None)
            reason = error.code if error else "the source did not send it"
            self._miss(one.series_instance_uid, uid, reason, error)

    def _miss(
        self, series: str, instance: str, reason: str, error: RegistryError | None = None
    ) -> None:
        self._missing.append(MissingInstance(series, instance, reason, error))

    def _count(self, size: int) -> None:
        """One more part has arrived."""
        self._received += 1
        self._bytes += size
        self._progress(Progress(self._received, self._total, self._bytes, self._seconds()))

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _report(self) -> FetchReport:
        return FetchReport(
            fetched=tuple(self._fetched),
            present=tuple(self._present),
            missing=tuple(self._missing),
            unexpected=tuple(self._unexpected),
            errors=tuple(self._errors),
            failures=tuple(self._failures),
            bytes=self._bytes,
            seconds=self._seconds(),
        )
