"""Writing works that may meet a rival, and what is answered when they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from metadata import catalogue as rules
from metadata.catalogue import Fault
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable, OutOfSpace
from transactions.registry_response import RegistryResponse, RegistryUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A work looks before it inserts, so a duplicate key means that a rival committed in between:
# the next try sees the rival's row. Each further try needs one more rival in the same instant.
ATTEMPTS = 4


class Refused(Exception):
    """The request breaks rules of the registry's state: the transaction is undone."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def write(database: Database, work: Callable[[Connection], T]) -> T:
    """``database.write(work)``, tried again when a rival inserted the same key first.

    Only PostgreSQL has rivals: SQLite has one writer. Raises what ``Database.write`` raises,
    and IntegrityError when every try met a rival.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return database.write(work)
        except IntegrityError:
            continue
    return database.write(work)


def answer(transaction: str, name: str, perform: Callable[[], list[Fault]]) -> RegistryResponse:
    """The answer of ``transaction`` to what ``perform`` finds wrong, or could not do.

    ``name`` is what an error calls the request. Raises RegistryUnavailable when the database
    failed and the outcome is unknown: the sender may repeat the same message.
    """
    try:
        faults = perform()
    except (DatabaseBusy, IntegrityError) as error:  # the latter: rivals in every try
        logger.warning("%s not done, to be sent again: %s", transaction, type(error).__name__)
        faults = [Fault(rules.BUSY, name)]
    except OutOfSpace:
        faults = [Fault(rules.OUT_OF_RESOURCES, name, problem="no space")]
    except DatabaseUnavailable as error:
        raise RegistryUnavailable("the registry's database is not available") from error
    return RegistryResponse.of(fault.error(transaction) for fault in faults)
