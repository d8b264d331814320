"""Two nodes over one database and one store of documents: whoever is asked, the answer is one.

The first node has two web processes, the second one. They share PostgreSQL and a bucket, know
nothing of each other, and hold no lock that the other would need.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from threading import Barrier, Event
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import make_url

from hl7.client import MllpClient
from metadata import identifiers as xds
from metadata.datatypes import new_oid
from node import feed
from soap.client import SoapClient
from soap.faults import PeerError, SoapFault
from soap.message import InMemory
from storage.blobs import BlobStore
from storage.contract import Blobs
from storage.objects import ObjectStore
from tests.registry.conftest import Draft, cx
from tests.storage.object_server import ObjectServer
from tests.system.conftest import Nodes, RunningNode
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_documents, find_submission_sets

T = TypeVar("T")

RIVALS = 16

# Calls that a process holds at once, and how many more a test makes; two of them are at work.
IN_FLIGHT, EXCESS, WORKERS = RIVALS, 8, 2


@dataclass
class Region:
    """Two nodes, and the words to use them."""

    nodes: Sequence[RunningNode]
    client: SoapClient
    database: str
    blobs: Blobs

    def query(self, node: RunningNode, request: AdhocQueryRequest) -> Any:
        response = self.client.call(node.endpoints["registry"], ITI_18, request)
        assert response.status == xds.SUCCESS, response.errors
        return response.objects()

    def submit(self, node: RunningNode, draft: Draft) -> RegistryResponse:
        return self.client.call(node.endpoints["registry"], ITI_42, draft.request())

    def provide(self, node: RunningNode, draft: Draft, data: bytes) -> RegistryResponse:
        contents = {one.entry_uuid: InMemory(data) for one in draft.submission.documents}
        request = ProvideAndRegisterRequest(draft.request(), contents)
        return self.client.call(node.endpoints["repository"], ITI_41, request)

    def retrieve(self, node: RunningNode, unique_id: str) -> list[bytes]:
        repository = node.settings["repository"]["unique_id"]
        request = RetrieveDocumentSetRequest((DocumentRequest(repository, unique_id),))
        response = self.client.call(node.endpoints["repository"], ITI_43, request)
        return [b"".join(document.content.chunks()) for document in response.documents]

    def remove(self, node: RunningNode, unique_id: str) -> RegistryResponse:
        repository = node.settings["repository"]["unique_id"]
        request = RemoveDocumentsRequest((DocumentRequest(repository, unique_id),))
        return self.client.call(node.endpoints["repository"], ITI_86, request)

    def everywhere(self, task: Callable[[RunningNode], T], times: int = RIVALS) -> list[T]:
        """The task at one moment on each node in turn; the results in order."""
        start = Barrier(times)

        def run(node: RunningNode) -> T:
            start.wait()
            return task(node)

        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(run, islice(cycle(self.nodes), times)))

    def merge(self, node: RunningNode, survivor: str, subsumed: str) -> str:
        host, port = node.endpoints["mllp"].split(":")
        authority = node.settings["affinity_domain"]["assigning_authority"]
        with MllpClient(host, int(port)) as client:
            answer = client.send(feed.merge(feed.Person(survivor, "DOE^JANE"), subsumed, authority))
        code, words = feed.acknowledgement(answer)
        assert code == "AA", words
        return code


@pytest.fixture(scope="module", params=["folder", "bucket"])
def region(
    request: pytest.FixtureRequest, postgresql_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Region]:
    folder = tmp_path_factory.mktemp("region")
    name = f"region_{os.getpid()}_{request.param}"
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database = postgresql_url.replace("+psycopg", "").replace("/postgres?", f"/{name}?")
    environment, blobs = places(request, folder)
    shared = {
        "KOSMOS__REGISTRY__DATABASE": database,
        "KOSMOS__REPOSITORY__DATABASE": database,
        "KOSMOS__REPOSITORY__ADMINISTRATION": "true",
        "KOSMOS__IMAGING_SOURCE__ENABLED": "false",
        "KOSMOS__AFFINITY_DOMAIN__CODES": str(folder / "no_codes.toml"),
        "KOSMOS__LIMITS__WORKERS": str(WORKERS),
        "KOSMOS__LIMITS__QUEUE": str(IN_FLIGHT),
        **environment,
    }
    (folder / "no_codes.toml").touch()  # any code is good
    first = Nodes(folder / "first")
    second = Nodes(folder / "second")
    shutil.copy(first.config, second.config)  # one registry, one repository, at two places
    try:
        with ThreadPoolExecutor(2) as pool:  # together, so that both find an empty database
            two = pool.submit(partial(first.start, **shared, KOSMOS__NODE__WEB_PROCESSES="2"))
            one = pool.submit(partial(second.start, **shared))
            nodes = [two.result(), one.result()]
        client = SoapClient()
        for patient in ("P1", "P2", "P3"):
            assert nodes[0].announce(patient) == "AA"
        yield Region(nodes, client, database, blobs)
        client.close()
    finally:
        first.close()
        second.close()


def places(request: pytest.FixtureRequest, folder: Path) -> tuple[dict[str, str], Blobs]:
    """Where both nodes keep documents: as they are told, and as a test looks into it."""
    if request.param == "folder":
        shared = folder / "documents"
        return {"KOSMOS__REPOSITORY__BLOBS": str(shared)}, BlobStore(shared)
    server: ObjectServer = request.getfixturevalue("object_server")
    bucket = server.bucket(f"two-nodes/{os.getpid()}")
    (folder / "access").write_text(bucket.access_key)
    (folder / "secret").write_text(bucket.secret_key)
    environment = {
        "KOSMOS__REPOSITORY__BLOBS": f"s3://{bucket.name}/{bucket.prefix}",
        "KOSMOS__OBJECT_STORE__ENDPOINT": bucket.endpoint,
        "KOSMOS__OBJECT_STORE__ACCESS_KEY_FILE": str(folder / "access"),
        "KOSMOS__OBJECT_STORE__SECRET_KEY_FILE": str(folder / "secret"),
    }
    return environment, ObjectStore(bucket, folder / "arriving")


def verdicts(responses: Sequence[RegistryResponse]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(error.code for error in response.errors) for response in responses)


def test_identical_documents_given_to_both_nodes_are_one_and_both_serve_it(region: Region) -> None:
    unique_id, data = new_oid(), os.urandom(100_000)

    def provide(node: RunningNode) -> RegistryResponse:
        draft = Draft(cx("P1"))
        draft.document(unique_id=unique_id, hash=None, size=None)
        return region.provide(node, draft, data)

    assert verdicts(region.everywhere(provide)) == {(): RIVALS}
    served = region.everywhere(lambda node: region.retrieve(node, unique_id), times=4)
    assert served == [[data]] * 4


def test_of_many_replacements_through_both_nodes_one_wins(region: Region) -> None:
    draft = Draft(cx("P2"))
    unique_id = str(draft.document().unique_id)
    assert region.submit(region.nodes[0], draft).status == xds.SUCCESS
    [old] = region.query(region.nodes[1], find_documents(cx("P2"))).documents
    assert old.unique_id == unique_id

    def replace(node: RunningNode) -> RegistryResponse:
        rival = Draft(cx("P2"))
        rival.link(xds.RPLC, rival.document().entry_uuid, old.entry_uuid)
        return region.submit(node, rival)

    outcome = verdicts(region.everywhere(replace))
    assert outcome == {(): 1, ("XDSRegistryDeprecatedDocumentError",): RIVALS - 1}
    for node in region.nodes:
        [new] = region.query(node, find_documents(cx("P2"))).documents
        assert new.unique_id != unique_id


def test_one_unique_id_of_sets_given_to_both_nodes_is_stored_once(region: Region) -> None:
    unique_id = new_oid()

    def submit(node: RunningNode) -> RegistryResponse:
        draft = Draft(cx("P3"))
        draft.document()
        draft.set.unique_id = unique_id
        return region.submit(node, draft)

    outcome = verdicts(region.everywhere(submit))
    assert outcome == {(): 1, ("XDSDuplicateUniqueIdInRegistry",): RIVALS - 1}
    for node in region.nodes:
        found = region.query(node, find_submission_sets(cx("P3")))
        assert [one.unique_id for one in found.submission_sets] == [unique_id]
        assert len(region.query(node, find_documents(cx("P3"))).documents) == 1


def test_a_merge_on_one_node_and_registrations_on_the_other_leave_nobody_behind(
    region: Region,
) -> None:
    first, second = region.nodes
    survivor, subsumed = new_oid(), new_oid()
    for patient in (survivor, subsumed):
        assert first.announce(patient) == "AA"
    accepted: list[str] = []
    start = Barrier(RIVALS + 1)

    def register() -> tuple[str, ...]:
        draft = Draft(cx(subsumed))
        unique_id = str(draft.document().unique_id)
        start.wait()
        response = region.submit(second, draft)
        if response.status == xds.SUCCESS:
            accepted.append(unique_id)
        return tuple(error.code for error in response.errors)

    def merge() -> str:
        start.wait()
        return region.merge(first, survivor, subsumed)

    with ThreadPoolExecutor(RIVALS + 1) as pool:
        merging = pool.submit(merge)
        registering = [pool.submit(register) for _ in range(RIVALS)]
        assert merging.result() == "AA"
        outcomes = {future.result() for future in registering}
    assert outcomes <= {(), ("XDSUnknownPatientId",)}
    for node in region.nodes:
        documents = region.query(node, find_documents(cx(survivor))).documents
        assert sorted(str(one.unique_id) for one in documents) == sorted(accepted)
        assert {one.patient_id for one in documents} <= {cx(survivor)}


def test_what_is_removed_through_one_node_is_served_by_neither(region: Region) -> None:
    """Readers go on at both nodes; each notes what it began after the removal was answered."""
    unique_id, data = new_oid(), os.urandom(1000)
    first, second = region.nodes
    draft = Draft(cx("P1"))
    draft.document(unique_id=unique_id, hash=None, size=None)
    assert region.provide(first, draft, data).status == xds.SUCCESS
    removed, done = Event(), Event()
    reading = Barrier(len(region.nodes) + 1)

    def read(node: RunningNode) -> list[bool]:
        assert region.retrieve(node, unique_id) == [data]
        reading.wait()
        served_after = []
        while not done.is_set():
            after = removed.is_set()
            served = region.retrieve(node, unique_id)
            assert served in ([data], [])
            if after:
                served_after.append(bool(served))
        return served_after

    with ThreadPoolExecutor(len(region.nodes)) as pool:
        readers = [pool.submit(read, node) for node in region.nodes]
        try:
            reading.wait()
            assert region.remove(second, unique_id).status == xds.SUCCESS
            removed.set()
            assert [region.retrieve(node, unique_id) for node in region.nodes] == [[], []]
        finally:
            done.set()
        assert not any(late for reader in readers for late in reader.result())
    assert hashlib.sha256(data).hexdigest() not in {
        blob.sha256 for blob in region.blobs.inventory()
    }


def test_one_document_is_one_blob_whoever_was_given_it(region: Region) -> None:
    data = os.urandom(1000)
    for node in region.nodes:
        draft = Draft(cx("P1"))
        draft.document(hash=None, size=None)
        assert region.provide(node, draft, data).status == xds.SUCCESS
    address = hashlib.sha256(data).hexdigest()
    assert [blob.sha256 for blob in region.blobs.inventory()].count(address) == 1


@contextmanager
def paused(region: Region) -> Iterator[None]:
    """The database server, stopped: it takes no connection and answers nothing."""
    url = make_url(region.database)
    folder = Path(str(url.query["host"]))
    server = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    with psycopg.connect(region.database) as connection:
        ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'kosmos'"
        backends = [pid for (pid,) in connection.execute(ours)]
    for process in (server, *backends):
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in (server, *backends):
            os.kill(process, signal.SIGCONT)


def test_a_paused_database_holds_up_a_bounded_number_and_the_rest_is_told_to_come_back(
    region: Region,
) -> None:
    node = region.nodes[1]
    region.query(node, find_documents(cx("P1")))  # it has a connection that will be paused

    def ask() -> str:
        try:
            region.query(node, find_documents(cx("P1")))
        except (PeerError, SoapFault) as error:
            return str(error)
        return "answered"

    with ThreadPoolExecutor(IN_FLIGHT + EXCESS) as pool:
        with paused(region):
            asking = [pool.submit(ask) for _ in range(IN_FLIGHT + EXCESS)]
            refused = list(islice(as_completed(asking, timeout=30), EXCESS))
            assert all("busy" in future.result().lower() for future in refused)
            assert sum(future.done() for future in asking) == EXCESS
        outcomes = Counter(future.result() for future in asking)
    assert outcomes["answered"] == IN_FLIGHT
    region.query(node, find_documents(cx("P1")))
