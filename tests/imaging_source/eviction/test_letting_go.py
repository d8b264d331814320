"""Bytes that stay with their archive: what goes, and what must stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import delete, insert, update

from imaging_source.archive_commitment import AGAIN_SECONDS, CommitmentUser, Outcome
from imaging_source.archive_dimse import FindUser, MoveUser
from imaging_source.archives import Archive, Bounds
from imaging_source.commitment import Commitments
from imaging_source.evicted import Away, Figures
from imaging_source.index import MIGRATIONS
from imaging_source.negotiation import Titles
from imaging_source.recalling import Recalling
from imaging_source.receiver import Listening, Receiver
from imaging_source.reports import ENCAPSULATED_PDF
from imaging_source.requestor import Peer
from imaging_source.schema import (
    ARCHIVE_COMMITMENT,
    COMMITMENT,
    DESCRIPTION,
    ENCAPSULATED,
    PUBLICATION,
    QUARANTINE,
    STUDY,
)
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.conftest import Clock
from tests.imaging_source.eviction.eviction_kit import (
    DAY,
    Pacs,
    Site,
    nobody,
    put,
    serving,
)
from tests.imaging_source.pacs import Pacs as Orthanc

Make = Callable[..., Dataset]
Store = Callable[..., int]
PROGRAM = Path(__file__).with_name("evicting_process.py")
ROOT = Path(__file__).parents[3]


def test_what_the_archive_has_goes_and_comes_back_as_it_was(
    tmp_path: Path,
    url: str,
    clock: Clock,
    database_url: str,
    store: Store,
    make_instance: Make,
) -> None:
    instances = [make_instance() for _ in range(3)]
    assert {store(one) for one in instances} == {0}
    uid = instances[0].StudyInstanceUID
    with Database.open(database_url) as database:
        database.migrate(MIGRATIONS)
        site = Site(tmp_path, database, url, clock)
        site.fetch(uid)
        before = site.read(site.blobs, uid)

        assert site.evict() == 3
        assert (site.files(), len(site.rows(uid))) == (0, 3)
        assert site.figures().instances == 3
        assert site.evict() == 0

        assert site.read(site.shown, uid) == before
        assert site.pacs.fetched == [uid]
        assert site.figures() == Figures(0, 0)
        site.rest()
        site.shown._noted.clear()
        assert site.evict() == 3


def unpublished(site: Site, _uid: str) -> None:
    site.write(update(STUDY).values(revision=STUDY.c.revision + 1))


def on_its_way(site: Site, uid: str) -> None:
    row: dict[str, Any] = {
        "submission_set_unique_id": "1.2",
        "study_instance_uid": uid,
        "revision": 1,
        "entry_uuid": "",
        "manifest_uid": "",
        "manifest": b"",
        "metadata": b"",
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": 0.0,
        "created_at": 0.0,
    }
    site.write(insert(PUBLICATION).values(row))


def in_quarantine(site: Site, uid: str) -> None:
    row = {
        "sop_instance_uid": site.rows(uid)[0]["sop_instance_uid"],
        "sha256": "0" * 64,
        "size": 1,
        "reason": "other-bytes",
        "sender": "",
        "received_at": 0.0,
    }
    site.write(insert(QUARANTINE).values(row))


def to_be_committed_to(site: Site, uid: str) -> None:
    row = site.rows(uid)[1]
    named = json.dumps([[row["sop_class_uid"], row["sop_instance_uid"]]]).encode()
    times = {"requested_at": site.clock.now, "next_attempt_at": 0.0, "attempts": 0}
    commitment = {"peer": "P", "transaction_uid": "1", "named": named, "state": "pending", **times}
    site.write(insert(COMMITMENT).values(commitment))


def to_be_committed_to_meanwhile(site: Site, uid: str) -> None:
    site.pacs.when_asked = lambda: to_be_committed_to(site, uid)


def not_described(site: Site, _uid: str) -> None:
    site.write(delete(DESCRIPTION))


def used_an_hour_ago(site: Site, uid: str) -> None:
    site.read(site.shown, uid)
    site.clock.now += 3600.0


def asked_for_meanwhile(site: Site, uid: str) -> None:
    site.pacs.when_asked = lambda: site.read(site.shown, uid)


def archive_away(site: Site, _uid: str) -> None:
    site.pacs.away = True


def file_of_a_moment_ago(site: Site, _uid: str) -> None:
    for path in site.blobs.root.rglob("*"):
        if path.is_file():
            os.utime(path)


@pytest.mark.parametrize(
    "hindrance",
    [
        unpublished,
        on_its_way,
        in_quarantine,
        to_be_committed_to,
        to_be_committed_to_meanwhile,
        not_described,
        used_an_hour_ago,
        asked_for_meanwhile,
        archive_away,
        file_of_a_moment_ago,
    ],
)
def test_what_is_still_needed_stays(
    site: Site, study: list[Dataset], hindrance: Callable[[Site, str], None]
) -> None:
    hindrance(site, study[0].StudyInstanceUID)

    assert site.evict() == 0
    assert (site.files(), site.figures().instances) == (2, 0)


def test_what_the_archive_has_not_whole_stays(
    site: Site, study: list[Dataset], make_instance: Make
) -> None:
    own = make_instance()  # sent here alone
    put(site, own)
    site.settle()

    assert site.evict() == 0
    assert site.files() == 3


@pytest.fixture
def pair(tmp_path: Path, clock: Clock, make_instance: Make) -> Iterator[tuple[Site, Site]]:
    """Two nodes that have the same two instances, each the archive of the other."""
    sites: list[Site] = []
    with ExitStack() as stack:
        for name in ("first", "second"):
            database = stack.enter_context(Database.open(f"sqlite:///{tmp_path / name}.db"))
            database.migrate(MIGRATIONS)
            sites.append(Site(tmp_path / name, database, "", clock))
        instances = [make_instance() for _ in range(2)]
        first, second = sites
        for site, other in ((first, second), (second, first)):
            url = stack.enter_context(serving(other.database, other.blobs))
            site.pacs.archive = site.archive(url).archive
            for one in instances:
                put(site, one)
            site.settle()
        yield first, second


def test_of_two_nodes_that_are_archives_of_each_other_one_keeps_the_images(
    pair: tuple[Site, Site],
) -> None:
    first, second = pair
    assert [first.evict(), second.evict()] == [2, 0]
    assert [first.files(), second.files()] == [0, 2]


def test_of_two_that_let_go_at_the_same_moment_one_keeps_the_images(
    pair: tuple[Site, Site],
) -> None:
    first, second = pair
    gone: list[int] = []

    def meanwhile() -> None:
        first.pacs.when_answered = lambda: None
        gone.append(second.evict())

    first.pacs.when_answered = meanwhile
    assert (first.evict(), gone) == (0, [2])
    assert [one.files() for one in pair] == [2, 0]
    assert [one.figures().instances for one in pair] == [0, 2]


def test_a_document_among_the_images_stays(site: Site, store: Store, make_instance: Make) -> None:
    image = make_instance()
    document = make_instance(SOPClassUID=ENCAPSULATED_PDF, SeriesInstanceUID=generate_uid())
    assert [store(one) for one in (image, document)] == [0, 0]
    site.fetch(image.StudyInstanceUID)
    assert site.evict() == 0  # a report may be in it
    site.write(delete(ENCAPSULATED))

    site.clock.now += DAY
    assert site.evict() == 1
    assert site.files() == 1


def test_the_longest_unused_goes_first_until_the_rest_fits(
    site: Site, store: Store, make_instance: Make
) -> None:
    uids = [generate_uid() for _ in range(3)]
    for uid in uids:
        store(make_instance(StudyInstanceUID=uid, SeriesInstanceUID=generate_uid()))
        site.fetch(uid)
    total = sum(site.rows(uid)[0]["size"] for uid in uids)
    site.read(site.shown, uids[0])  # asked for after the others had come
    site.rest()

    assert site.evict(Bounds(bytes=total)) == 0
    assert site.evict(Bounds(bytes=total - 1)) == 1
    assert site.files() == 2
    assert site.read(site.blobs, uids[0])
    with pytest.raises(Away):
        site.read(Recalling(site.blobs.root, site.database, nobody(site), noting=False), uids[1])
    assert site.evict(Bounds(days=1)) == 0
    site.clock.now += DAY
    assert site.evict(Bounds(days=1)) == 2


def test_what_an_archive_has_not_committed_to_stays_where_it_is_asked_to(
    site: Site,
    study: list[Dataset],
    database: Database,
    blobs: BlobStore,
    start_receiver: Callable[[Listening], int],
) -> None:
    def commits(reports_to: dict[str, Peer]) -> None:
        """Have the archive asked for commitments; it reports there, or on the same association."""
        services = Commitments(database, blobs, "PACS", reports_to).services
        listening = Listening(port=0, titles=Titles(called="PACS"), services=services)
        peer = Peer("PACS", "127.0.0.1", start_receiver(listening))
        stay = 0.0 if reports_to else 10.0
        user = CommitmentUser(site.database, peer, "KOSMOS", stay=stay, clock=site.clock)
        site.evictor._archives = [replace(site.pacs.reached, assurance=user)]

    commits({"KOSMOS": Peer("KOSMOS", "127.0.0.1", 9)})
    assert site.evict() == 0  # asked, and not answered yet
    commits({})
    assert site.evict() == 0  # asked a moment ago
    site.clock.now += AGAIN_SECONDS
    assert site.evict() == 2


def test_the_word_of_one_archive_does_not_stand_for_what_another_has(
    site: Site, study: list[Dataset]
) -> None:
    class Silent:
        """Is asked, and says nothing."""

        def ask(self, _study: str) -> bool:
            return True

    def said(archive: str, outcome: Outcome) -> None:
        rows = [
            {
                "sop_instance_uid": row["sop_instance_uid"],
                "archive": archive,
                "study_instance_uid": row["study_instance_uid"],
                "sha256": row["sha256"],
                "transaction_uid": "1",
                "state": outcome,
                "changed_at": site.clock.now,
            }
            for row in site.rows(study[0].StudyInstanceUID)
        ]
        site.write(insert(ARCHIVE_COMMITMENT).values(rows))

    site.evictor._archives = [replace(site.pacs.reached, assurance=Silent())]
    said("OTHER", Outcome.COMMITTED)
    assert site.evict() == 0
    said(Pacs.title, Outcome.COMMITTED)
    assert site.evict() == 2


def test_an_archive_that_does_not_give_back_what_we_have_frees_nothing(
    site: Site, study: list[Dataset], liar: Archive, store: Store, make_instance: Make
) -> None:
    other = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    store(other)
    site.fetch(other.StudyInstanceUID)
    honest, site.pacs.archive = site.pacs.archive, liar
    site.evictor._tried.clear()
    assert site.evict() == 0
    site.clock.now += 3600
    site.pacs.archive = honest
    assert site.evict() == 0  # for a day
    assert site.pacs.fetched == [study[0].StudyInstanceUID]
    site.clock.now += DAY
    assert site.evict() == 0  # the file of a moment ago
    site.rest()
    assert site.evict() == 1
    assert site.pacs.fetched == [study[0].StudyInstanceUID, other.StudyInstanceUID]


def test_killed_between_the_mark_and_the_files_all_is_served_and_goes_later(
    site: Site, study: list[Dataset], tmp_path: Path, url: str
) -> None:
    uid = study[0].StudyInstanceUID
    now = site.clock.now + DAY
    site.database.close()  # an embedded database has one writing process

    def process(fault: str) -> int:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": fault}
        command = [sys.executable, str(PROGRAM), str(tmp_path), url, str(now)]
        return subprocess.run(command, env=environment, check=False).returncode

    @contextmanager
    def restarted() -> Iterator[Site]:
        with Database.open(f"sqlite:///{tmp_path / 'test.db'}") as database:
            yield Site(tmp_path, database, url, site.clock)

    point = "imaging.evicted"
    assert process(f"{point}:kill") == -9
    with restarted() as again:
        assert (again.figures().instances, again.files()) == (2, 2)
        readonly = Recalling(again.blobs.root, again.database, again.recaller, noting=False)
        assert len(again.read(readonly, uid)) == 2
        assert not again.check().alarm
        assert again.pacs.fetched == []

    assert process("") == 0
    with restarted() as again:
        assert (again.figures().instances, again.files()) == (2, 0)
        assert len(again.read(again.shown, uid)) == 2
        assert again.figures().instances == 0


def test_what_orthanc_has_goes_and_comes_back_by_c_move(
    tmp_path: Path, clock: Clock, database: Database, make_instance: Make, pacs_process: Orthanc
) -> None:
    site, peer = Site(tmp_path, database, "", clock), pacs_process.peer
    instances = [make_instance() for _ in range(2)]
    pacs_process.put(*instances)
    with Receiver(site.door, Listening(port=pacs_process.sends_to)):
        sides = FindUser(peer, "KOSMOS"), MoveUser(peer, "KOSMOS")
        site.pacs.archive = Archive(peer.title, *sides)
        uid = instances[0].StudyInstanceUID
        site.fetch(uid)
        before = site.read(site.blobs, uid)

        assert site.evict() == len(before) == 2
        assert site.read(site.shown, uid) == before
    pacs_process.clear()
