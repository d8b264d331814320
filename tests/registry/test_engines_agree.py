"""SQLite, PostgreSQL and the words of the standard find the same, whatever is asked."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, insert

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, DTM, HD, XCN, CXi
from metadata.model import Author, Code, DocumentEntry, Folder
from registry import MIGRATIONS, Registry, rows, schema
from storage.database import Database
from transactions.iti_18 import AdhocQueryRequest
from transactions.query_catalogue import MULTI_PATIENT_QUERIES
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    find_documents_for_multiple_patients,
    find_folders,
    find_folders_for_multiple_patients,
)

AUTHORITY = "1.2.250.1"
PATIENTS = [CX.of(name, AUTHORITY) for name in ("A", "B", "C")]
STATUSES = [xds.APPROVED, xds.DEPRECATED]
TYPES = [xds.STABLE, xds.ON_DEMAND]
LEVELS = [1, 2]
CODES = [Code(code, scheme) for code in ("a", "b", "%", "é'") for scheme in ("1.1", "1.2")]
TIMES = [DTM(text) for text in ("2024", "202406", "20240615", "20240615120000", "2025")]
PEOPLE = [XCN(text) for text in ("^Welby^Marcus", "^welby^Marcus", "^O'Brien^Zoë", "^100%^_[*?")]
REFERENCES = [CXi(f"{n}^^^&1.2&ISO^urn:ihe:iti:xds:2013:{kind}") for n in "12" for kind in "xy"]
PATTERNS = ["%", "%elby%", "^_elby^Marcus", "%[%", "%*%", "^100\\%%", "%Zo_", PEOPLE[0]]

DOCUMENT_CODES = (
    "class_code",
    "type_code",
    "format_code",
    "practice_setting_code",
    "healthcare_facility_type_code",
)
DOCUMENT_TIMES = ("creation_time", "service_start_time", "service_stop_time")


@dataclass(frozen=True)
class Kept:
    """An object with what the registry keeps beside it."""

    patient: CX
    level: int
    object: Any

    @property
    def id(self) -> str:
        return str(self.object.entry_uuid)


def contents() -> list[Kept]:
    """Some hundred documents and folders, the same at every run."""
    chance = random.Random(18)

    def some(values: Sequence[Any]) -> list[Any]:
        return chance.sample(list(values), chance.randint(0, 2))

    def maybe(values: Sequence[Any]) -> Any:
        return chance.choice([None, *values])

    def uuid() -> str:
        return f"urn:uuid:{UUID(int=chance.getrandbits(128))}"

    kept = []
    for _ in range(150):
        offline = chance.random() < 0.2
        document = DocumentEntry(
            entry_uuid=uuid(),
            availability_status=chance.choice(STATUSES),
            object_type=chance.choice([xds.STABLE, *TYPES]),
            author=[Author(person=person) for person in some(PEOPLE)],
            event_code_list=some(CODES),
            confidentiality_code=some(CODES),
            reference_id_list=some(REFERENCES),
            document_availability=xds.OFFLINE if offline else maybe([xds.ONLINE]),
            **{key: maybe(CODES) for key in DOCUMENT_CODES},
            **{key: maybe(TIMES) for key in DOCUMENT_TIMES},
        )
        kept.append(Kept(chance.choice(PATIENTS), 2 if offline else 1, document))
    for _ in range(50):
        folder = Folder(
            entry_uuid=uuid(),
            availability_status=chance.choice(STATUSES),
            code_list=some(CODES),
            last_update_time=chance.choice(TIMES),
        )
        kept.append(Kept(chance.choice(PATIENTS), chance.choice(LEVELS), folder))
    return kept


CONTENTS = contents()
# B was merged into A; C stands for itself.
SURVIVORS = {PATIENTS[0]: PATIENTS[0], PATIENTS[1]: PATIENTS[0], PATIENTS[2]: PATIENTS[2]}


def keep(connection: Connection) -> None:
    for patient, survivor in SURVIVORS.items():
        connection.execute(insert(schema.patient), [{"id": patient, "survivor": survivor}])
    for kept in CONTENTS:
        document = isinstance(kept.object, DocumentEntry)
        table = schema.document_entry if document else schema.folder
        row = (rows.document_row if document else rows.folder_row)(kept.object, kept.patient)
        connection.execute(insert(table), [{**row, "level": kept.level}])
        if values := list(rows.value_rows(kept.object, kept.patient)):
            connection.execute(insert(schema.attribute_value), values)


@pytest.fixture(scope="module")
def registries(
    postgresql_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Registry]]:
    """A registry on each engine, with the same contents."""
    folder: Path = tmp_path_factory.mktemp("agree")
    name = f"agree_{os.getpid()}"
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    domain = AffinityDomain(HD.of(AUTHORITY), unknown_patient="empty", merged_patient="empty")
    with (
        Database.open(f"sqlite:///{folder / 'registry.db'}") as one,
        Database.open(postgresql_url.replace("/postgres?", f"/{name}?")) as other,
    ):
        for database in (one, other):
            database.migrate(MIGRATIONS)
            database.write(keep)
        yield [Registry(database, domain) for database in (one, other)]


def found(registry: Registry, request: AdhocQueryRequest) -> list[str]:
    across = request.query_id in MULTI_PATIENT_QUERIES
    response = (registry.query_patients if across else registry.query)(request)
    assert response.status == xds.SUCCESS, response.errors
    return sorted(response.objects().object_refs)


# --- What the standard says (3.18.4.1.2.3), in plain words -------------------------------------


def like(pattern: str, text: str) -> bool:
    wild = {"%": ".*", "_": "."}
    return bool(re.fullmatch("".join(wild.get(c, re.escape(c)) for c in pattern), text, re.DOTALL))


def same(code: Code | None, other: Code) -> bool:
    return code is not None and (code.code, code.scheme) == (other.code, other.scheme)


def meets(kept: Kept, filters: dict[str, Any]) -> bool:
    return all(_meets(kept, key, wanted) for key, wanted in filters.items())


def _meets(kept: Kept, key: str, wanted: Any) -> bool:
    obj = kept.object
    if key == "metadata_level":
        return kept.level <= int(wanted)
    if key == "status":
        return obj.availability_status in wanted
    if key == "type":
        return obj.object_type in wanted
    if key == "document_availability":
        return (obj.document_availability or xds.ONLINE) in wanted
    if key == "author_person":
        return any(like(one, author.person) for one in wanted for author in obj.author)
    if key == "reference_id_list":
        values = obj.reference_id_list
        return all(any(like(one, value) for one in group for value in values) for group in wanted)
    if key.endswith(("_from", "_to")):
        name, _, bound = key.rpartition("_")
        time, limit = getattr(obj, name), DTM(wanted)
        if time is None:
            return True
        late = time.padded() >= limit.padded()
        return late if bound == "from" else not late
    if key in DOCUMENT_CODES:
        return any(same(getattr(obj, key), one) for one in wanted)
    held = getattr(obj, key)
    return all(any(same(code, one) for one in group for code in held) for group in wanted)


# --- Random questions: two thousand in all, those across patients being two each ----------------

codes = st.lists(st.sampled_from(CODES), min_size=1, max_size=4)
code_groups = st.lists(codes, min_size=1, max_size=3)
times = st.sampled_from([str(time) for time in TIMES])
patients = st.lists(st.sampled_from(PATIENTS), min_size=1, max_size=3)
statuses = st.lists(st.sampled_from(STATUSES), min_size=1, unique=True)
levels = st.sampled_from(LEVELS)
document_filters = st.fixed_dictionaries(
    {"status": statuses, "type": st.lists(st.sampled_from(TYPES), min_size=1)},
    optional={
        **dict.fromkeys(DOCUMENT_CODES, codes),
        **{f"{key}_{bound}": times for key in DOCUMENT_TIMES for bound in ("from", "to")},
        "event_code_list": code_groups,
        "confidentiality_code": code_groups,
        "author_person": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2),
        "document_availability": st.lists(
            st.sampled_from([xds.ONLINE, xds.OFFLINE, "urn:other"]), min_size=1
        ),
        "metadata_level": levels,
    },
)
# Most random criteria find nothing when all are met together: a few at a time find more.
few_filters = st.builds(
    lambda filters, chosen: {
        key: value
        for index, (key, value) in enumerate(filters.items())
        if key in ("status", "type") or index in chosen
    },
    document_filters,
    st.sets(st.integers(2, 16), max_size=3),
)
folder_filters = st.fixed_dictionaries(
    {"status": statuses},
    optional={
        "code_list": code_groups,
        "last_update_time_from": times,
        "last_update_time_to": times,
        "metadata_level": levels,
    },
)
references = st.lists(
    st.lists(
        st.sampled_from([*REFERENCES, "%x", "1^%", "_^^^&1.2&ISO^%:y", "%"]), min_size=1, max_size=2
    ),
    min_size=1,
    max_size=2,
)


def expected(kind: type, filters: dict[str, Any], of: Sequence[CX] | None) -> list[str]:
    """The entryUUIDs of what should be found of some patients, or of any."""
    filters = {"metadata_level": 1, **filters}
    return sorted(
        kept.id
        for kept in CONTENTS
        if isinstance(kept.object, kind)
        and (of is None or SURVIVORS[kept.patient] in of)
        and meets(kept, filters)
    )


def agree(registries: Sequence[Registry], request: AdhocQueryRequest, wanted: list[str]) -> None:
    for registry in registries:
        assert found(registry, replace(request, return_type="ObjectRef")) == wanted


@given(st.sampled_from(PATIENTS), few_filters)
@settings(max_examples=800, deadline=None)
def test_on_documents(registries: list[Registry], patient: CX, filters: dict[str, Any]) -> None:
    wanted = expected(DocumentEntry, filters, [patient])
    agree(registries, find_documents(patient, **filters), wanted)


@given(st.sampled_from(PATIENTS), references, few_filters)
@settings(max_examples=500, deadline=None)
def test_on_references(
    registries: list[Registry], patient: CX, reference: Any, filters: dict[str, Any]
) -> None:
    wanted = expected(DocumentEntry, {**filters, "reference_id_list": reference}, [patient])
    agree(registries, find_documents_by_reference_id(patient, reference, **filters), wanted)


@given(st.sampled_from(PATIENTS), folder_filters)
@settings(max_examples=300, deadline=None)
def test_on_folders(registries: list[Registry], patient: CX, filters: dict[str, Any]) -> None:
    agree(registries, find_folders(patient, **filters), expected(Folder, filters, [patient]))


@given(st.none() | patients, few_filters, folder_filters, code_groups)
@settings(max_examples=200, deadline=None)
def test_across_patients(
    registries: list[Registry],
    of: list[CX] | None,
    filters: dict[str, Any],
    of_folders: dict[str, Any],
    selection: Any,
) -> None:
    filters = {**filters, "event_code_list": selection}
    request = find_documents_for_multiple_patients(of or (), **filters)
    agree(registries, request, expected(DocumentEntry, filters, of))
    of_folders = {**of_folders, "code_list": selection}
    request = find_folders_for_multiple_patients(of or (), **of_folders)
    agree(registries, request, expected(Folder, of_folders, of))
