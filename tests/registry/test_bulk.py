"""Loading many submissions stores what ITI-42 would have stored, and refuses what it would."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from lxml import etree
from sqlalchemy import Connection, select

from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from registry.bulk import Loaded, Loader, Source, helpers
from registry.schema import METADATA
from storage.database import Database
from tests.registry.conftest import Draft, House
from tests.registry.test_rivals import at_once
from tests.registry.test_subscriptions import FULL, Desk
from transactions.iti_42 import SubmitObjectsRequest
from transactions.stored_query import find_submission_sets
from transactions.subscription_filters import DOCUMENT_FILTER

Tables = dict[str, list[tuple[Any, ...]]]

_UUID = re.compile(r"urn:uuid:[0-9a-f-]{36}")


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def loader(house: House, pool: Executor) -> Loader:
    return Loader(house.database, house.domain, pool, house.clock)


def source(draft: Draft, name: str = "") -> Source:
    return Source(name or draft.set.unique_id or "", etree.tostring(draft.request().element))


def load(loader: Loader, *sources: Source, batch: int = 1000) -> Loaded:
    """Load, and add the reports up."""
    total = Loaded()
    for report in loader.load(sources, batch):
        total.add(report)
    return total


def stored(database: Database, sources: list[Source]) -> Tables:
    """Every row of the registry; ids that the registry made are all alike."""
    given = set(_UUID.findall(" ".join(one.text.decode() for one in sources)))

    def plain(value: Any) -> Any:
        text = value.decode() if isinstance(value, bytes) else value
        if not isinstance(text, str):
            return text
        return _UUID.sub(lambda match: match[0] if match[0] in given else "made", text)

    def rows(connection: Connection) -> Tables:
        return {
            table.name: sorted(
                (tuple(map(plain, row)) for row in connection.execute(select(table))), key=repr
            )
            for table in METADATA.sorted_tables
        }

    with database.read() as connection:
        return rows(connection)


class Play:
    """Submissions that build on each other, some of them wrong."""

    def __init__(self, house: House, seed: int) -> None:
        self._house = house
        self._random = random.Random(seed)
        self._documents: list[tuple[str, str, str]] = []  # (entryUUID, uniqueId, patient)
        self._folders: list[tuple[str, str]] = []  # (entryUUID, patient)

    def sources(self, count: int) -> list[Source]:
        return [self._source(number) for number in range(count)]

    def _source(self, number: int) -> Source:
        patient = self._random.choice(["P1", "P1", "P2", "nobody"])
        draft = self._house.draft(patient)
        draft.set.entry_uuid = "set"
        name = self._random.choice([new_uuid_urn(), f"symbolic-{number}"])
        document = draft.document(name)
        self._random.choice(
            [self._alone, self._alone, self._filed, self._replacing, self._again, self._invalid]
        )(draft, document)
        if name.startswith("urn:") and patient != "nobody":
            self._documents.append((name, document.unique_id or "", patient))
        return source(draft, f"{number}")

    def _alone(self, draft: Draft, document: Any) -> None:
        """Nothing but itself."""

    def _filed(self, draft: Draft, document: Any) -> None:
        if self._folders and self._random.random() < 0.5:
            draft.file(document.entry_uuid, self._random.choice(self._folders)[0])
            return
        folder = draft.folder(new_uuid_urn())
        draft.file(document.entry_uuid, folder.entry_uuid)
        self._folders.append((folder.entry_uuid, draft.patient))

    def _replacing(self, draft: Draft, document: Any) -> None:
        if self._documents:
            kind = self._random.choice([xds.RPLC, xds.APND, xds.XFRM])
            draft.link(kind, document.entry_uuid, self._random.choice(self._documents)[0])

    def _again(self, draft: Draft, document: Any) -> None:
        if self._documents:
            document.unique_id = self._random.choice(self._documents)[1]

    def _invalid(self, draft: Draft, document: Any) -> None:
        document.class_code = None


@pytest.mark.parametrize("seed", range(6))
def test_the_rows_are_those_of_single_registrations(
    house: House, loader: Loader, database: Database, seed: int
) -> None:
    sources = Play(house, seed).sources(40)
    before = stored(database, sources)
    report = load(loader, *sources, batch=7)
    loaded = stored(database, sources)
    empty(database, before)
    answers = [house.registry.register(request(one)) for one in sources]
    assert loaded == stored(database, sources)
    refused = [one.name for one in report.told if one.refused]
    failed = [o.name for o, a in zip(sources, answers, strict=True) if a.status == xds.FAILURE]
    assert refused == failed
    assert 0 < len(failed) < len(sources)
    told = {one.name: one.errors for one in report.told}
    for one, answer in zip(sources, answers, strict=True):
        assert told.get(one.name, ()) == answer.errors
    assert report.registered == len(sources) - len(failed)


def request(one: Source) -> SubmitObjectsRequest:
    return SubmitObjectsRequest(etree.fromstring(one.text))


def empty(database: Database, kept: Tables) -> None:
    """Take away what was registered; patients stay."""

    def work(connection: Connection) -> None:
        for table in METADATA.sorted_tables:
            if not kept[table.name]:
                connection.execute(table.delete())

    database.write(work)


def test_processes_prepare_what_is_loaded(house: House, database: Database) -> None:
    drafts = [house.draft() for _ in range(6)]
    documents = [draft.document() for draft in drafts]
    with helpers(1) as pool:
        loader = Loader(house.database, house.domain, pool)
        report = load(loader, *map(source, drafts), batch=4)
    assert (report.registered, report.entries, report.refused) == (6, 6, 0)
    for document in documents:
        assert house.document(document.unique_id).title == document.title


def test_processes_keep_what_trees_are_made_of_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=5")
    with helpers(1) as pool:
        told = pool.submit(os.getenv, "GLIBC_TUNABLES", "").result()
        assert told == "glibc.malloc.tcache_count=5"
    monkeypatch.delenv("GLIBC_TUNABLES")
    with helpers(1) as pool:
        told = pool.submit(os.getenv, "GLIBC_TUNABLES", "").result()
        assert told == "glibc.malloc.tcache_count=4000"


def with_uuid(one: Source) -> Source:
    """The same submission with a registered id for its SubmissionSet."""
    return one._replace(text=one.text.replace(b'"set"', f'"{new_uuid_urn()}"'.encode()))


@pytest.mark.parametrize("named", [lambda one: one, with_uuid], ids=["symbolic", "uuid"])
def test_what_is_there_already_is_left_alone(
    house: House, loader: Loader, named: Callable[[Source], Source]
) -> None:
    drafts = [house.draft() for _ in range(5)]
    for draft in drafts:
        draft.document()
        draft.folder()
    sources = [named(source(draft)) for draft in drafts]
    assert load(loader, *sources[:3]).registered == 3
    before = stored(house.database, sources)
    again = load(loader, *sources[:3])
    assert (again.present, again.registered, again.refused) == (3, 0, 0)
    assert stored(house.database, sources) == before
    rest = load(loader, *sources)
    assert (rest.present, rest.registered) == (3, 2)


def test_what_goes_the_way_of_a_registration_is_not_done_twice(
    house: House, loader: Loader
) -> None:
    sources = Play(house, seed=1).sources(30)
    first = load(loader, *sources)
    before = stored(house.database, sources)
    again = load(loader, *sources)
    assert (again.present, again.registered) == (first.registered, 0)
    assert again.refused == first.refused
    assert stored(house.database, sources) == before


def test_another_submission_set_of_the_same_uuid_is_refused(house: House, loader: Loader) -> None:
    first, second = house.draft(), house.draft()
    first.document()
    second.document()
    one = with_uuid(source(first))
    uuid = _UUID.findall(one.text.decode())[0].encode()
    other = source(second, "other")
    other = other._replace(text=other.text.replace(b'"set"', b'"%s"' % uuid))
    report = load(loader, one, other)
    again = load(loader, one, other)
    assert (report.registered, report.refused) == (1, 1)
    assert (again.present, again.refused) == (1, 1)


def test_another_submission_set_of_the_same_id_is_refused(house: House, loader: Loader) -> None:
    first, second = house.draft(), house.draft()
    first.document()
    second.document()
    second.set.unique_id = first.set.unique_id
    report = load(loader, source(first), source(second, "second"))
    [told] = report.told
    assert (report.registered, report.present, told.name) == (1, 0, "second")
    assert [error.code for error in told.errors] == ["XDSDuplicateUniqueIdInRegistry"]


def test_two_of_one_batch_cannot_share_an_entry_uuid(house: House, loader: Loader) -> None:
    drafts = house.draft(), house.draft()
    name = new_uuid_urn()
    for draft in drafts:
        draft.document(name)
    report = load(loader, *map(source, drafts))
    assert (report.registered, report.refused) == (1, 1)


def test_a_replacement_finds_what_was_loaded_a_line_before(house: House, loader: Loader) -> None:
    first, second = house.draft(), house.draft()
    name = new_uuid_urn()
    old, new = first.document(name), second.document()
    second.link(xds.RPLC, new.entry_uuid, name)
    assert load(loader, source(first), source(second)).registered == 2
    assert house.document(old.unique_id).availability_status == xds.DEPRECATED
    assert house.document(new.unique_id).availability_status == xds.APPROVED


def test_a_merged_patient_gets_nothing_more(house: House, loader: Loader) -> None:
    house.feed("A40", "P2", subsumed="P1")
    draft = house.draft("P1")
    draft.document()
    [told] = load(loader, source(draft)).told
    assert [error.code for error in told.errors] == ["XDSUnknownPatientId"]


@pytest.mark.parametrize("text", [b"", b"<no xml", b"<other/>", b"<!DOCTYPE a><a/>"])
def test_what_cannot_be_read_is_refused_by_name(loader: Loader, text: bytes) -> None:
    report = load(loader, Source("line 3", text))
    [told] = report.told
    assert (told.name, told.refused, report.refused) == ("line 3", True, 1)
    assert told.errors[0].code == "XDSRegistryMetadataError"


def test_what_is_not_kept_is_told_though_it_is_registered(house: House, loader: Loader) -> None:
    draft = house.draft()
    draft.document()
    text = source(draft).text.replace(
        b"</rim:ExtrinsicObject>",
        b'<rim:ExternalIdentifier id="x" registryObject="y" identificationScheme="urn:uuid:z"'
        b' value="v"/></rim:ExtrinsicObject>',
    )
    report = load(loader, Source("odd", text))
    [told] = report.told
    assert (told.refused, report.registered) == (False, 1)
    assert [error.code for error in told.errors] == ["XDSExtraMetadataNotSaved"]


def test_slots_that_the_domain_does_not_save_are_told(house: House, pool: Executor) -> None:
    domain = replace(house.domain, extra_metadata="warn")
    draft = house.draft()
    document = draft.document(extra_slots={"urn:example:extra": ["kept?"]})
    report = load(Loader(house.database, domain, pool), source(draft))
    [told] = report.told
    assert (told.refused, report.registered) == (False, 1)
    assert house.document(document.unique_id).extra_slots == {}


def test_nobody_is_told_of_what_is_loaded(house: House, loader: Loader) -> None:
    desk = Desk(house)
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    first, second = house.draft(), house.draft()
    name = new_uuid_urn()
    first.document(name)
    second.link(xds.APND, second.document().entry_uuid, name)
    assert load(loader, source(first), source(second)).registered == 2
    assert desk.told() == []
    house.registered()
    assert len(desk.told()) == 1


class Stopped(Exception):
    """Something broke."""


def test_a_batch_that_fails_leaves_nothing_and_can_be_loaded_again(
    house: House, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [house.draft() for _ in range(6)]
    for draft in drafts:
        draft.document()
    sources = [*map(source, drafts)]
    reached = iter([False, True])

    def fail(name: str) -> None:
        if name == "bulk.before_commit" and next(reached):
            raise Stopped

    monkeypatch.setattr("registry.bulk.loader.reach", fail)
    with pytest.raises(Stopped):
        load(loader, *sources, batch=3)
    monkeypatch.undo()
    report = load(loader, *sources, batch=3)
    assert (report.present, report.registered) == (3, 3)


def test_who_registers_meanwhile_and_the_load_store_each_set_once(
    house: House, loader: Loader
) -> None:
    drafts = [house.draft() for _ in range(24)]
    for draft in drafts:
        draft.document()
    sources = [*map(source, drafts)]
    load_all: Callable[[], Loaded] = partial(load, loader, *sources, batch=6)
    loaded, *answers = at_once(
        [load_all, *(partial(house.registry.register, request(one)) for one in sources[::3])]
    )
    accepted = [answer for answer in answers if answer.status == xds.SUCCESS]
    assert loaded.registered + len(accepted) == len(sources)
    assert loaded.present == len(accepted)
    found = house.answer(find_submission_sets(house.patient)).submission_sets
    assert len(found) == len(sources)
