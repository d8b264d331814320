"""A whole node that assembles a patient's imaging summary, and forgets it when told to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from lxml import etree
from pydicom.data import get_testdata_file

from metadata.identifiers import DEPRECATED, IS_SNAPSHOT_OF, ON_DEMAND, SUCCESS
from metadata.model import DocumentEntry
from security.audit.search import Wanted, find
from soap.client import SoapClient
from soap.faults import PeerError
from tests.system.conftest import KOSMOS, Nodes, RunningNode, await_
from transactions.iti_18 import ITI_18
from transactions.iti_43 import (
    ITI_43,
    DocumentRequest,
    RetrievedDocument,
    RetrieveDocumentSetRequest,
)
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.stored_query import get_associations

PATIENT = "1CT1"
CDA, PDF = "text/xml", "application/pdf"


def kosmos_summary(node: RunningNode, patient: str = PATIENT) -> subprocess.CompletedProcess[str]:
    """The verb, sent where the node listens: its ports are the system's choice."""
    port = node.endpoints["registry"].rpartition(":")[2].partition("/")[0]
    return subprocess.run(
        [*KOSMOS, "summary", patient, "--json", "--config", str(node.config)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KOSMOS__NODE__HTTP_PORT": port, "LC_ALL": "C"},
    )


def recorded(node: RunningNode, trail: str) -> list[str]:
    """The transactions of which a trail has records, in their order."""
    folder = node.config.parent / "data" / "audit"
    found = find([folder / f"{trail}.db"], Wanted(), 100)
    return [one.record.type for one in found][::-1]


def retrieve(node: RunningNode, client: SoapClient, unique_id: str) -> RetrievedDocument:
    wanted = DocumentRequest(node.settings["repository"]["unique_id"], unique_id)
    request = RetrieveDocumentSetRequest((wanted,))
    response = client.call(node.endpoints["repository"], ITI_43, request)
    assert response.errors == ()
    return response.documents[0]


def data_of(document: RetrievedDocument) -> bytes:
    return b"".join(document.content.chunks())


def found(node: RunningNode, **filters: object) -> list[DocumentEntry]:
    return list(node.consumer().find_documents(node.patient(PATIENT), **filters))  # type: ignore[arg-type]


@pytest.fixture
def node(nodes: Nodes) -> RunningNode:
    """A node that knows the patient."""
    node = nodes.start()
    assert node.announce(PATIENT) == "AA"
    return node


def test_a_summary_is_offered_assembled_registered_replaced_and_removed(
    node: RunningNode,
) -> None:
    client = SoapClient()
    made = kosmos_summary(node)
    assert made.returncode == 0, made.stderr
    ids = json.loads(made.stdout)
    assert ids.keys() == {CDA, PDF}
    assert json.loads(kosmos_summary(node).stdout) == {}
    assert recorded(node, "client-0") == ["ITI-18", "ITI-61", "ITI-18"]
    assert found(node) == []
    offered = found(node, type=[ON_DEMAND])
    assert {entry.unique_id for entry in offered} == set(ids.values())

    empty = retrieve(node, client, ids[CDA])
    assert data_of(retrieve(node, client, ids[PDF])).startswith(b"%PDF-")
    assert empty.new_repository_unique_id == node.settings["repository"]["unique_id"]
    assert "table" not in names(data_of(empty))
    assert {entry.mime_type for entry in found(node)} == {CDA, PDF}

    assert node.store([Path(str(get_testdata_file("CT_small.dcm")))]) == [0]
    await_(lambda: any(one.mime_type == "application/dicom" for one in found(node)))
    full = retrieve(node, client, ids[CDA])
    assert full.new_document_unique_id != empty.new_document_unique_id
    assert "table" in names(data_of(full))
    again = retrieve(node, client, ids[CDA])
    assert again.new_document_unique_id == full.new_document_unique_id
    assert data_of(again) == data_of(full)

    [old] = found(node, status=[DEPRECATED])
    assert old.unique_id == empty.new_document_unique_id
    [snapshot] = [one for one in found(node) if one.unique_id == full.new_document_unique_id]
    assert node.consumer().fetch_document(snapshot) == data_of(full)
    answer = client.call(
        node.endpoints["registry"], ITI_18, get_associations([snapshot.entry_uuid])
    )
    assert IS_SNAPSHOT_OF in {link.association_type for link in answer.objects().associations}

    gone = DocumentRequest(node.settings["repository"]["unique_id"], old.unique_id or "")
    removed = client.call(node.endpoints["repository"], ITI_86, RemoveDocumentsRequest((gone,)))
    assert removed.status == SUCCESS
    lost = client.call(node.endpoints["repository"], ITI_43, RetrieveDocumentSetRequest((gone,)))
    assert [error.code for error in lost.errors] == ["XDSDocumentUniqueIdError"]
    client.close()


def names(document: bytes) -> set[str]:
    return {etree.QName(element).localname for element in etree.fromstring(document).iter()}


def test_a_kill_while_a_document_is_removed_leaves_it_removed(nodes: Nodes) -> None:
    node, client = nodes.start(fault="repository.removed:kill"), SoapClient()
    assert node.announce(PATIENT) == "AA"
    ids = json.loads(kosmos_summary(node).stdout)
    made = retrieve(node, client, ids[CDA]).new_document_unique_id or ""
    gone = DocumentRequest(node.settings["repository"]["unique_id"], made)
    with pytest.raises(PeerError):
        client.call(node.endpoints["repository"], ITI_86, RemoveDocumentsRequest((gone,)))
    node.await_log("process died")
    node.stop()

    node = nodes.start()
    lost = client.call(node.endpoints["repository"], ITI_43, RetrieveDocumentSetRequest((gone,)))
    assert [error.code for error in lost.errors] == ["XDSDocumentUniqueIdError"]
    documents = node.config.parent / "data" / "documents"
    await_(lambda: not list(documents.glob("??/*")))  # the daily work deletes the bytes
    client.close()


def test_a_summary_of_nobody_is_refused(node: RunningNode) -> None:
    told = kosmos_summary(node, "nobody")
    assert told.returncode == 1
    assert "XDSUnknownPatientId" in told.stderr
