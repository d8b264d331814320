"""The verbs about studies and publications, on the files of a node that does not serve."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from sqlalchemy import update

from imaging_source.index import MIGRATIONS, Verdict
from imaging_source.intake import Intake
from imaging_source.part10 import FileArrival
from imaging_source.publisher import Place, Publisher
from imaging_source.schema import STUDY
from metadata.catalogue import RegistryError
from node.config_file import load
from node.wiring.source import publication_policy
from storage.blobs import BlobStore
from storage.database import Database
from transactions.registry_response import RegistryResponse

Kosmos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stuck(plain_node: Path) -> str:
    """A study that the registry has refused; its UID."""
    settings = load(plain_node)
    section = settings.imaging_source
    assert section.files is not None
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    data = Path(path).read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    (plain_node.parent / "data").mkdir()
    with Database.open(section.database) as database:
        database.migrate(MIGRATIONS)
        intake = Intake(database, BlobStore(section.files))
        ct = "1.2.840.10008.5.1.4.1.1.2"
        uid = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
        arrival = intake.begin(ct, uid, "1.2.840.10008.1.2.1", "TEST")
        arrival.write(memoryview(data[start:]))
        assert arrival.finish().status == 0
        refused = RegistryResponse.of([RegistryError("XDSRegistryMetadataError", "no such code")])
        publisher = Publisher(
            database,
            publication_policy(settings),
            Place(repository_unique_id="1.2.9"),
            lambda _request: refused,
            lambda _uid: False,
            quiet_seconds=0,
        )
        assert publisher.run_once() == 1
    return "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


def test_what_waits_is_told_with_its_reason(kosmos: Kosmos, plain_node: Path, stuck: str) -> None:
    listed = kosmos("studies", "list", "--config", plain_node)
    assert listed.returncode == 0
    assert stuck in listed.stdout
    assert "failed" in listed.stdout
    shown = kosmos("studies", "show", stuck, "--json", "--config", plain_node)
    told = json.loads(shown.stdout)
    assert told["stage"] == "failed"
    assert told["reason"] == "XDSRegistryMetadataError: no such code"
    only = kosmos("studies", "list", "--stage", "published", "--json", "--config", plain_node)
    assert json.loads(only.stdout) == []


def test_what_was_put_aside_is_told_and_where_its_file_is(
    kosmos: Kosmos, plain_node: Path, stuck: str
) -> None:
    settings = load(plain_node)
    files = settings.imaging_source.files
    assert files is not None
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.StudyDescription = "Other"
    data = BytesIO()
    dataset.save_as(data)
    with Database.open(settings.imaging_source.database) as database:
        intake = Intake(database, BlobStore(files))
        arrival = FileArrival(intake, "CT1")
        arrival.write(data.getvalue())
        assert intake.index([arrival.keep()]) == [Verdict.OTHER_BYTES]

    verb = ("studies", "quarantine", "--config", plain_node)
    assert dataset.SOPInstanceUID[:20] in kosmos(*verb).stdout
    (told,) = json.loads(kosmos(*verb, "--json").stdout)
    assert told["sop_instance_uid"] == dataset.SOPInstanceUID
    assert (told["study_instance_uid"], told["reason"]) == (stuck, "other-bytes")
    assert told["sender"] == "CT1"
    assert (files / told["sha256"][:2] / told["sha256"]).is_file()


def test_a_failed_publication_is_resent_once(kosmos: Kosmos, plain_node: Path, stuck: str) -> None:
    listed = kosmos("admin", "publications", "list", "--json", "--config", plain_node)
    ((failed,)) = json.loads(listed.stdout)
    assert (failed["study_instance_uid"], failed["state"]) == (stuck, "failed")
    resend = ("admin", "publications", "resend", stuck, "--config", plain_node)
    assert kosmos(*resend).returncode == 0
    assert kosmos(*resend).returncode == 1
    table = kosmos("admin", "publications", "list", "--all", "--config", plain_node)
    assert "superseded" in table.stdout


def test_a_study_is_published_again_if_there_is_one(
    kosmos: Kosmos, plain_node: Path, stuck: str
) -> None:
    again = ("admin", "publications", "republish")
    assert kosmos(*again, stuck, "--config", plain_node).returncode == 0
    assert kosmos(*again, "1.2.3", "--config", plain_node).returncode == 1
    assert kosmos("studies", "show", "1.2.3", "--config", plain_node).returncode == 1
    assert kosmos("studies", "list", "--stage", "lost", "--config", plain_node).returncode == 2


def test_images_are_compared_with_their_index(kosmos: Kosmos, plain_node: Path, stuck: str) -> None:
    verb = ("check-images", "--files-only", "--json", "--config", plain_node)
    fine = kosmos(*verb)
    assert fine.returncode == 0
    assert json.loads(fine.stdout)["instances"] == 1
    images = load(plain_node).imaging_source.files
    assert images is not None
    for file in images.glob("??/*"):
        file.unlink()
    broken = kosmos(*verb)
    assert broken.returncode == 1
    assert len(json.loads(broken.stdout)["missing"]) == 1
    plain = kosmos(*(one for one in verb if one != "--json"))
    assert "missing: 1.3.6.1.4.1.5962" in plain.stdout


def test_without_its_registry_the_check_says_that_it_cannot_be_asked(
    kosmos: Kosmos, plain_node: Path, stuck: str
) -> None:
    with Database.open(load(plain_node).imaging_source.database) as database:
        database.write(lambda one: one.execute(update(STUDY).values(published_entry="urn:uuid:1")))
    assert kosmos("check-images", "--config", plain_node).returncode == 4
    found = json.loads(kosmos("audit", "find", "--json", "--config", plain_node).stdout)
    asked = [(one["transaction"], one["outcome"]) for one in found if one["trail"] == "client-0"]
    assert asked == [("ITI-18", 12)]
