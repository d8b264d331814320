"""Our repository against a registry that nobody here wrote: a SOAP 1.2 service by spyne."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from lxml import etree

from metadata import ebrim
from metadata.datatypes import CX
from metadata.identifiers import FAILURE, LCM, RIM, RS, SUCCESS
from metadata.model import Submission
from repository import MIGRATIONS, Repository
from soap.client import SoapClient
from soap.endpoint import Endpoint, Operation
from soap.message import InMemory
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest

OURS = "1.2.250.1.999.2"
PATIENT = CX("1^^^&1.2.250.1.999&ISO")

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="spyne imports on Python 3.11 at most"
)


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line in the test's output."""


class SpyneRegistry:
    """A registry by spyne that answers ITI-42 with ``status`` and keeps what it was sent."""

    def __init__(self) -> None:
        self.received: list[etree._Element] = []
        self.status = SUCCESS

    def application(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spyne's own, of modules it should not import
            from spyne import AnyXml, Application, ComplexModel, Service, Unicode, XmlAttribute, rpc
            from spyne.protocol.soap import Soap12
            from spyne.server.wsgi import WsgiApplication

        registry = self

        class SubmitObjects(ComplexModel):  # type: ignore[misc]
            __namespace__ = LCM
            __type_name__ = "SubmitObjectsRequest"
            objects = AnyXml(sub_ns=RIM, sub_name="RegistryObjectList")

        class Response(ComplexModel):  # type: ignore[misc]
            __namespace__ = RS
            __type_name__ = "RegistryResponse"
            status = XmlAttribute(Unicode)

        class Registry(Service):  # type: ignore[misc]
            @rpc(
                SubmitObjects,
                _returns=Response,
                _body_style="bare",
                _in_message_name=f"{{{LCM}}}SubmitObjectsRequest",
                _out_message_name=f"{{{RS}}}RegistryResponse",
            )  # type: ignore[untyped-decorator]
            def register(ctx: Any, request: Any) -> Any:
                registry.received.append(ctx.in_body_doc)
                return Response(status=registry.status)

        soap12 = Soap12()
        return WsgiApplication(
            Application([Registry], tns=LCM, in_protocol=soap12, out_protocol=Soap12())
        )


@pytest.fixture
def spyne_registry() -> Iterator[tuple[SpyneRegistry, str]]:
    registry = SpyneRegistry()
    server = make_server("127.0.0.1", 0, registry.application(), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield registry, f"http://127.0.0.1:{server.server_port}/registry"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client() -> Iterator[SoapClient]:
    client = SoapClient(timeout=20)
    yield client
    client.close()


@pytest.fixture
def repository_url(
    tmp_path: Path, spyne_registry: tuple[SpyneRegistry, str], client: SoapClient
) -> Iterator[str]:
    blobs = BlobStore(tmp_path / "blobs")
    url = spyne_registry[1]
    with (
        Database.open(f"sqlite:///{tmp_path}/repository.db") as database,
        ThreadPoolExecutor(4) as pool,
    ):
        database.migrate(MIGRATIONS)
        repository = Repository(
            database, blobs, OURS, lambda request: client.call(url, ITI_42, request)
        )
        endpoint = Endpoint(
            [
                Operation(ITI_41, lambda request, _: repository.provide_and_register(request)),
                Operation(ITI_43, lambda request, _: repository.retrieve(request)),
            ],
            spool=blobs.spool,
            pool=pool,
            title="repository",
            service_name="DocumentRepository",
        )
        with running_server(Router({"/repository": endpoint})) as base:
            yield f"{base}/repository"


def test_a_foreign_registry_is_told_where_the_document_is_and_what_it_hashes_to(
    repository_url: str,
    spyne_registry: tuple[SpyneRegistry, str],
    client: SoapClient,
    new_submission: Callable[[CX], Submission],
) -> None:
    content = InMemory(b"bonjour")
    submission = new_submission(PATIENT)
    request = ProvideAndRegisterRequest(SubmitObjectsRequest.of(submission), {"document": content})

    response = client.call(repository_url, ITI_41, request)

    assert response.status == SUCCESS
    [received] = spyne_registry[0].received
    [entry] = received.iter(f"{{{RIM}}}ExtrinsicObject")
    assert ebrim.get_slot(entry, "repositoryUniqueId") == [OURS]
    assert ebrim.get_slot(entry, "hash") == [content.sha1]
    assert ebrim.get_slot(entry, "size") == ["7"]
    unique_id = submission.documents[0].unique_id
    assert unique_id is not None
    retrieved = client.call(
        repository_url, ITI_43, RetrieveDocumentSetRequest((DocumentRequest(OURS, unique_id),))
    )
    assert b"".join(retrieved.documents[0].content.chunks()) == b"bonjour"


def test_the_refusal_of_a_foreign_registry_is_relayed(
    repository_url: str,
    spyne_registry: tuple[SpyneRegistry, str],
    client: SoapClient,
    new_submission: Callable[[CX], Submission],
) -> None:
    spyne_registry[0].status = FAILURE
    submission = new_submission(PATIENT)
    request = ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission), {"document": InMemory(b"bonjour")}
    )

    assert client.call(repository_url, ITI_41, request).status == FAILURE
