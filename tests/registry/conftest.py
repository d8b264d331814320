"""A registry on each engine, and the words to submit to it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, insert

from hl7.adt import FeedOutcome, IdentityFeed
from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, DTM, HD, OID, XCN, XON, CXi, LocalizedString, new_oid
from metadata.model import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from registry import MIGRATIONS, Registry
from registry.patients import Patients
from registry.schema import ASSOCIATION, DOCUMENT, FOLDER, METADATA, SUBMISSION_SET
from storage.database import Database
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import (
    find_submission_sets,
    get_associations,
    get_documents,
    get_submission_set_and_contents,
)

AUTHORITY = "1.2.250.1.213.1.4.10"
SCHEME = "1.2.250.1.213.1.1.4.1"
FIRST_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_numbers = count(1)


def cx(identifier: str) -> CX:
    return CX.of(identifier, AUTHORITY)


def code(value: str, scheme: str = SCHEME) -> Code:
    return Code(value, scheme, LocalizedString(f"Display of {value}"))


@dataclass
class Draft:
    """A submission in the making: every ``add`` also links what it adds as it must be."""

    patient: CX
    submission: Submission = field(default_factory=Submission)

    def __post_init__(self) -> None:
        self.set = SubmissionSet(
            entry_uuid="set",
            unique_id=new_oid(),
            patient_id=self.patient,
            title=LocalizedString("Compte rendu"),
            author=[Author(person=XCN("^Welby^Marcus^^^Dr"))],
            content_type_code=code("content"),
            source_id=OID("1.2.3.4"),
            submission_time=DTM("20260102030405"),
        )
        self.submission.submission_sets.append(self.set)

    def document(self, name: str = "", **attributes: Any) -> DocumentEntry:
        """A new document, an Original member of the SubmissionSet."""
        number = next(_numbers)
        given: dict[str, Any] = {
            "entry_uuid": name or f"document-{number}",
            "unique_id": new_oid(),
            "patient_id": self.patient,
            "object_type": xds.STABLE,
            "mime_type": "application/dicom",
            "author": [Author(person=XCN("^Welby^Marcus^^^Dr"), institution=[XON("CHU")])],
            "class_code": code("class"),
            "type_code": code("type"),
            "format_code": code("format"),
            "healthcare_facility_type_code": code("facility"),
            "practice_setting_code": code("practice"),
            "confidentiality_code": [code("N")],
            "creation_time": DTM("20251231"),
            "language_code": "fr-FR",
            "source_patient_id": CX("local^^^&1.2.3&ISO"),
            "repository_unique_id": OID("1.2.3.4.5"),
            "hash": f"{number:040x}",
            "size": str(number),
            "title": LocalizedString(f"Scanner {number}"),
            **attributes,
        }
        document = DocumentEntry(**given)
        self.submission.documents.append(document)
        self.member(document.entry_uuid, xds.ORIGINAL)
        return document

    def folder(self, name: str = "", **attributes: Any) -> Folder:
        """A new folder, a member of the SubmissionSet."""
        given: dict[str, Any] = {
            "entry_uuid": name or f"folder-{next(_numbers)}",
            "unique_id": new_oid(),
            "patient_id": self.patient,
            "title": LocalizedString("Dossier"),
            "code_list": [code("folder")],
            **attributes,
        }
        folder = Folder(**given)
        self.submission.folders.append(folder)
        self.member(folder.entry_uuid)
        return folder

    def member(self, target: str, status: str | None = None) -> Association:
        """Make ``target`` a member of the SubmissionSet."""
        return self.link(xds.HAS_MEMBER, "set", target, submission_set_status=status)

    def file(self, document: str, folder: str) -> Association:
        """Put a document into a folder, and the membership into the SubmissionSet."""
        membership = self.link(xds.HAS_MEMBER, folder, document)
        self.member(membership.entry_uuid)
        return membership

    def link(self, kind: str, source: str, target: str, **attributes: Any) -> Association:
        """Any association."""
        given = {"entry_uuid": f"link-{next(_numbers)}", **attributes}
        association = Association(association_type=kind, source=source, target=target, **given)
        self.submission.associations.append(association)
        return association

    def request(self) -> SubmitObjectsRequest:
        return SubmitObjectsRequest.of(self.submission)


class Clock:
    """The time, standing still until it is told to go on."""

    def __init__(self) -> None:
        self.now = FIRST_MOMENT

    def __call__(self) -> datetime:
        return self.now


@dataclass
class House:
    """A registry and its patients over one database, with ``patient`` known."""

    database: Database
    domain: AffinityDomain
    clock: Clock

    def __post_init__(self) -> None:
        self.patient = cx("P1")
        self.registry = Registry(self.database, self.domain, self.clock)
        self.patients = Patients(self.database, self.domain, self.clock)
        self.feed("A01", "P1")
        self.feed("A01", "P2")

    # --- words of the tests -----------------------------------------------------------------

    cx = staticmethod(cx)
    code = staticmethod(code)

    def draft(self, patient: str = "P1") -> Draft:
        return Draft(cx(patient))

    def submit(self, draft: Draft) -> RegistryResponse:
        return self.registry.register(draft.request())

    def accept(self, draft: Draft) -> None:
        """Submit, and insist on success."""
        response = self.submit(draft)
        assert response.status == xds.SUCCESS, response.errors

    def errors(self, draft: Draft) -> list[str]:
        """Submit, insist on failure, and return the error codes."""
        response = self.submit(draft)
        assert response.status == xds.FAILURE
        assert response.errors
        return [error.code for error in response.errors]

    def feed(
        self,
        event: str,
        identifier: str,
        subsumed: str | None = None,
        control_id: str = "",
        digest: str = "",
    ) -> FeedOutcome:
        number = str(next(_numbers))
        return self.patients.apply(
            IdentityFeed(
                event=event,
                identifiers=(cx(identifier),),
                subsumed=None if subsumed is None else cx(subsumed),
                sender="HOSPITAL|HIS",
                control_id=control_id or number,
                digest=digest or number,
            )
        )

    def relink(
        self, previous: str, current: str, local: str = "local^^^&1.2.3&ISO", control_id: str = ""
    ) -> FeedOutcome:
        """A43: the local identifier goes from one patient to another."""
        number = control_id or str(next(_numbers))
        return self.patients.apply(
            IdentityFeed(
                event="A43",
                identifiers=(cx(current),),
                subsumed=None,
                sender="HOSPITAL|HIS",
                control_id=number,
                digest=number,
                previous=cx(previous),
                local=(CX(local),),
            )
        )

    def answer(self, request: AdhocQueryRequest) -> Submission:
        """Query, insist on success, and return the objects."""
        response = self.registry.query(request)
        assert response.status == xds.SUCCESS, response.errors
        return response.objects()

    def query_errors(self, request: AdhocQueryRequest) -> list[str]:
        """Query, insist on failure without results, and return the error codes."""
        response = self.registry.query(request)
        assert response.status == xds.FAILURE
        assert not response.fragments
        return [error.code for error in response.errors]

    def registered(self, **attributes: Any) -> DocumentEntry:
        """A document registered alone for the patient P1, as the registry answers it."""
        draft = self.draft()
        unique_id = draft.document(**attributes).unique_id
        self.accept(draft)
        return self.document(unique_id)

    def document(self, unique_id: str | None) -> DocumentEntry:
        """The one document with this uniqueId."""
        [document] = self.answer(
            get_documents(unique_id=[unique_id or ""], metadata_level=2)
        ).documents
        return document

    def filed(self) -> tuple[DocumentEntry, Folder]:
        """A document in a folder, both registered."""
        draft = self.draft()
        document, folder = draft.document(), draft.folder()
        draft.file(document.entry_uuid, folder.entry_uuid)
        self.accept(draft)
        contents = self.answer(get_submission_set_and_contents(unique_id=draft.set.unique_id or ""))
        return contents.documents[0], contents.folders[0]

    def links(self, *entry_uuids: str) -> list[Association]:
        """The associations that touch these objects, deprecated ones too."""
        return self.answer(get_associations(entry_uuids, metadata_level=2)).associations

    def folders_of(self, document: DocumentEntry) -> set[str]:
        """The folders that hold a document, besides submission sets."""
        sets = self.answer(find_submission_sets(self.patient)).submission_sets
        known = {one.entry_uuid for one in sets}
        holders = {
            link.source
            for link in self.links(document.entry_uuid)
            if link.association_type == xds.HAS_MEMBER and link.target == document.entry_uuid
        }
        return holders - known

    def folder(self, submission_set: str | None) -> Folder:
        """The one folder of a submission set, as it is now."""
        request = get_submission_set_and_contents(unique_id=submission_set or "")
        [folder] = self.answer(request).folders
        return folder


@pytest.fixture
def domain() -> AffinityDomain:
    return AffinityDomain(assigning_authority=HD.of(AUTHORITY))


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Database]:
    """One database on each engine, migrated once: making one for each test would take longer
    than the tests."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('registry') / 'registry.db'}"
    else:
        server: str = request.getfixturevalue("postgresql_url")
        name = f"registry_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        url = server.replace("/postgres?", f"/{name}?")
    with Database.open(url) as database:
        database.migrate(MIGRATIONS)
        yield database


@pytest.fixture
def database(migrated: Database) -> Database:
    """A migrated database without a row."""

    def empty(connection: Connection) -> None:
        for table in METADATA.sorted_tables:
            connection.execute(table.delete())

    migrated.write(empty)
    return migrated


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(database: Database, domain: AffinityDomain, clock: Clock) -> House:
    return House(database, domain, clock)


def _fill(connection: Connection, patient: str, numbers: range) -> None:
    """Documents, each in a set and a folder of its own, by direct inserts: thousands a second."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows["patient"].append({"id": patient, "survivor": patient})
    kinds = {"document": DOCUMENT, "set": SUBMISSION_SET, "folder": FOLDER}
    for number in numbers:
        ids = {name: f"urn:uuid:{name}-{patient}-{number}" for name in kinds}
        place = {"patient": patient, "status": "Approved", "ebrim": b"<rim:Identifiable/>"}
        for name, kind in kinds.items():
            rows["object"].append({"entry_uuid": ids[name], "kind": kind, "patient": patient})
        document = ids["document"]
        rows["document_entry"].append(
            {
                **place,
                "entry_uuid": document,
                "object_type": "Stable",
                "class_code": f"class-{number % 500}^^{SCHEME}",
                "healthcare_facility_type_code": f"facility-{number % 500}^^{SCHEME}",
                "creation_time": "20260101000000",
            }
        )
        identity = {"unique_id": f"{patient}.{number}", "entry_uuid": document, "patient": patient}
        rows["identity"].append({**identity, "kind": DOCUMENT})
        rows["namesake"].append(identity)
        version = {"logical_id": document, "version": 1, "entry_uuid": document}
        rows["revision"].append({**version, "patient": patient})
        time = "20260101000000"
        rows["submission_set"].append(
            {**place, "entry_uuid": ids["set"], "source_id": "1.2", "submission_time": time}
        )
        rows["folder"].append({**place, "entry_uuid": ids["folder"], "last_update_time": time})
        for holder in ("set", "folder"):
            link = f"urn:uuid:{holder}-link-{patient}-{number}"
            ends = {"type": xds.HAS_MEMBER, "source": ids[holder], "target": document}
            rows["association"].append({**place, "entry_uuid": link, **ends})
            rows["object"].append({"entry_uuid": link, "kind": ASSOCIATION, "patient": patient})
        for name, attribute, value in (
            ("document", "author", f"^Welby-{number}"),
            ("document", "confidentiality", f"N^^{SCHEME}"),
            ("document", "event", f"event-{number % 500}^^{SCHEME}"),
            ("document", "reference", f"reference-{number}"),
            ("folder", "code", f"folder-{number % 500}^^{SCHEME}"),
        ):
            value_row = {"attribute": attribute, "value": value}
            rows["attribute_value"].append(
                {"patient": patient, "entry_uuid": ids[name], **value_row}
            )
    for table, table_rows in rows.items():
        connection.execute(insert(METADATA.tables[table]), table_rows)


@pytest.fixture
def fill(house: House) -> Callable[[str, range], None]:
    """Put numbered documents of a patient into the registry, past its own checks."""

    def filled(patient: str, numbers: range) -> None:
        house.database.write(lambda connection: _fill(connection, cx(patient), numbers))

    return filled


@pytest.fixture
def reference() -> Callable[[str, str], CXi]:
    return lambda identifier, kind: CXi.of(identifier, kind, HD.of("1.2.3"))
