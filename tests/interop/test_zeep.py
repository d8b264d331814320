"""A toolkit that nobody here wrote makes its own client of the description a node serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zeep

from metadata.datatypes import CX
from metadata.identifiers import SUCCESS
from node.config_file import load
from node.documents import Description, provide
from node.wiring.common import affinity_domain
from soap.client import SoapClient
from tests.system.conftest import Nodes, RunningNode
from transactions.iti_41 import ITI_41

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
MIME_TYPE_SUFFICIENT = "urn:ihe:iti:xds:2017:mimeTypeSufficient"
UNIQUE_ID_SCHEME = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    nodes = Nodes(tmp_path_factory.mktemp("zeep"))
    try:
        yield nodes.start()
    finally:
        nodes.close()


def submit(node: RunningNode, patient: CX, file: Path) -> str:
    """Submit ``file`` as ``kosmos publish`` does; its uniqueId."""
    settings = load(node.config)
    description = Description(patient, "Bonjour", "10", "18748-4", MIME_TYPE_SUFFICIENT)
    unique_id, request = provide(file, description, settings, affinity_domain(settings))
    client = SoapClient()
    assert client.call(node.endpoints["repository"], ITI_41, request).status == SUCCESS
    client.close()
    return unique_id


def slot(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "ValueList": {"Value": [value]}}


@pytest.mark.parametrize("description", ["?wsdl", "?singleWsdl"])
def test_zeep_finds_a_document_with_nothing_but_the_served_description(
    description: str, node: RunningNode, tmp_path: Path
) -> None:
    identifier = f"ZEEP-{description.strip('?')}"
    patient = CX(node.patient(identifier))
    assert node.announce(identifier) == "AA"
    document = tmp_path / "bonjour.txt"
    document.write_text("bonjour")
    unique_id = submit(node, patient, document)
    toolkit: Any = zeep.Client(node.endpoints["registry"] + description)  # type: ignore[no-untyped-call]

    answer = toolkit.service.DocumentRegistry_RegistryStoredQuery(
        ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
        AdhocQuery={
            "id": FIND_DOCUMENTS,
            "Slot": [
                slot("$XDSDocumentEntryPatientId", f"'{patient}'"),
                slot("$XDSDocumentEntryStatus", f"('{APPROVED}')"),
            ],
        },
    )

    assert answer.status == SUCCESS
    [found] = answer.RegistryObjectList._value_1
    entry = found["ExtrinsicObject"]
    assert entry.mimeType == "text/plain"
    assert entry.status == APPROVED
    slots = {one.name: one.ValueList.Value for one in entry.Slot}
    assert slots["size"] == ["7"]
    assert slots["repositoryUniqueId"] == [node.settings["repository"]["unique_id"]]
    identifiers = {one.identificationScheme: one.value for one in entry.ExternalIdentifier}
    assert identifiers[UNIQUE_ID_SCHEME] == unique_id


def test_zeep_is_told_why_a_query_fails(node: RunningNode) -> None:
    toolkit: Any = zeep.Client(node.endpoints["registry"] + "?wsdl")  # type: ignore[no-untyped-call]

    answer = toolkit.service.DocumentRegistry_RegistryStoredQuery(
        ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
        AdhocQuery={"id": "urn:uuid:00000000-0000-4000-8000-000000000000"},
    )

    assert answer.status == "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
    [error] = answer.RegistryErrorList.RegistryError
    assert error.errorCode == "XDSUnknownStoredQuery"


@pytest.mark.parametrize(
    ("endpoint", "operations"),
    [
        (
            "registry",
            {
                "DocumentRegistry_RegistryStoredQuery",
                "DocumentRegistry_RegisterDocumentSet-b",
            },
        ),
        (
            "repository",
            {
                "DocumentRepository_ProvideAndRegisterDocumentSet-b",
                "DocumentRepository_RetrieveDocumentSet",
            },
        ),
        ("imaging", {"ImagingDocumentSource_RetrieveImagingDocumentSet"}),
    ],
)
def test_zeep_knows_every_operation_of_every_endpoint(
    endpoint: str, operations: set[str], node: RunningNode
) -> None:
    toolkit: Any = zeep.Client(node.endpoints[endpoint] + "?singleWsdl")  # type: ignore[no-untyped-call]

    assert set(dir(toolkit.service)) >= operations
