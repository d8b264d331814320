"""Choices that identity messages carry: whether a record is protected (HL7 v2, PD1-12)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, select, text

from security.access.schema import CARRIED_CHOICE
from storage.database import Database
from storage.statement import Statement

_KEEP = text(
    "INSERT INTO carried_choice (patient, opposed, sender, at)"
    " VALUES (:patient, :opposed, :sender, :at)"
    " ON CONFLICT (patient) DO UPDATE SET opposed = excluded.opposed,"
    " sender = excluded.sender, at = excluded.at"
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

    def keep(self, patients: Collection[str], opposed: bool, sender: str, at: datetime) -> None:
        """Keep, durably, what a message says of a patient (CX). Raises StorageError."""
        said = {"opposed": YES if opposed else NO, "sender": sender, "at": at.isoformat()}
        rows = [{"patient": patient, **said} for patient in patients]
        self._database.write(lambda connection: connection.execute(_KEEP, rows))

    def opposed(self, patients: Collection[str]) -> bool:
        """Whether a patient, known by all of these identifiers, is opposed. Raises StorageError."""
        said = self._database.rows(_OPPOSED, [{"of": patient} for patient in patients])
        return (YES,) in said
