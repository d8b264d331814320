"""Trails in a folder of their own, and records to put into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.migrate import script_location
from security.audit.chain import make_key
from security.audit.trail import Record, Trail
from storage.space import LowWaterMark

NODE = "north"
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

Open = Callable[[str], Trail]


def message(number: int, patient: str = "4711", user: str = "Dr Doe", outcome: int = 0) -> bytes:
    """An audit message as a node writes it."""
    when = (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<AuditMessage>'
        f'<EventIdentification EventActionCode="E" EventDateTime="{when}"'
        f' EventOutcomeIndicator="{outcome}"><EventID csd-code="110112" codeSystemName="DCM"'
        ' originalText="Query"/><EventTypeCode csd-code="ITI-18"'
        ' codeSystemName="IHE Transactions" originalText="Registry Stored Query"/>'
        f'</EventIdentification><ActiveParticipant UserID="{user}" UserIsRequestor="true"/>'
        '<AuditSourceIdentification AuditSourceID="north"/>'
        f'<ParticipantObjectIdentification ParticipantObjectID="{patient}"'
        ' ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1">'
        '<ParticipantObjectIDTypeCode csd-code="2" codeSystemName="RFC-3881"'
        ' originalText="Patient Number"/></ParticipantObjectIdentification></AuditMessage>'
    ).encode()


def record(number: int, patient: str = "4711", user: str = "Dr Doe") -> Record:
    """The record ``number`` seconds after the start."""
    when = START + timedelta(seconds=number)
    text = message(number, patient, user)
    return Record(text, when, "ITI-18", "E", 0, [patient], [user])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a key."""
    made = tmp_path / "audit"
    make_key(made)
    return made


@pytest.fixture
def open_trail(folder: Path) -> Iterator[Open]:
    """Opens trails of the node; what is open at the end is closed."""
    with ExitStack() as stack, script_location("security") as scripts:
        yield lambda name: stack.enter_context(Trail(folder, NODE, name, LowWaterMark(1), scripts))
