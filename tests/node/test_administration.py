"""An administrator of a running node: corrects a document, takes it out, or is not let in."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.administrator import Administrator
from consumer.client import Consumer
from consumer.errors import Faulted, Refused
from metadata.datatypes import LocalizedString, new_oid, new_uuid_urn
from metadata.identifiers import APPROVED, DEPRECATED
from metadata.model import DocumentEntry, SubmissionSet
from node.init import NewNode, create
from soap.client import SoapClient
from soap.faults import ACTION_NOT_SUPPORTED, SoapFault
from transactions.iti_18 import ITI_18
from transactions.iti_57 import change_status, new_version
from transactions.stored_query import find_submission_sets, get_submission_set_and_contents

Kosmos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def client() -> Iterator[SoapClient]:
    client = SoapClient(timeout=10)
    yield client
    client.close()


def sets_of(consumer: Consumer, document: DocumentEntry) -> list[SubmissionSet]:
    """The SubmissionSets of the document's patient."""
    request = find_submission_sets(document.patient_id or "")
    answer = consumer.client.call(consumer.registry_url, ITI_18, request)
    return answer.objects().submission_sets


def submission_set(consumer: Consumer, document: DocumentEntry) -> SubmissionSet:
    """Another one like that of the document, whose codes the node allows."""
    return replace(
        sets_of(consumer, document)[0], entry_uuid="set", logical_id=None, unique_id=new_oid()
    )


@pytest.fixture
def published(running: Any, kosmos: Kosmos, client: SoapClient, tmp_path: Path) -> Any:
    """A document of a new patient, and how to look at it."""
    config = ("--config", running.config)
    patient = new_oid()[-12:]
    assert kosmos("feed", "--patient", patient, "--name", "DUPONT^JEANNE", *config).returncode == 0
    file = tmp_path / "report.txt"
    file.write_text("no finding")
    told = kosmos("publish", file, "--patient", patient, "--json", *config)
    unique_id = json.loads(told.stdout)["uniqueId"]
    consumer = Consumer(running.endpoints["registry"], {}, client=client)
    [document] = consumer.get_documents(unique_id=unique_id)
    return consumer, document


def test_a_document_is_corrected_and_deprecated(
    running: Any, published: Any, client: SoapClient
) -> None:
    consumer, document = published
    administrator = Administrator(running.endpoints["registry"], client)
    package = submission_set(consumer, document)
    corrected = replace(document, title=LocalizedString("Right"))
    assert administrator.update(new_version(corrected, package)) == ()
    [found] = consumer.find_documents(document.patient_id)
    assert (found.title, found.version, found.logical_id) == ("Right", "2", document.entry_uuid)
    again = replace(found, title=LocalizedString("Righter"))
    administrator.restricted_update(new_version(again, replace(package, unique_id=new_oid())))
    [found] = consumer.find_documents(document.patient_id)
    assert (found.title, found.version) == ("Righter", "3")
    with pytest.raises(Refused, match="XDSMetadataVersionError"):
        administrator.update(new_version(again, replace(package, unique_id=new_oid())))
    package = replace(package, unique_id=new_oid())
    administrator.update(change_status(found.entry_uuid, APPROVED, DEPRECATED, package))
    assert not consumer.find_documents(document.patient_id)


def test_a_submission_is_removed(running: Any, published: Any, client: SoapClient) -> None:
    consumer, document = published
    administrator = Administrator(running.endpoints["registry"], client)
    [package] = sets_of(consumer, document)
    request = get_submission_set_and_contents(unique_id=package.unique_id or "")
    contents = client.call(running.endpoints["registry"], ITI_18, request).objects()
    with pytest.raises(Refused, match="ReferencesExistException"):
        administrator.remove([document.entry_uuid])
    assert administrator.remove(obj.entry_uuid for obj in contents.objects()) == ()
    assert not consumer.get_documents(unique_id=document.unique_id or "")


def test_a_node_has_no_administrators_unless_it_says_so(
    serve: Callable[[Path], Any], client: SoapClient, tmp_path: Path
) -> None:
    config = create(NewNode(tmp_path / "node", plain=True, port_base=0))
    text = config.read_text()
    assert "administration = true" in text
    config.write_text(text.replace("administration = true", ""))
    administrator = Administrator(serve(config).endpoints["registry"], client)
    with pytest.raises(Faulted) as refused:
        administrator.remove([new_uuid_urn()])
    assert isinstance(refused.value.__cause__, SoapFault)
    assert refused.value.__cause__.subcode == ACTION_NOT_SUPPORTED
