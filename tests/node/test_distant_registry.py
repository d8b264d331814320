"""What a node records that asks a registry elsewhere: its own end of each call (ITI TF-2 3.20)."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from node.config_file import load
from node.endpoints import Endpoints
from node.init import NewNode, create
from node.migrate import migrate
from node.wiring.audit import Auditor, trail_folder
from node.wiring.common import Asked
from node.wiring.rooms import open_rooms
from security.access.decision import Choices
from soap.client import SoapClient
from soap.message import InMemory
from soap.server import Router, running_server
from storage.errors import OutOfSpace
from tests.fuzz import samples
from tests.waiting import wait_for
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryUnavailable

Kosmos = Callable[..., subprocess.CompletedProcess[str]]
NOBODY = "http://127.0.0.1:1/registry"


@pytest.fixture
def client() -> Iterator[SoapClient]:
    with closing(SoapClient(timeout=10)) as client:
        yield client


def records(trail: Path) -> list[tuple[str, str, int]]:
    """Type, action and outcome of every record, the oldest first."""
    with closing(sqlite3.connect(trail)) as connection:
        query = "SELECT type, action, outcome FROM audit_record ORDER BY number"
        return connection.execute(query).fetchall()


def test_a_repository_records_that_it_registered_and_that_nobody_answered(
    tmp_path: Path, client: SoapClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS__REGISTRY__ENABLED", "false")
    monkeypatch.setenv("KOSMOS__IMAGING_SOURCE__ENABLED", "false")
    monkeypatch.setenv("KOSMOS__REPOSITORY__REGISTRY", NOBODY)
    settings = load(create(NewNode(tmp_path / "node", plain=True, port_base=0)))
    migrate(settings)
    submission = samples.submission()
    submission.documents[0].hash = submission.documents[0].size = None
    request = ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission),
        {one.entry_uuid: InMemory(b"x") for one in submission.documents},
    )
    with ExitStack() as stack:
        rooms = open_rooms(settings, stack, 0)
        base = stack.enter_context(running_server(Router(dict(rooms.endpoints))))
        [error] = client.call(f"{base}/repository", ITI_41, request).errors
    assert error.code == "XDSRegistryNotAvailable"
    assert records(trail_folder(settings) / "web-0.db") == [("ITI-42", "R", 12), ("ITI-41", "C", 8)]


def test_a_registry_is_not_asked_where_that_cannot_be_recorded(client: SoapClient) -> None:
    class Full:
        def ready(self) -> None:
            raise OutOfSpace("full")

    auditor = Auditor(Full(), "north", "")  # type: ignore[arg-type]
    asked = Asked.remote(NOBODY, client, auditor.calling)
    with pytest.raises(RegistryUnavailable, match="OutOfSpace"):
        asked.knows("1.2.3")
    with pytest.raises(RegistryUnavailable, match="OutOfSpace"):
        asked.register(SubmitObjectsRequest.of(samples.submission()))


class _SeesAll:
    """A sight from which nothing is hidden."""

    reads_consents = False

    def choices(self, _patients: object, _acknowledged: object) -> Choices:
        return Choices()

    def sees(self, _choices: object, _facts: object) -> bool:
        return True


def test_documents_of_several_patients_are_found_though_a_query_shows_those_of_one(
    running: Any, kosmos: Kosmos, client: SoapClient, tmp_path: Path
) -> None:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    for patient in ("P1", "P2"):
        person = ("--patient", patient, "--name", "DUPONT^ANNE", "--config", running.config)
        assert kosmos("feed", *person).returncode == 0
        dataset.PatientID = patient
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / patient)
        assert kosmos("publish", tmp_path / patient, "--config", running.config).returncode == 0

    def published(name: str) -> list[str]:
        found = [kosmos("find", one, "--json", "--config", running.config) for one in ("P1", "P2")]
        return [entry[name] for told in found for entry in json.loads(told.stdout or "[]")]

    wait_for(lambda: len(published("entryUuid")) == 2)
    entries, documents = published("entryUuid"), published("uniqueId")
    asked = Asked.remote(Endpoints.of(load(running.config)).registry or "", client)
    assert {one.entry_uuid for one in asked.entries(entries)} == set(entries)
    assert asked.unseen(_SeesAll(), entries, documents) == set()  # type: ignore[arg-type]
    checked = kosmos("check-images", "--json", "--config", running.config)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["studies"] == 2
