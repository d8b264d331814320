"""kill -9 in the middle: all or nothing, on both engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from metadata import identifiers as xds
from metadata.datatypes import LocalizedString
from registry import MIGRATIONS
from registry.schema import METADATA
from storage.database import Database
from transactions.iti_42 import write_request
from transactions.iti_62 import RemoveObjectsRequest
from transactions.stored_query import find_documents, get_submission_set_and_contents

ROOT = Path(__file__).parents[2]

# The whole life of a process that registers what it reads on standard input.
REGISTER = """
import sys
from lxml import etree
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import HD
from registry import Registry
from storage.database import Database
from transactions.iti_42 import SubmitObjectsRequest

url, authority = sys.argv[1:]
with Database.open(url) as database:
    registry = Registry(database, AffinityDomain(HD.of(authority)))
    registry.register(SubmitObjectsRequest(etree.fromstring(sys.stdin.buffer.read())))
"""

UPDATE = REGISTER.replace("registry.register(", "registry.update(")

REMOVE = """
import sys
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import HD
from registry import Registry
from storage.database import Database
from transactions.iti_62 import RemoveObjectsRequest

url, authority = sys.argv[1:]
with Database.open(url) as database:
    registry = Registry(database, AffinityDomain(HD.of(authority)))
    registry.remove(RemoveObjectsRequest(sys.stdin.read().split()))
"""

MERGE = """
import sys
from hl7.adt import IdentityFeed
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, HD
from registry.patients import Patients
from storage.database import Database

url, authority = sys.argv[1:]
with Database.open(url) as database:
    patients = Patients(database, AffinityDomain(HD.of(authority)))
    ids = [CX.of(name, authority) for name in ("P2", "P1")]
    patients.apply(IdentityFeed("A40", (ids[0],), ids[1], "s", "1", "d"))
"""

RELINK = MERGE.replace(
    'IdentityFeed("A40", (ids[0],), ids[1], "s", "1", "d")',
    'IdentityFeed("A43", (ids[0],), None, "s", "1", "d", ids[1], (CX("local^^^&1.2.3&ISO"),))',
)


@pytest.fixture
def database(database_url: str) -> Any:
    """A database that can be closed, so that another process may be its writer."""
    with Database.open(database_url) as database:
        database.migrate(MIGRATIONS)
        yield database


def everything(database: Database) -> dict[str, list[Any]]:
    with database.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))))
            for table in METADATA.sorted_tables
        }


def kill_at(house: Any, point: str, program: str, given: bytes = b"") -> None:
    """Run ``program`` over the house's database until it reaches ``point``, where it dies."""
    house.database.close()
    url = house.database.url.render_as_string(hide_password=False)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": f"{point}:kill"}
    killed = subprocess.run(
        [sys.executable, "-c", program, url, house.domain.assigning_authority.universal_id],
        input=given,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_a_registry_killed_before_its_commit_leaves_nothing(house: Any, database_url: str) -> None:
    document, folder = house.filed()
    draft = house.draft()
    new = draft.document()
    draft.link(xds.RPLC, new.entry_uuid, document.entry_uuid)
    addendum = draft.document()
    draft.link(xds.APND, addendum.entry_uuid, new.entry_uuid)
    draft.file(addendum.entry_uuid, folder.entry_uuid)
    message = b"".join(write_request(draft.request()).body)
    before = everything(house.database)
    kill_at(house, "registry.before_commit", REGISTER, message)
    with Database.open(database_url) as database:
        assert everything(database) == before
        house = type(house)(database, house.domain, house.clock)
        house.accept(draft)
        found = house.answer(find_documents(house.patient)).documents
        assert {one.unique_id for one in found} == {new.unique_id, addendum.unique_id}
        assert house.document(document.unique_id).availability_status == xds.DEPRECATED


def test_a_merge_killed_before_its_commit_leaves_nothing(house: Any, database_url: str) -> None:
    before = everything(house.database)
    kill_at(house, "patients.before_commit", MERGE)
    with Database.open(database_url) as database:
        assert everything(database) == before
        house = type(house)(database, house.domain, house.clock)
        assert house.feed("A40", "P2", subsumed="P1").ack_code == "AA"
        assert not house.patients.known(house.cx("P1"))


def test_an_update_killed_before_its_commit_leaves_nothing(house: Any, database_url: str) -> None:
    document, folder = house.filed()
    draft = house.draft()
    new = replace(document, entry_uuid="new", title=LocalizedString("Corrected"))
    draft.submission.documents.append(new)
    slots = {"submission_set_status": xds.ORIGINAL, "previous_version": "1"}
    draft.link(xds.HAS_MEMBER, "set", "new", **slots)
    message = b"".join(write_request(draft.request()).body)
    before = everything(house.database)
    kill_at(house, "update.before_commit", UPDATE, message)
    with Database.open(database_url) as database:
        assert everything(database) == before
        house = type(house)(database, house.domain, house.clock)
        assert house.registry.update(draft.request()).status == xds.SUCCESS
        [found] = house.answer(find_documents(house.patient)).documents
        assert found.title == "Corrected"
        assert house.folders_of(found) == {folder.entry_uuid}


def test_a_removal_killed_before_its_commit_leaves_everything(
    house: Any, database_url: str
) -> None:
    draft = house.draft()
    draft.document()
    house.accept(draft)
    contents = house.answer(get_submission_set_and_contents(unique_id=draft.set.unique_id))
    names = [obj.entry_uuid for obj in contents.objects()]
    before = everything(house.database)
    kill_at(house, "remove.before_commit", REMOVE, " ".join(names).encode())
    with Database.open(database_url) as database:
        assert everything(database) == before
        house = type(house)(database, house.domain, house.clock)
        response = house.registry.remove(RemoveObjectsRequest(names))
        assert response.status == xds.SUCCESS
        assert not house.answer(find_documents(house.patient)).documents


def test_a_link_change_killed_before_its_commit_leaves_nothing(
    house: Any, database_url: str
) -> None:
    document, _ = house.filed()
    before = everything(house.database)
    kill_at(house, "patients.before_commit", RELINK)
    with Database.open(database_url) as database:
        assert everything(database) == before
        house = type(house)(database, house.domain, house.clock)
        assert house.relink("P1", "P2").ack_code == "AA"
        assert house.document(document.unique_id).patient_id == house.cx("P2")
