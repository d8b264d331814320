"""Choices that identity messages carry: whether a record is protected (HL7 v2, PD1-12)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, select, text

from security.access.schema import CARRIED_CHOICE
from storage.database import Database
from storage.statement import Statement

# A message that is sent again, or late, takes nothing back that its sender has said since: an
# opposition holds from whenever it is heard of.
_KEEP = text(
    "INSERT INTO carried_choice (patient, opposed, sender, at, said_at)"
    " VALUES (:patient, :opposed, :sender, :at, :said_at)"
    " ON CONFLICT (patient) DO UPDATE SET opposed = excluded.opposed,"
    " sender = excluded.sender, at = excluded.at, said_at = excluded.said_at"
    " WHERE excluded.opposed = 'Y' OR excluded.sender <> carried_choice.sender"
    " OR excluded.said_at >= coalesce(carried_choice.said_at, '')"
)
# It is run for every question.
_OPPOSED = Statement(
    select(CARRIED_CHOICE.c.opposed).where(CARRIED_CHOICE.c.patient == bindparam("of"))
)
YES, NO = "Y", "N"


class CarriedChoices:
    """What messages have said, the last one of each patient; safe for many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, patients: Collection[str], opposed: bool, sender: str, at: datetime, said_at: str = ""
    ) -> None:
        """Keep, durably, what a message of ``said_at`` (DTM, UTC) says of a patient (CX), unless
        it takes back what its sender has said later. Raises StorageError."""
        said = {"opposed": YES if opposed else NO, "sender": sender, "at": at.isoformat()}
        rows = [{"patient": patient, "said_at": said_at, **said} for patient in patients]
        self._database.write(lambda connection: connection.execute(_KEEP, rows))

    def opposed(self, patients: Collection[str]) -> bool:
        """Whether a patient, known by all of these identifiers, is opposed. Raises StorageError."""
        said = self._database.rows(_OPPOSED, [{"of": patient} for patient in patients])
        return (YES,) in said
