"""Breaking the glass: by right, with a reason, for a while, told before it opens anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metadata.datatypes import LocalizedString
from metadata.model import Code
from node.migrate import script_location
from security.access.decision import Policy
from security.access.emergencies import Emergencies, Override, overrides
from security.access.schema import METADATA
from security.assertions.claims import Claims
from security.assertions.refusal import TokenRefused
from security.choices.schema import METADATA as CHOICES
from security.choices.store import ChoiceStore, Review
from storage.database import Database
from storage.migrations import metadata_differs

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DOCTOR = Code("221", "2.16.840.1.113883.2.9.6.2.7", LocalizedString("Doctor"))
EMERGENCY = Code("BTG", "2.16.840.1.113883.5.8", LocalizedString("Break the glass"))
CLAIMS = Claims(
    id="_1",
    issuer="idp",
    subject="ada",
    not_before=NOON,
    not_on_or_after=NOON + timedelta(hours=8),
    roles=(DOCTOR,),
    purposes=(EMERGENCY,),
    reasons=("unconscious",),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/access.db") as database:
        with script_location("security.access") as scripts:
            database.migrate(scripts)
        yield database


class Ward:
    """Emergencies at a time that can be moved, and the alarms they raised."""

    def __init__(self, database: Database) -> None:
        self.now = NOON
        self.alarms: list[Override] = []
        self.database = database
        self.emergencies = self.another()

    def another(self) -> Emergencies:
        """Those of another process, or after a restart."""
        return Emergencies(self.database, Policy.read(), self.alarms.append, lambda: self.now)


@pytest.fixture
def ward(database: Database) -> Ward:
    return Ward(database)


def test_an_emergency_is_kept_and_raises_one_alarm(ward: Ward) -> None:
    assert ward.emergencies.declared(CLAIMS, "north")
    assert ward.emergencies.declared(CLAIMS, "north")
    assert ward.another().declared(CLAIMS, "north")
    [alarm] = ward.alarms
    assert (alarm.user, alarm.node, alarm.reason) == ("<ada@idp>", "north", "unconscious")
    assert overrides(ward.database) == [alarm]


def test_who_declares_none_is_in_none(ward: Ward) -> None:
    assert not ward.emergencies.declared(replace(CLAIMS, purposes=()), "north")
    assert ward.alarms == []


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        (replace(CLAIMS, roles=()), "no right"),
        (replace(CLAIMS, reasons=()), "needs a reason"),
        (replace(CLAIMS, reasons=("",)), "needs a reason"),
    ],
)
def test_without_right_or_reason_it_is_refused(ward: Ward, claims: Claims, told: str) -> None:
    with pytest.raises(TokenRefused, match=told):
        ward.emergencies.declared(claims, "north")
    assert overrides(ward.database) == []


def test_it_ends_when_its_time_is_over_in_every_process(ward: Ward) -> None:
    ward.emergencies.declared(CLAIMS, "north")
    ward.now += timedelta(minutes=59)
    assert ward.emergencies.declared(CLAIMS, "north")
    ward.now += timedelta(minutes=1)
    for emergencies in (ward.emergencies, ward.another()):
        with pytest.raises(TokenRefused, match="is over"):
            emergencies.declared(CLAIMS, "north")


def test_what_cannot_be_kept_or_told_opens_nothing(ward: Ward) -> None:
    def deaf(_override: Override) -> None:
        raise OSError("no audit trail")

    emergencies = Emergencies(ward.database, Policy.read(), deaf, lambda: ward.now)
    for _ in range(2):
        with pytest.raises(OSError, match="no audit trail"):
            emergencies.declared(CLAIMS, "north")


def test_a_review_is_kept_once(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/choices.db") as database:
        with script_location("security.choices") as scripts:
            database.migrate(scripts)
        assert metadata_differs(database, CHOICES) == []
        store = ChoiceStore(database)
        review = Review("idp", "_1", "carol", "2026-03-03", "justified")
        assert store.review(review)
        assert not store.review(replace(review, remark="not so"))
        assert store.reviews() == {("idp", "_1"): review}


def test_migrations_and_models_agree(database: Database) -> None:
    assert metadata_differs(database, METADATA) == []
