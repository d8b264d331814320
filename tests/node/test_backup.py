"""A node copied away while it serves, and brought back: complete, proved, or refused."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, insert, select, text, update

from consumer.client import Consumer
from hl7.client import MllpClient
from imaging_source.evicted import is_evicted, mark
from imaging_source.rejection import EXPIRED
from imaging_source.reporting import Kept, keep
from imaging_source.requestor import Peer
from imaging_source.schema import INSTANCE, REPORT
from metadata.datatypes import CX
from node import backup, feed, restore
from node.config_file import load
from node.demo.studies import sample_folder
from node.documents import Description, provide
from node.holdings import places, stores
from node.init import NewNode, create
from node.migrate import migrate
from node.operator import operator_name
from node.storescu import find_files, send
from node.wiring.blobs import open_blobs, open_images
from node.wiring.common import affinity_domain
from node.wiring.rooms import cross_check
from repository.documents import Documents
from soap.client import SoapClient
from soap.message import InMemory
from storage.database import Database
from tests.node.conftest import Node, free_ports
from tests.storage.object_server import ObjectServer
from transactions.iti_41 import ITI_41

Serve = Callable[[Path], Any]
Kosmos = Callable[..., subprocess.CompletedProcess[str]]
# Documents registered before the backup begins, and senders that go on during it.
BEFORE, SENDERS = 5, 3


class Sender:
    """Submits documents to a node until told to stop; ``accepted`` are those acknowledged."""

    def __init__(self, node: Any, folder: Path) -> None:
        self.settings = load(node.config)
        self.domain = affinity_domain(self.settings)
        self.node = node
        self.file = folder / f"{id(self)}.txt"
        self.patient = CX.of("4711", self.settings.affinity_domain.assigning_authority)
        self.accepted: list[str] = []
        self.client = SoapClient()

    def announce(self) -> None:
        host, port = self.node.endpoints["mllp"].split(":")
        authority = self.settings.affinity_domain.assigning_authority
        with MllpClient(host, int(port)) as client:
            answer = client.send(feed.announce(feed.Person("4711", "DOE^JANE"), authority))
        assert feed.acknowledgement(answer)[0] == "AA"

    def submit(self) -> None:
        self.file.write_text(f"{self.file.name} {len(self.accepted)}")
        described = Description(
            patient_id=self.patient,
            title="t",
            class_code="10",
            type_code="18748-4",
            format_code="urn:ihe:iti:xds:2017:mimeTypeSufficient",
            mime_type="text/plain",
        )
        unique_id, request = provide(self.file, described, self.settings, self.domain)
        response = self.client.call(self.node.endpoints["repository"], ITI_41, request)
        assert response.status.endswith(":Success")
        self.accepted.append(unique_id)

    def found(self) -> set[str]:
        """The uniqueIds that the registry answers with."""
        us = Consumer(self.node.endpoints["registry"], {}, {})
        return {entry.unique_id or "" for entry in us.find_documents(self.patient)}


@pytest.fixture
def node(tmp_path: Path, port_base: int, serve: Serve) -> Any:
    """A node that serves, with a few documents and images in it."""
    config = create(NewNode(tmp_path / "node", plain=True, port_base=port_base))
    return serve(config)


@pytest.fixture
def sender(node: Any, tmp_path: Path) -> Iterator[Sender]:
    sender = Sender(node, tmp_path)
    sender.announce()
    for _ in range(BEFORE):
        sender.submit()
    yield sender
    sender.client.close()


def store_images(node: Any) -> int:
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    files = list(find_files([sample_folder()]))[:3]
    answers = list(send(files, Peer("KOSMOS", host, int(port))))
    assert [answer.status for answer in answers] == [0] * len(files)
    return len(files)


def test_a_backup_under_load_holds_everything_acknowledged_before_it_began(
    node: Any, sender: Sender, tmp_path: Path, kosmos: Kosmos, serve: Serve
) -> None:
    images = store_images(node)
    stopping = threading.Event()
    others = [Sender(node, tmp_path) for _ in range(SENDERS)]

    def work(one: Sender) -> None:
        while not stopping.is_set():
            one.submit()

    threads = [threading.Thread(target=work, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):  # each at another moment of the traffic
            acknowledged = {unique_id for one in (sender, *others) for unique_id in one.accepted}
            made = backup.create(load(node.config), node.config, tmp_path / "backups")
            restored = restore.restore(made.folder, tmp_path / made.folder.name)
            assert not restored.alarm
            assert restored.documents.compared
            assert restored.counts["images"] == images
            assert restored.counts["documents"] >= len(acknowledged)
            _wait_for_the_next_second(made.folder)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert node.stop() == 0
    for one in others:
        one.client.close()
    again = serve(restored.config)
    sender.node = again
    assert acknowledged <= sender.found()


def _wait_for_the_next_second(folder: Path) -> None:
    """A backup is named by its second."""
    from datetime import UTC, datetime

    while f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}" == folder.name:
        threading.Event().wait(0.02)


def test_the_command_backs_up_and_restores_and_links_what_has_not_changed(
    node: Any, sender: Sender, tmp_path: Path, kosmos: Kosmos
) -> None:
    target = tmp_path / "backups"
    first = json.loads(kosmos("backup", target, "--json", "--config", node.config).stdout)
    assert first["stores"]["documents"]["count"] == BEFORE
    assert first["stores"]["documents"]["linked"] == 0
    sender.submit()
    _wait_for_the_next_second(Path(first["folder"]))
    second = json.loads(kosmos("backup", target, "--json", "--config", node.config).stdout)
    assert (second["stores"]["documents"]["count"], second["stores"]["documents"]["linked"]) == (
        BEFORE + 1,
        BEFORE,
    )
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "documents.sha256"], cwd=second["folder"], check=False
    )
    assert checked.returncode == 0
    told = kosmos("restore", target, "--into", tmp_path / "new", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["counts"]["documents"] == BEFORE + 1
    before, after = load(node.config), load(tmp_path / "new" / "kosmos.toml")
    assert after.repository.unique_id == before.repository.unique_id
    assert after.registry.database != before.registry.database
    again = kosmos("restore", target, "--into", tmp_path / "new")
    assert again.returncode == 1
    assert "is not empty" in again.stderr


def test_on_postgresql_a_backup_is_one_dump_of_one_snapshot(
    postgresql_url: str,
    tmp_path: Path,
    port_base: int,
    serve: Serve,
    kosmos: Kosmos,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls = [_database(postgresql_url, name) for name in ("backup_from", "backup_into")]
    config = create(NewNode(tmp_path / "node", plain=True, port_base=port_base, database=urls[0]))
    node = serve(config)
    sender = Sender(node, tmp_path)
    sender.announce()
    sender.submit()
    target = tmp_path / "backups"
    told = kosmos("backup", target, "--json", "--config", config)
    assert told.returncode == 0, told.stderr
    [database] = json.loads(told.stdout)["databases"]
    assert database["actors"] == ["registry", "repository", "imaging_source"]
    assert node.stop() == 0
    in_the_way = kosmos("restore", target, "--into", tmp_path / "new")
    assert in_the_way.returncode == 1
    assert "KOSMOS__REGISTRY__DATABASE" in in_the_way.stderr
    shutil.rmtree(tmp_path / "new")
    elsewhere = {
        f"KOSMOS__{actor}__DATABASE": urls[1]
        for actor in ("REGISTRY", "REPOSITORY", "IMAGING_SOURCE")
    }
    made = kosmos("restore", target, "--into", tmp_path / "new", "--json", **elsewhere)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["documents"]["compared"]
    sender.client.close()
    with pytest.MonkeyPatch.context() as context:
        context.setenv("PATH", "")
        without = kosmos("backup", target, "--config", config)
    assert without.returncode == 1
    assert "pg_dump is not on the PATH: install" in without.stderr


def _database(server: str, name: str) -> str:
    plain = server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return plain.replace("/postgres?", f"/{name}?")


# --- A node that does not serve ----------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a stopped node with documents and images, and what it accepted."""
    folder = tmp_path_factory.mktemp("prepared")
    node = Node(create(NewNode(folder / "node", plain=True, port_base=free_ports())))
    sender = Sender(node, folder)
    sender.announce()
    for _ in range(BEFORE):
        sender.submit()
    store_images(node)
    sender.client.close()
    assert node.stop() == 0
    return folder / "node", sender.accepted


@pytest.fixture
def quiet(prepared: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """The configuration of a node with documents that does not serve."""
    shutil.copytree(prepared[0], tmp_path / "node")
    return tmp_path / "node" / "kosmos.toml"


@pytest.fixture
def accepted(prepared: tuple[Path, list[str]]) -> list[str]:
    """The documents of that node."""
    return prepared[1]


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and len(file.name) == 64)


def test_a_node_that_never_served_has_nothing_to_back_up(
    plain_node: Path, tmp_path: Path, kosmos: Kosmos
) -> None:
    told = kosmos("backup", tmp_path / "backups", "--config", plain_node)
    assert told.returncode == 1
    assert "registry.db is empty: there is nothing to back up" in told.stderr


def test_a_secure_node_is_restored_before_its_keys_are_brought(tmp_path: Path) -> None:
    config = create(NewNode(tmp_path / "node"))
    migrate(load(config))
    made = backup.create(load(config), config, tmp_path / "backups")
    restored = restore.restore(made.folder, tmp_path / "new")
    assert restored.config.exists()
    assert not restored.alarm
    assert not (tmp_path / "new" / "pki").exists()


def test_half_a_backup_is_never_taken_for_one(quiet: Path, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    made = backup.create(load(quiet), quiet, target)
    half = target / "20991231T000000Z.partial"
    shutil.copytree(made.folder, half)
    assert backup.latest(target) == made.folder
    with pytest.raises(backup.BackupError, match="never finished"):
        restore.restore(half, tmp_path / "new")
    _wait_for_the_next_second(made.folder)
    backup.create(load(quiet), quiet, target)
    assert not half.exists()


def test_a_backup_that_fails_leaves_nothing_behind(quiet: Path, tmp_path: Path) -> None:
    def failing(_title: str, _total: int) -> Any:
        raise OSError(28, "No space left on device")

    target = tmp_path / "backups"
    with pytest.raises(OSError, match="No space"):
        backup.create(load(quiet), quiet, target, failing)
    assert [file.name for file in target.iterdir()] == [".lock"]


def test_two_backups_into_one_target_do_not_meet(quiet: Path, tmp_path: Path) -> None:
    target = tmp_path / "backups"

    def meanwhile(_title: str, _total: int) -> Any:
        backup.create(load(quiet), quiet, target)

    with pytest.raises(backup.BackupError, match="is running"):
        backup.create(load(quiet), quiet, target, meanwhile)


@pytest.mark.parametrize(
    "harmed", ["documents.sha256", "databases/registry.db", "config/kosmos.toml", "a document"]
)
def test_a_harmed_backup_makes_no_node(quiet: Path, tmp_path: Path, harmed: str) -> None:
    made = backup.create(load(quiet), quiet, tmp_path / "backups")
    file = files(made.folder)[0] if harmed == "a document" else made.folder / harmed
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(backup.BackupError, match="missing or not what it was") as error:
        restore.restore(made.folder, tmp_path / "new")
    assert str(file) in str(error.value)
    assert not (tmp_path / "new" / "kosmos.toml").exists()


def test_what_the_node_itself_has_lost_is_named_and_the_rest_backed_up(
    quiet: Path, tmp_path: Path, kosmos: Kosmos
) -> None:
    lost, damaged = files(quiet.parent / "data" / "documents")[:2]
    lost.unlink()
    damaged.write_bytes(b"x")
    told = kosmos("backup", tmp_path / "backups", "--config", quiet)
    assert told.returncode == 1
    assert f"missing: {lost.name}" in told.stdout
    assert f"damaged: {damaged.name}" in told.stdout
    restored = kosmos("restore", tmp_path / "backups", "--into", tmp_path / "new", "--json")
    assert restored.returncode == 1
    assert sorted(json.loads(restored.stdout)["lost"]) == sorted([lost.name, damaged.name])
    assert len(json.loads(restored.stdout)["documents"]["missing"]) == 2


def test_documents_on_an_object_store_are_copied_out_of_it_and_into_another(
    quiet: Path,
    tmp_path: Path,
    accepted: list[str],
    object_server: ObjectServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = f"s3://kosmos/{tmp_path.name}"
    folder = load(quiet).repository.blobs
    (tmp_path / "access").write_text("key")
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("KOSMOS__REPOSITORY__BLOBS", place)
    monkeypatch.setenv("KOSMOS__OBJECT_STORE__ENDPOINT", f"http://127.0.0.1:{object_server.port}")
    monkeypatch.setenv("KOSMOS__OBJECT_STORE__ACCESS_KEY_FILE", str(tmp_path / "access"))
    monkeypatch.setenv("KOSMOS__OBJECT_STORE__SECRET_KEY_FILE", str(tmp_path / "secret"))
    settings = load(quiet)
    bucket = open_blobs(settings)
    for file in files(Path(str(folder))):
        bucket.keep(InMemory(file.read_bytes()))
    lost, *_ = bucket.inventory()
    bucket.delete(lost.sha256)

    made = backup.create(settings, quiet, tmp_path / "backups")

    assert made.alarm
    assert made.stores["documents"].missing == [lost.sha256]
    assert made.stores["documents"].count == len(accepted) - 1
    with pytest.raises(backup.BackupError, match=f"{place} is not empty"):
        restore.restore(made.folder, tmp_path / "refused")
    monkeypatch.setenv("KOSMOS__REPOSITORY__BLOBS", f"{place}-new")
    restored = restore.restore(made.folder, tmp_path / "new")
    assert restored.lost == [lost.sha256]
    assert len(list(open_blobs(load(restored.config)).inventory())) == len(accepted) - 1


def test_a_removed_document_is_not_missed(quiet: Path, tmp_path: Path, accepted: list[str]) -> None:
    settings = load(quiet)
    with Database.open(settings.repository.database) as database:
        Documents(database).remove(accepted[0])
    made = backup.create(settings, quiet, tmp_path / "backups")
    assert not made.alarm
    assert made.stores["documents"].count == len(accepted) - 1


def test_what_is_with_its_archive_alone_or_has_expired_is_not_missed_and_reports_are_here(
    quiet: Path, tmp_path: Path
) -> None:
    settings = load(quiet)
    images = open_images(settings)
    report = keep(images, b"%PDF-1.7 a report that came by HL7")
    with Database.open(settings.imaging_source.database) as database:
        with database.read() as connection:
            row, expired, *_ = connection.execute(select(INSTANCE)).mappings().all()
        study, uid = row["study_instance_uid"], row["sop_instance_uid"]

        def work(connection: Connection) -> None:
            mark(connection, study, [uid], 0.0)
            same = INSTANCE.c.sop_instance_uid == expired["sop_instance_uid"]
            connection.execute(update(INSTANCE).where(same).values(rejection=EXPIRED))
            connection.execute(insert(REPORT), _report_of(report))

        database.write(work)
    for gone in (row, expired):
        images.delete(gone["sha256"])

    made = backup.create(settings, quiet, tmp_path / "backups")
    restored = restore.restore(tmp_path / "backups", tmp_path / "new")
    assert not made.alarm
    assert restored.missing_images == []
    assert open_images(load(restored.config)).holds(report.sha256)
    index = load(restored.config).imaging_source.database
    with Database.open(index) as database, database.read() as connection:
        assert is_evicted(connection, uid)


def _report_of(document: Kept) -> dict[str, Any]:
    texts = dict.fromkeys(("sender", "issued_at", "study_instance_uid", "accession_number"), "")
    numbers = dict.fromkeys(
        ("received_at", "changed_at", "revision", "published_revision", "attempts"), 0
    )
    names = {"report_uid": "1.2.3", "status": "final", "content": b"{}"}
    return {**texts, **numbers, **names, "sha256": document.sha256, "size": document.size}


def test_the_cross_check_finds_a_document_without_a_row(quiet: Path, accepted: list[str]) -> None:
    settings = load(quiet)
    gone = accepted[0]
    with Database.open(settings.repository.database) as database:
        statement = text("DELETE FROM stored_document WHERE unique_id = :id")
        database.write(lambda connection: connection.execute(statement, {"id": gone}).close())
    assert cross_check(settings, _silent()).unheld == [gone]


def _silent() -> Any:
    from node.progress import silent

    return silent


def test_reconcile_names_exactly_the_blob_and_the_rows_that_are_gone(
    quiet: Path, accepted: list[str], kosmos: Kosmos
) -> None:
    settings = load(quiet)
    assert kosmos("reconcile", "--scrub", "--config", quiet).returncode == 0
    rows = _addresses(settings)
    blob, row, entry = accepted[:3]
    for path in files(quiet.parent / "data" / "documents"):
        if path.name == rows[blob]:
            path.unlink()
    for database, statement, unique_id in (
        (settings.repository.database, "DELETE FROM stored_document WHERE unique_id = :id", row),
        (settings.registry.database, "DELETE FROM identity WHERE unique_id = :id", entry),
    ):
        with Database.open(database) as opened:
            work = _statement(statement, unique_id)
            opened.write(work)
    told = kosmos("reconcile", "--grace-hours", "0", "--json", "--config", quiet)
    assert told.returncode == 1
    found = json.loads(told.stdout)
    assert (found["missing"], found["unheld"], found["unregistered"]) == ([blob], [row], [entry])
    assert found["unreferenced"] == [rows[row]]
    assert (found["damaged"], found["undecided"], found["removed"]) == ([], [], [])
    assert found["alarm"]
    for_a_person = kosmos("reconcile", "--grace-hours", "0", "--config", quiet)
    for line in (f"missing: {blob}", f"unheld: {row}", f"unregistered: {entry}"):
        assert line in for_a_person.stdout.splitlines()


def test_reconcile_records_what_it_asks_a_registry_elsewhere(
    quiet: Path, accepted: list[str], kosmos: Kosmos
) -> None:
    with Database.open(load(quiet).repository.database) as database:
        unconfirmed = "UPDATE stored_document SET state = 'stored' WHERE unique_id = :id"
        database.write(_statement(unconfirmed, accepted[0]))
    elsewhere = {
        "KOSMOS__REGISTRY__ENABLED": "false",
        "KOSMOS__IMAGING_SOURCE__ENABLED": "false",
        "KOSMOS__REPOSITORY__REGISTRY": "http://127.0.0.1:9/registry",
    }
    told = kosmos("reconcile", "--grace-hours", "0", "--json", "--config", quiet, **elsewhere)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["undecided"] == [accepted[0]]
    found = json.loads(kosmos("audit", "find", "--config", quiet, "--json").stdout)
    [asked] = [one for one in found if one["trail"] == "client-0"]
    assert (asked["transaction"], asked["outcome"]) == ("ITI-18", 12)
    assert operator_name() in asked["users"]


def test_reconcile_with_scrub_names_a_damaged_document(
    quiet: Path, accepted: list[str], kosmos: Kosmos
) -> None:
    settings = load(quiet)
    address = _addresses(settings)[accepted[0]]
    [path] = [x for x in files(quiet.parent / "data" / "documents") if x.name == address]
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert kosmos("reconcile", "--config", quiet).returncode == 0
    told = kosmos("reconcile", "--scrub", "--json", "--config", quiet)
    assert json.loads(told.stdout)["damaged"] == [accepted[0]]


def _statement(statement: str, unique_id: str) -> Any:
    def work(connection: Any) -> None:
        connection.execute(text(statement), {"id": unique_id}).close()

    return work


def _addresses(settings: Any) -> dict[str, str]:
    with (
        Database.open(settings.repository.database, read_only=True) as database,
        database.read() as connection,
    ):
        found = connection.execute(text("SELECT unique_id, sha256 FROM stored_document"))
        return {row[0]: row[1] for row in found}


def test_migrate_says_from_where_to_where(kosmos: Kosmos, plain_node: Path) -> None:
    first = json.loads(kosmos("migrate", "--json", "--config", plain_node).stdout)
    again = json.loads(kosmos("migrate", "--json", "--config", plain_node).stdout)
    assert [one["actor"] for one in first] == ["registry", "repository", "imaging_source"]
    assert {one["before"] for one in first} == {None}
    assert [one["before"] for one in again] == [one["after"] for one in first]
    assert "registry: up to date" in kosmos("migrate", "--config", plain_node).stdout


def test_the_places_of_a_node_are_its_databases_and_stores(plain_node: Path) -> None:
    settings = load(plain_node)
    assert [place.actors for place in places(settings)] == [
        ("registry",),
        ("repository",),
        ("imaging_source",),
    ]
    assert [store.name for store in stores(settings)] == ["documents", "images"]
    assert not os.path.exists(settings.node.data_dir)
