"""Peers for the kit: the real actors on loopback, and peers that are wrong on purpose."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

import imaging_source.index as imaging_source
import registry as registry_room
import repository as repository_room
from conformance.material import SOURCE_ID
from conformance.simulator import listening
from conformance.targets import Targets
from hl7.feed import answer
from hl7.mllp import Handler, MllpServer
from hl7.v3.acknowledgement import Acknowledgement
from hl7.v3.feed import answer as answer_v3
from hl7.v3.request import IdentityRequest
from metadata.affinity_domain import AffinityDomain, default_codes
from metadata.datatypes import new_oid
from metadata.model import DocumentEntry, Submission
from registry.patients import Patients
from registry.registry import Registry
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import Notifier
from registry.subscriptions.pull_points import NOBODY, PullPoints
from repository.on_demand import Assembly, Source
from repository.repository import Repository
from repository.snapshots import Snapshots, Versions
from soap.client import SoapClient
from soap.endpoint import Endpoint, Operation
from soap.faults import PeerError
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database
from tests.conformance.imaging_actor import SOURCE, TITLE, ImagingActor
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_41 import ITI_41
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_43 import ITI_43
from transactions.iti_44 import ITI_44
from transactions.iti_51 import ITI_51
from transactions.iti_52 import (
    ITI_52,
    ITI_52_UNSUBSCRIBE,
    SubscribeRequest,
    UnsubscribeRequest,
    UnsubscribeResponse,
)
from transactions.iti_53 import ITI_53, Notify
from transactions.iti_54 import ITI_54
from transactions.iti_57 import ITI_57
from transactions.iti_61 import ITI_61
from transactions.iti_62 import ITI_62
from transactions.iti_69 import ITI_69, ITI_69_DESTROY
from transactions.iti_70 import ITI_70, PullRequest, PullResponse
from transactions.iti_86 import ITI_86
from transactions.iti_92 import ITI_92
from transactions.rad_69 import RAD_69
from transactions.registry_response import RegistryResponse, RegistryUnavailable
from transactions.stored_query import get_documents
from transactions.transaction import Transaction

AUTHORITY = "1.2.250.1.213.1.4.10"
NAMESPACE = "KIT"
ASSEMBLED = Targets().codes("typeCode")[1]


def domain_of(*source_ids: str) -> AffinityDomain:
    """A domain that leaves nothing open: each of its rules can be broken."""
    codes = default_codes()
    folders = {"2.25.99": ["A Admission", "B Follow-up"]}
    return AffinityDomain.from_mapping(
        {
            **codes,
            "assigning_authority": f"{NAMESPACE}&{AUTHORITY}&ISO",
            "codes": {**codes["codes"], "codeList": folders},
            "languages": ["fr-FR", "en"],
            "source_ids": [SOURCE_ID, *source_ids],
        }
    )


@contextmanager
def running_mllp(handler: Handler) -> Iterator[int]:
    """An MLLP server in a thread; yields its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = MllpServer(handler)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield server.port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def free_port() -> int:
    """A port nobody listens on, nor will: below those that systems give to connections."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with suppress(OSError), socket.create_server(("0.0.0.0", port)):
            return port


def fresh_database(server: str, name: str) -> str:
    """The URL of a new database on a PostgreSQL server."""
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return server.replace("/postgres?", f"/{name}?")


def _doing(exchange: Transaction[Any, Any], perform: Callable[[Any], Any]) -> Operation[Any, Any]:
    return Operation(exchange, lambda request, context: perform(request))


class Speaker:
    """Assembles documents that tell what they are."""

    def serves(self, entry: DocumentEntry) -> bool:
        return entry.type_code == ASSEMBLED

    def assemble(self, entry: DocumentEntry) -> Assembly:
        return Assembly(b"news", lambda unique_id, moment: f"<kit id='{unique_id}'/>".encode())


@dataclass
class Lies:
    """What a wrong broker does in another way; a right one has none."""

    hear: Callable[[SubscribeRequest], SubscribeRequest] = lambda request: request
    leave: Callable[[Broker, UnsubscribeRequest], UnsubscribeResponse] = Broker.unsubscribe
    tell: Callable[[Notify], list[Notify]] = lambda request: [request]
    give: Callable[[PullPoints, PullRequest], PullResponse] = lambda points, request: points.get(
        request, NOBODY, lambda notify: notify
    )


class System:
    """The actors, in process, behind their real doors."""

    def __init__(self, folder: Path, stack: ExitStack, server: str | None) -> None:
        self._repository_ids = {name: new_oid() for name in ("repository", "simulated")}
        self.domain = domain_of(*self._repository_ids.values(), SOURCE)
        self.repositories: dict[str, Repository] = {}
        self._stack = stack
        self._folder = folder
        self._server = server
        self._pool = stack.enter_context(ThreadPoolExecutor(8))
        self._blobs = BlobStore(folder / "blobs")
        database = self._database("registry", registry_room.MIGRATIONS)
        self.registry = Registry(database, self.domain)
        self.patients = Patients(database, self.domain)
        images = self._database("imaging", imaging_source.MIGRATIONS)
        self.imaging = ImagingActor(images, folder, stack)
        self.lies = Lies()
        self.simulator_port = free_port()
        self.listener_port = free_port()
        apps = {
            "/registry": self._endpoint(
                "DocumentRegistry",
                _doing(ITI_18, self.registry.query),
                _doing(ITI_51, self.registry.query_patients),
                _doing(ITI_42, self.registry.register),
                _doing(ITI_61, self.registry.register_on_demand),
                _doing(ITI_57, self.registry.update),
                _doing(ITI_62, self.registry.remove),
                _doing(ITI_92, self.registry.restricted_update),
            ),
            "/repository": self._repository("repository", self.registry.register),
            "/simulated": self._repository("simulated", self._to_simulator()),
            "/imaging": self._endpoint(
                "ImagingDocumentSource", _doing(RAD_69, self.imaging.retrieve)
            ),
            "/identity": self._identity_v3(),
        }
        mounts = self.imaging.mounts(self._pool)
        self.url = stack.enter_context(running_server(Router(apps, mounts)))
        self.broker = self._broker(database)
        provide = self.repositories["repository"].provide_and_register
        self.imaging.publish(self.domain, provide, self._repository_ids["repository"])
        self.mllp = stack.enter_context(running_mllp(self._feed))

    def _database(self, name: str, migrations: Path) -> Database:
        """A database of its own: a file, or one on the PostgreSQL ``server``."""
        if self._server is None:
            url = f"sqlite:///{self._folder / name}.db"
        else:
            url = fresh_database(self._server, f"kit_{os.getpid()}_{name}")
        database = Database.open(url)
        self._stack.callback(database.close)
        database.migrate(migrations)
        return database

    def _endpoint(self, service: str, *operations: Operation[Any, Any]) -> Endpoint:
        return Endpoint(
            operations,
            pool=self._pool,
            title=service,
            service_name=service,
            spool=self._blobs.spool,
        )

    def _repository(
        self, name: str, register: Callable[[SubmitObjectsRequest], RegistryResponse]
    ) -> Endpoint:
        database = self._database(name, repository_room.MIGRATIONS)
        unique_id = self._repository_ids[name]
        self.repositories[name] = repository = Repository(
            database,
            self._blobs,
            unique_id,
            register,
            administration=True,
            on_demand=self._on_demand(unique_id),
        )
        return self._endpoint(
            "DocumentRepository",
            _doing(ITI_41, repository.provide_and_register),
            _doing(ITI_43, repository.retrieve),
            _doing(ITI_86, repository.remove),
        )

    def _broker(self, database: Database) -> str:
        """A broker beside the registry, at an address that it knows beforehand."""
        port, consumers = free_port(), Consumers(loopback=True)
        address = f"http://127.0.0.1:{port}/subscriptions"
        broker = Broker(database, address, consumers, longest=timedelta(days=1), most=1000)
        points = PullPoints(database, address, most=1000, messages=1000, longest=timedelta(days=1))
        endpoint = self._endpoint(
            "NotificationBroker",
            _doing(ITI_52, lambda request: broker.subscribe(self.lies.hear(request))),
            _doing(ITI_52_UNSUBSCRIBE, lambda request: self.lies.leave(broker, request)),
            _doing(ITI_54, broker.publish),
            _doing(ITI_69, lambda request: points.create(request, NOBODY)),
            _doing(ITI_69_DESTROY, lambda request: points.destroy(request, NOBODY)),
            _doing(ITI_70, lambda request: self.lies.give(points, request)),
        )
        self._stack.enter_context(listening(port, Router({"/subscriptions": endpoint})))
        client = SoapClient()
        self._stack.callback(client.close)

        def send(consumer: str, request: Notify) -> None:
            for one in self.lies.tell(request):
                client.send(consumer, ITI_53, one)

        notifier = Notifier(database, send, address, give_up_seconds=3600)
        notifier.start()
        self._stack.callback(notifier.stop)
        return address

    def _on_demand(self, unique_id: str) -> Source:
        content_type = Targets().codes("contentTypeCode")[0]

        def ask(request: AdhocQueryRequest) -> Submission:
            return self.registry.query(request).objects()

        return Source(
            entries=lambda name: ask(get_documents(unique_id=[name])).documents,
            providers=[Speaker()],
            snapshots=Snapshots(self.registry.register, ask, unique_id, content_type, True),
            versions=Versions(self.registry.update, unique_id, content_type),
        )

    def _to_simulator(self) -> Callable[[SubmitObjectsRequest], RegistryResponse]:
        client = SoapClient()
        self._stack.callback(client.close)
        url = f"http://127.0.0.1:{self.simulator_port}/registry"

        def register(request: SubmitObjectsRequest) -> RegistryResponse:
            try:
                return client.call(url, ITI_42, request)
            except PeerError as error:
                raise RegistryUnavailable(str(error)) from error

        return register

    def _identity_v3(self) -> Endpoint:
        def handle(request: IdentityRequest, context: Any) -> Acknowledgement:
            return answer_v3(request, self.patients.apply, self.domain.assigning_authority)

        return self._endpoint("IdentityV3", *(Operation(one, handle) for one in ITI_44.values()))

    def _feed(self, raw: bytes, peer: str) -> bytes:
        return answer(raw, self.patients.apply, self.domain.assigning_authority)

    def targets(self, **changes: Any) -> Targets:
        """The targets of this system."""
        given: dict[str, Any] = {
            "registry": f"{self.url}/registry",
            "repository": f"{self.url}/repository",
            "imaging": f"{self.url}/imaging",
            "mllp": f"127.0.0.1:{self.mllp}",
            "identity_v3": f"{self.url}/identity",
            "domain": self.domain,
            "subscriptions": self.broker,
            "listener": f"127.0.0.1:{self.listener_port}",
            "broker_restart": "true",
            "link_change": True,
            "multi_patient": True,
            "on_demand": True,
            "on_demand_type": ASSEMBLED,
            "administration": True,
            "namespace": NAMESPACE,
            "study": self.imaging.study,
            "crash": "true",
            "imaging_unique_id": self.imaging.unique_id,
            "dicomweb": f"{self.url}/dicomweb",
            "wado_uri": f"{self.url}/wado",
            "dicom": f"{TITLE}@127.0.0.1:{self.imaging.port}",
            "move_to": self.imaging.move_to,
            "publishes": True,
            "repository_facing_simulator": f"{self.url}/simulated",
            "simulator_port": self.simulator_port,
            "big_document": 3 * 1024 * 1024 + 17,
            "timeout": 20.0,
        }
        return Targets(**{**given, **changes})


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """The actors, on each engine."""
    on_server = request.param == "postgresql"
    server: str | None = request.getfixturevalue("postgresql_url") if on_server else None
    with ExitStack() as stack:
        yield System(tmp_path_factory.mktemp("system"), stack, server)


@pytest.fixture(scope="session")
def closed_domain() -> AffinityDomain:
    return domain_of()


@pytest.fixture(scope="session")
def run_mllp() -> Callable[[Handler], AbstractContextManager[int]]:
    return running_mllp
