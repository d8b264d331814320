"""The keys that can be asked for: tag, VR, level, how they match, and where they stand.

All required and unique keys of PS3.4 C.6.1.1 and C.6.2.1, and the optional ones that the index
knows. Counts and lists of what a patient, study or series holds are made by subqueries, only
where they are asked for; what is rejected does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Table,
    case,
    exists,
    func,
    literal,
    select,
)

from imaging_source.evicted import (
    INSTANCE_AVAILABILITY,
    IS_EVICTED,
    NEARLINE,
    ONLINE,
    SERIES_IS_EVICTED,
    STUDY_IS_EVICTED,
)
from imaging_source.query_retrieve.matching import Kind
from imaging_source.query_retrieve.models import Level
from imaging_source.schema import INSTANCE, SERIES, STUDY
from imaging_source.shown import SERIES_IS_SHOWN, SHOWN

MODALITIES_IN_STUDY = 0x00080061
SOP_CLASSES_IN_STUDY = 0x00080062
STUDIES_OF_PATIENT = 0x00201200


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute that a query may name."""

    tag: int
    vr: str
    level: Level
    kind: Kind
    column: ColumnElement[Any]


_IN_SERIES = INSTANCE.c.series_instance_uid == SERIES.c.series_instance_uid
_IN_STUDY = INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid
_IN_STUDY_OF_SERIES = INSTANCE.c.study_instance_uid == SERIES.c.study_instance_uid
SERIES_OF_STUDY = SERIES.c.study_instance_uid == STUDY.c.study_instance_uid

# The studies of the patient in the row, once more under another name; an ID alone is no patient.
_OTHER = STUDY.alias("other")
_SAME_PATIENT = (_OTHER.c.patient_id == STUDY.c.patient_id) & (
    _OTHER.c.issuer_oid == STUDY.c.issuer_oid
)
_OTHER_IS_SHOWN = exists().where(
    INSTANCE.c.study_instance_uid == _OTHER.c.study_instance_uid, SHOWN
)


def _counted(table: FromClause, within: Table, *where: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many rows of ``table`` belong to that of ``within``."""
    rows = select(func.count()).select_from(table).where(*where)
    return rows.correlate(within).scalar_subquery()


def _listed(column: ColumnElement[Any], *where: ColumnElement[bool]) -> ScalarSelect[Any]:
    """The different values of ``column``, as one text with backslashes."""
    values = select(column.label("value")).where(*where, column != "").distinct()
    values_table = values.correlate(STUDY).subquery()
    joined = func.aggregate_strings(values_table.c.value, "\\")
    return select(joined).correlate(STUDY).scalar_subquery()


_STUDIES = _counted(_OTHER, STUDY, _SAME_PATIENT, _OTHER_IS_SHOWN)
_SERIES = _counted(SERIES, STUDY, SERIES_OF_STUDY, SERIES_IS_SHOWN)
_INSTANCES_OF_STUDY = _counted(INSTANCE, STUDY, _IN_STUDY, SHOWN)
_INSTANCES_OF_SERIES = _counted(INSTANCE, SERIES, _IN_STUDY_OF_SERIES, _IN_SERIES, SHOWN)

_P, _ST, _SE, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE

_ALL = (
    Key(0x00100010, "PN", _P, Kind.NAME, STUDY.c.patient_name),
    Key(0x00100020, "LO", _P, Kind.TEXT, STUDY.c.patient_id),
    Key(0x00100021, "LO", _P, Kind.TEXT, STUDY.c.issuer),
    Key(0x00100030, "DA", _P, Kind.DATE, STUDY.c.birth_date),
    Key(0x00100040, "CS", _P, Kind.TEXT, STUDY.c.sex),
    Key(STUDIES_OF_PATIENT, "IS", _P, Kind.RETURNED, _STUDIES),
    Key(0x00080020, "DA", _ST, Kind.DATE, STUDY.c.date),
    Key(0x00080030, "TM", _ST, Kind.TIME, STUDY.c.time),
    Key(0x00080050, "SH", _ST, Kind.TEXT, STUDY.c.accession_number),
    Key(
        MODALITIES_IN_STUDY,
        "CS",
        _ST,
        Kind.TEXT,
        _listed(SERIES.c.modality, SERIES_OF_STUDY, SERIES_IS_SHOWN),
    ),
    Key(
        SOP_CLASSES_IN_STUDY,
        "UI",
        _ST,
        Kind.RETURNED,
        _listed(INSTANCE.c.sop_class_uid, _IN_STUDY, SHOWN),
    ),
    Key(0x00080080, "LO", _ST, Kind.TEXT, STUDY.c.institution),
    Key(0x00080090, "PN", _ST, Kind.NAME, STUDY.c.referring_physician),
    Key(0x00080201, "SH", _ST, Kind.RETURNED, STUDY.c.timezone_offset),
    Key(0x00081030, "LO", _ST, Kind.TEXT, STUDY.c.description),
    Key(0x0020000D, "UI", _ST, Kind.UID, STUDY.c.study_instance_uid),
    Key(0x00200010, "SH", _ST, Kind.TEXT, STUDY.c.study_id),
    Key(0x00201206, "IS", _ST, Kind.RETURNED, _SERIES),
    Key(0x00201208, "IS", _ST, Kind.RETURNED, _INSTANCES_OF_STUDY),
    Key(0x00080060, "CS", _SE, Kind.TEXT, SERIES.c.modality),
    Key(0x0008103E, "LO", _SE, Kind.TEXT, SERIES.c.description),
    Key(0x00180015, "CS", _SE, Kind.TEXT, SERIES.c.body_part),
    Key(0x0020000E, "UI", _SE, Kind.UID, SERIES.c.series_instance_uid),
    Key(0x00200011, "IS", _SE, Kind.NUMBER, SERIES.c.series_number),
    Key(0x00201209, "IS", _SE, Kind.RETURNED, _INSTANCES_OF_SERIES),
    Key(0x00080016, "UI", _I, Kind.UID, INSTANCE.c.sop_class_uid),
    Key(0x00080018, "UI", _I, Kind.UID, INSTANCE.c.sop_instance_uid),
    Key(0x00083002, "UI", _I, Kind.UID, INSTANCE.c.transfer_syntax_uid),
    Key(0x00200013, "IS", _I, Kind.NUMBER, INSTANCE.c.instance_number),
    Key(0x00280008, "IS", _I, Kind.NUMBER, INSTANCE.c.number_of_frames),
)

KEYS: Mapping[int, Key] = {key.tag: key for key in _ALL}
"""Every key by its tag."""


def _availability(level: Level, is_evicted: ColumnElement[bool]) -> Key:
    told = case((is_evicted, literal(NEARLINE)), else_=literal(ONLINE))
    return Key(INSTANCE_AVAILABILITY, "CS", level, Kind.RETURNED, told)


AVAILABILITY: Mapping[Level, Key] = {
    _ST: _availability(_ST, STUDY_IS_EVICTED),
    _SE: _availability(_SE, SERIES_IS_EVICTED),
    _I: _availability(_I, IS_EVICTED),
}
"""The key that every level has of its own; a patient has none."""
