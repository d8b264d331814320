"""A study is published as soon as somebody who is believed says that it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset

from imaging_source import outbox
from imaging_source.completeness import SETTLED_SECONDS, Signal, tell
from imaging_source.index import MIGRATIONS
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]
QUIET_SECONDS = 600.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@pytest.fixture
def is_due(database: Database, clock: Any) -> Callable[..., bool]:
    def due(*believed: Signal) -> bool:
        quiet_since = clock.now - QUIET_SECONDS
        with database.read() as connection:
            return bool(outbox.due_studies(connection, quiet_since, 10, clock.now, believed))

    return due


@pytest.fixture
def say(database: Database, make_instance: Make, clock: Any) -> Callable[..., None]:
    uid = make_instance().StudyInstanceUID

    def said(signal: Signal, instances: int | None = None) -> None:
        database.write(lambda one: tell(one, uid, signal, clock.now, instances))

    return said


def test_a_believed_signal_makes_a_settled_study_due(
    store: Store,
    make_instance: Make,
    say: Callable[..., None],
    is_due: Callable[..., bool],
    clock: Any,
) -> None:
    store(make_instance())
    clock.now += 1
    say(Signal.MPPS)
    assert not is_due(Signal.MPPS)
    clock.now += SETTLED_SECONDS
    assert is_due(Signal.MPPS)
    assert is_due(Signal.REPORT, Signal.MPPS)
    assert not is_due(Signal.REPORT, Signal.IAN)
    assert not is_due()


def test_images_that_come_after_the_word_take_it_back_until_it_is_said_again(
    store: Store,
    make_instance: Make,
    say: Callable[..., None],
    is_due: Callable[..., bool],
    clock: Any,
) -> None:
    store(make_instance())
    say(Signal.IAN)
    clock.now += 2
    store(make_instance())
    clock.now += SETTLED_SECONDS
    assert not is_due(Signal.IAN)
    say(Signal.IAN)
    assert is_due(Signal.IAN)


def test_a_word_that_names_a_number_waits_for_so_many_images(
    store: Store,
    make_instance: Make,
    say: Callable[..., None],
    is_due: Callable[..., bool],
    clock: Any,
) -> None:
    say(Signal.MPPS, 2)
    store(make_instance())
    clock.now += SETTLED_SECONDS
    assert not is_due(Signal.MPPS)
    store(make_instance())
    clock.now += SETTLED_SECONDS
    assert is_due(Signal.MPPS)


def test_what_nobody_tells_of_is_due_when_it_has_been_quiet(
    store: Store, make_instance: Make, is_due: Callable[..., bool], clock: Any
) -> None:
    store(make_instance())
    clock.now += QUIET_SECONDS
    assert is_due(Signal.MPPS)
    assert is_due()
