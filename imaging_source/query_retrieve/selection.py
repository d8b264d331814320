"""What a retrieval names: rows of the index, and their files (PS3.4 C.4.2.1, C.4.3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select

from imaging_source.corrections import Correction, corrections_of
from imaging_source.ledger import About
from imaging_source.parts import Part, leaving, opened
from imaging_source.query_retrieve.identifier import Identifier
from imaging_source.query_retrieve.models import UNIQUE_KEY, Level
from imaging_source.schema import INSTANCE, SERIES, STUDY
from imaging_source.service import NOT_OF_THE_CLASS, Refused
from imaging_source.shown import IN_ORDER, SHOWN, Unseen, all_is_seen
from imaging_source.syntaxes import DECODED, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from storage.blobs import BlobStore
from storage.database import Database

# UIDs of one level in one statement: well below SQLite's limit of 32,766 values.
_LIST_LIMIT = 10_000

# What is offered to a destination that may not take an instance as it is stored.
_FALLBACKS = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class Selected:
    """An instance to be sent: as it is stored, with what is known better of its patient."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: str
    size: int
    correction: Correction | None
    about: About

    @property
    def contexts(self) -> tuple[tuple[str, str], ...]:
        """The SOP class in the transfer syntaxes in which it can be sent, as stored first."""
        made = _FALLBACKS if self.transfer_syntax_uid in DECODED else ()
        return tuple((self.sop_class_uid, one) for one in (self.transfer_syntax_uid, *made))


_COLUMNS = {
    Level.PATIENT: STUDY.c.patient_id,
    Level.STUDY: INSTANCE.c.study_instance_uid,
    Level.SERIES: INSTANCE.c.series_instance_uid,
    Level.IMAGE: INSTANCE.c.sop_instance_uid,
}


def select_instances(
    database: Database, identifier: Identifier, top: Level, unseen: Unseen = all_is_seen
) -> list[Selected]:
    """The instances that are shown of what ``identifier`` names, in series and instance order;
    none of studies that are ``unseen``.

    Raises Refused without the unique keys of the level and of those above, and StorageError.
    """
    conditions = [_named(identifier, level) for level in Level if top <= level <= identifier.level]
    query = (
        select(
            INSTANCE.c.sop_class_uid,
            INSTANCE.c.sop_instance_uid,
            INSTANCE.c.transfer_syntax_uid,
            INSTANCE.c.sha256,
            INSTANCE.c.size,
            INSTANCE.c.study_instance_uid,
            STUDY.c.patient_id,
            STUDY.c.issuer_oid,
        )
        .join(SERIES, SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid)
        .join(STUDY, STUDY.c.study_instance_uid == INSTANCE.c.study_instance_uid)
        .where(*conditions, SHOWN)
        .order_by(INSTANCE.c.study_instance_uid, *IN_ORDER)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
        studies = {row.study_instance_uid for row in rows}
        seen = studies.difference(unseen(studies))
        corrections = corrections_of(connection, seen)
    return [
        Selected(*row[:5], corrections.get(row.study_instance_uid), About(*row[5:]))
        for row in rows
        if row.study_instance_uid in seen
    ]


def part_of(blobs: BlobStore, selected: Selected) -> Part:
    """The instance with its Part 10 file: see ``opened`` and ``leaving`` of
    ``imaging_source.parts``, whose errors it raises."""
    study, syntax = selected.about.study_instance_uid, selected.transfer_syntax_uid
    file = opened(blobs, study, selected.sop_instance_uid, selected.sha256)
    content = leaving(file, selected.size, syntax, selected.correction)
    row = {"sha256": selected.sha256, "transfer_syntax_uid": syntax}
    return Part(row, content, selected.correction)


def _named(identifier: Identifier, level: Level) -> ColumnElement[bool]:
    values = identifier.values(UNIQUE_KEY[level])
    if not values or len(values) > _LIST_LIMIT:
        text = f"the unique key of the {level.name.lower()} level must be given"
        raise Refused(NOT_OF_THE_CLASS, text)
    return _COLUMNS[level].in_(values)
