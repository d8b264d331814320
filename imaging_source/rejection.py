"""Rejection notes (IOCM): a Key Object Selection that takes instances out of use.

Covers RAD TF-2 4.66: titles (113001, 113037, 113038, 113039, DCM). A note acts on instances of its
own study, where the index has them as the note says they are; it acts on those that have not
arrived yet when they do. What was rejected keeps its row and its bytes and is behind no door.

Of several notes about one instance the weightiest counts. What is sent again stays rejected,
save after 113039 (Data Retention Policy Expired): that instance was in order, merely old, and is
taken in as new. It does not cover who may still see an instance of poor quality: nobody does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from imaging_source.elements import Elements, Unreadable, encoding_of
from imaging_source.reports import note_rejected
from imaging_source.schema import INSTANCE, REJECTION
from imaging_source.shown import SHOWN
from storage.statement import in_portions

QUALITY = "113001"
"""Rejected for Quality Reasons."""
SAFETY = "113037"
"""Rejected for Patient Safety Reasons."""
WORKLIST = "113038"
"""Incorrect Modality Worklist Entry."""
EXPIRED = "113039"
"""Data Retention Policy Expired."""

CODES = (EXPIRED, QUALITY, WORKLIST, SAFETY)
"""Every title of a rejection note (PS3.16 CID 7011), the weightiest last."""

IS_KEPT = or_(SHOWN, INSTANCE.c.rejection != EXPIRED)
"""Whether the file of the instance of the row is kept: what has expired has lost it, or is about to
(``imaging_source.retention``)."""

_SCHEME = "DCM"

_SOP_INSTANCE = 0x00080018
_CODE_VALUE, _CODE_SCHEME = 0x00080100, 0x00080102
_REFERENCED_SERIES, _REFERENCED_SOP = 0x00081115, 0x00081199
_REFERENCED_INSTANCE = 0x00081155
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_TITLE, _EVIDENCE = 0x0040A043, 0x0040A375


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance that a note names, where the note says that it is."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Note:
    """What a rejection note says; ``references`` keep its order."""

    code: str
    note_uid: str
    study_instance_uid: str
    references: tuple[Reference, ...]


def read_note(data: bytes, transfer_syntax_uid: str) -> Note | None:
    """The rejection note that a Key Object Selection data set is; None for any other title.

    Raises Unreadable for a note whose references cannot be read: it must not seem to be obeyed.
    """
    elements = Elements(data, encoding_of(transfer_syntax_uid))
    code = _title(elements)
    if code not in CODES:
        return None
    references = dict.fromkeys(_references(elements))
    return Note(code, _value(elements, _SOP_INSTANCE), _value(elements, _STUDY), tuple(references))


def reject(connection: Connection, note: Note, now: float) -> int:
    """Take what ``note`` names out of use, now or when it arrives; how many it may not touch.

    Those are instances of other studies, and instances that the index has in another series.
    """
    own = [one for one in note.references if one.study_instance_uid == note.study_instance_uid]
    misplaced = len(note.references) - len(own)
    for portion in in_portions(own):
        misplaced += _reject(connection, note, portion, now)
    return misplaced


def lighter_than(code: str) -> Sequence[str]:
    """The codes that ``code`` overrules."""
    return CODES[: CODES.index(code)]


def _reject(connection: Connection, note: Note, references: list[Reference], now: float) -> int:
    uids = [one.sop_instance_uid for one in references]
    places = select(
        INSTANCE.c.sop_instance_uid, INSTANCE.c.study_instance_uid, INSTANCE.c.series_instance_uid
    ).where(INSTANCE.c.sop_instance_uid.in_(uids))
    known = {uid: (study, series) for uid, study, series in connection.execute(places)}
    right = [
        one for one in references if known.get(one.sop_instance_uid, _place(one)) == _place(one)
    ]
    _remember(connection, note, right, now)
    _hide(connection, note, [one.sop_instance_uid for one in right])
    return len(references) - len(right)


def _place(reference: Reference) -> tuple[str, str]:
    return reference.study_instance_uid, reference.series_instance_uid


def _remember(connection: Connection, note: Note, references: list[Reference], now: float) -> None:
    """Keep one row for each instance, of the weightiest code."""
    uids = [one.sop_instance_uid for one in references]
    known = select(REJECTION.c.sop_instance_uid).where(REJECTION.c.sop_instance_uid.in_(uids))
    before = set(connection.execute(known).scalars())
    connection.execute(
        update(REJECTION)
        .where(
            REJECTION.c.sop_instance_uid.in_(uids), REJECTION.c.code.in_(lighter_than(note.code))
        )
        .values(code=note.code, note_uid=note.note_uid, received_at=now)
    )
    rows = [_row(note, one, now) for one in references if one.sop_instance_uid not in before]
    if rows:
        connection.execute(insert(REJECTION), rows)


def _hide(connection: Connection, note: Note, uids: list[str]) -> None:
    rejection = INSTANCE.c.rejection
    note_rejected(connection, uids)
    connection.execute(
        update(INSTANCE)
        .where(
            INSTANCE.c.sop_instance_uid.in_(uids),
            or_(rejection.is_(None), rejection.in_(lighter_than(note.code))),
        )
        .values(rejection=note.code)
    )


def _row(note: Note, reference: Reference, now: float) -> dict[str, Any]:
    return {
        "sop_instance_uid": reference.sop_instance_uid,
        "study_instance_uid": reference.study_instance_uid,
        "series_instance_uid": reference.series_instance_uid,
        "code": note.code,
        "note_uid": note.note_uid,
        "received_at": now,
    }


def _title(elements: Elements) -> str:
    """The code of the document's title in scheme DCM; empty for what has none to be read."""
    try:
        for item in _items(elements, _TITLE):
            if _value(item, _CODE_SCHEME) == _SCHEME:
                return _value(item, _CODE_VALUE)
    except Unreadable:
        pass  # a Key Object Selection like any other
    return ""


def _references(elements: Elements) -> Iterator[Reference]:
    for study in _items(elements, _EVIDENCE):
        study_uid = _value(study, _STUDY)
        for series in _items(study, _REFERENCED_SERIES):
            series_uid = _value(series, _SERIES)
            for reference in _items(series, _REFERENCED_SOP):
                uid = _value(reference, _REFERENCED_INSTANCE)
                yield Reference(study_uid, series_uid, uid)


def _items(elements: Elements, sequence: int) -> Iterator[Elements]:
    span = elements.find({sequence}).get(sequence)
    return iter(()) if span is None else elements.items(span)


def _value(elements: Elements, tag: int) -> str:
    start, stop = elements.find({tag}).get(tag, (0, 0))
    return elements.data[start:stop].strip(b"\0 ").decode("ascii", "replace")
