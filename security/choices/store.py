"""Choices of patients, kept and asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, bindparam, delete, literal_column, or_, select, text

from security.access.decision import NOBODY, Choices
from security.choices.schema import CHOICE, MASK, OPPOSED, REVIEW, TREATING
from storage.database import Database
from storage.statement import Statement


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice: see ``security.choices.schema``. ``until`` is empty for one without end."""

    patient: str
    kind: str
    subject: str
    audience: str
    until: str
    operator: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody thought of an emergency."""

    issuer: str
    id: str
    operator: str
    at: str
    remark: str


_COLUMNS = [column.name for column in CHOICE.columns]
_SAY = text(
    f"INSERT INTO choice ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{c}' for c in _COLUMNS)})"
    " ON CONFLICT (patient, kind, subject, audience) DO UPDATE SET until = excluded.until,"
    " operator = excluded.operator, at = excluded.at, reason = excluded.reason"
)
# It is run for every question.
_HOLDING = Statement(
    select(CHOICE.c.kind, CHOICE.c.subject, CHOICE.c.audience).where(
        CHOICE.c.patient == bindparam("of"),
        or_(CHOICE.c.until == literal_column("''"), CHOICE.c.until > bindparam("now")),
    )
)
_REVIEWED = text(
    "INSERT INTO emergency_review (issuer, id, operator, at, remark)"
    " VALUES (:issuer, :id, :operator, :at, :remark) ON CONFLICT DO NOTHING"
)


class ChoiceStore:
    """The choices in one database; safe for many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def say(self, choice: Choice) -> None:
        """Keep a choice, in the place of an earlier one of the same matter."""
        self._database.write(lambda connection: connection.execute(_SAY, asdict(choice)))

    def take_back(self, patient: str, kind: str, subject: str = "", audience: str = "") -> bool:
        """Forget a choice; whether there was one."""
        matter = and_(
            CHOICE.c.patient == patient,
            CHOICE.c.kind == kind,
            CHOICE.c.subject == subject,
            CHOICE.c.audience == audience,
        )
        gone = delete(CHOICE).where(matter)
        return self._database.write(lambda connection: connection.execute(gone).rowcount) > 0

    def of(self, patient: str | None = None) -> list[Choice]:
        """The choices of a patient, or of all, also those that have ended."""
        query = select(CHOICE).order_by(CHOICE.c.patient, CHOICE.c.kind, CHOICE.c.subject)
        if patient is not None:
            query = query.where(CHOICE.c.patient == patient)
        with self._database.read() as connection:
            return [Choice(*row) for row in connection.execute(query)]

    def holding(self, patients: Collection[str], now: datetime) -> Choices:
        """What holds now for one patient, known by all of these identifiers."""
        moment = now.isoformat()
        rows = self._database.rows(_HOLDING, [{"of": one, "now": moment} for one in patients])
        return _choices(rows)

    def review(self, review: Review) -> bool:
        """Keep what somebody thought of an emergency; False when it was reviewed before."""

        def work(connection: Connection) -> int:
            return connection.execute(_REVIEWED, asdict(review)).rowcount

        return self._database.write(work) > 0

    def reviews(self) -> Mapping[tuple[str, str], Review]:
        """All reviews, by issuer and id of the assertion that broke the glass."""
        with self._database.read() as connection:
            found = [Review(*row) for row in connection.execute(select(REVIEW))]
        return {(one.issuer, one.id): one for one in found}


def _choices(rows: Iterable[tuple[str, str, str]]) -> Choices:
    opposed = False
    treating: set[str] = set()
    masks: defaultdict[str, frozenset[str]] = defaultdict(lambda: NOBODY)
    for kind, subject, audience in rows:
        if kind == OPPOSED:
            opposed = True
        elif kind == TREATING:
            treating.add(subject)
        elif kind == MASK:
            masks[subject] |= {audience}
    return Choices(opposed, frozenset(treating), dict(masks))
