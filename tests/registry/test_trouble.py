"""When the database cannot: the standard's own errors, and nothing half-done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Connection, MetaData, Table, Text, bindparam, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from metadata import identifiers as xds
from registry import Registry
from registry.work import ATTEMPTS, write
from storage.errors import DatabaseBusy, DatabaseUnavailable, OutOfSpace, StorageError
from storage.statement import Statement
from transactions.registry_response import RegistryUnavailable
from transactions.stored_query import find_documents


class Failing:
    """A database that is never there when it is needed."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.tries = 0

    def read(self, *, snapshot: bool = True) -> Any:
        self.tries += 1
        raise self.error

    def write(self, work: Callable[[Connection], Any]) -> Any:
        self.tries += 1
        raise self.error


def failing(house: Any, error: Exception) -> Registry:
    return Registry(Failing(error), house.domain)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatabaseBusy("queue full"), "XDSRegistryBusy"),
        (OutOfSpace("disk full"), "XDSRegistryOutOfResources"),
        (IntegrityError("INSERT", {}, Exception("rival")), "XDSRegistryBusy"),
    ],
)
def test_a_registration_without_room_or_time_fails_by_name(
    house: Any, error: Exception, code: str
) -> None:
    draft = house.draft()
    draft.document()
    response = failing(house, error).register(draft.request())
    assert response.status == xds.FAILURE
    assert [error.code for error in response.errors] == [code]


def test_a_registration_of_unknown_outcome_is_not_answered(house: Any) -> None:
    draft = house.draft()
    draft.document()
    with pytest.raises(RegistryUnavailable):
        failing(house, DatabaseUnavailable("gone")).register(draft.request())


def test_a_busy_registry_says_so_to_a_query(house: Any) -> None:
    response = failing(house, DatabaseBusy("pool")).query(find_documents(house.patient))
    assert [error.code for error in response.errors] == ["XDSRegistryBusy"]


def test_a_failed_query_is_logged_under_the_reference_it_answers(
    house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    registry = failing(house, DatabaseUnavailable(f"could not find {house.patient}"))
    with caplog.at_level(logging.ERROR):
        response = registry.query(find_documents(house.patient))
    [error] = response.errors
    assert error.code == "XDSRegistryError"
    [record] = caplog.records
    assert record.getMessage().split()[-1] in error.context
    assert "P1" not in record.getMessage()


def test_the_patients_leave_a_storage_error_to_the_caller(house: Any) -> None:
    """Answering AE would tell the sender never to come back."""
    house.patients._database = Failing(DatabaseBusy("locked"))
    with pytest.raises(StorageError):
        house.feed("A01", "P3")


def test_a_failing_statement_fails_alike_on_both_engines(database: Any) -> None:
    missing = Table("missing", MetaData(), Column("id", Text), Column("name", Text))
    value = {"id": "a secret", "name": "another"}

    def fail(connection: Connection) -> None:
        with pytest.raises(DBAPIError) as failed:
            Statement(select(missing).where(missing.c.id == bindparam("id"))).rows(
                connection, value
            )
        if database.backend == "sqlite":
            assert "secret" not in str(failed.value)
            with pytest.raises(DBAPIError):
                Statement(insert(missing)).run(connection, [value])
        raise LookupError

    with pytest.raises(LookupError):
        database.write(fail)


def test_rivals_are_met_a_few_times_only() -> None:
    database = Failing(IntegrityError("INSERT", {}, Exception("rival")))
    with pytest.raises(IntegrityError):
        write(database, lambda connection: None)  # type: ignore[arg-type]
    assert database.tries == ATTEMPTS
