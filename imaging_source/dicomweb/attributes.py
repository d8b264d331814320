"""The attributes of queries (PS3.18 Tables 10.6.1-5, 10.6.3-3 to 10.6.3-5).

Each is a column of the index, so that an answer opens no file and reads no description. Others
that a client asks for with ``includefield`` come from the description of one instance, within the
modules of the level that is listed (PS3.3 C.7.1 to C.7.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from sqlalchemy import ColumnElement

from imaging_source.dicomweb.paths import Level
from imaging_source.schema import (
    DESCRIPTION,
    INSTANCE,
    SERIES,
    SERIES_REQUEST,
    SERIES_STEP,
    STUDY,
    STUDY_NAME,
)


class Match(Enum):
    """How the values of an attribute are compared (PS3.4 C.2.2.2)."""

    TEXT = auto()
    NAME = auto()
    DATE = auto()
    TIME = auto()
    UID = auto()
    NUMBER = auto()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a level, its column, and how it is compared."""

    tag: str
    vr: str
    level: Level
    column: ColumnElement[Any]
    match: Match = Match.TEXT
    searched: ColumnElement[Any] | None = None
    """What is compared where that is not the column itself."""
    is_default: bool = True
    """Whether every answer has it."""


def _study(tag: str, vr: str, name: str, match: Match = Match.TEXT, **more: Any) -> Attribute:
    return Attribute(tag, vr, Level.STUDY, STUDY.c[name], match, **more)


def _series(tag: str, vr: str, column: Any, match: Match = Match.TEXT, **more: Any) -> Attribute:
    return Attribute(tag, vr, Level.SERIES, column, match, **more)


def _instance(tag: str, vr: str, column: Any, match: Match, **more: Any) -> Attribute:
    return Attribute(tag, vr, Level.INSTANCE, column, match, **more)


ATTRIBUTES = (
    _study("00080020", "DA", "date", Match.DATE),
    _study("00080030", "TM", "time", Match.TIME),
    _study("00080050", "SH", "accession_number"),
    _study("00080080", "LO", "institution", is_default=False),
    _study(
        "00080090",
        "PN",
        "referring_physician",
        Match.NAME,
        searched=STUDY_NAME.c.referring_physician,
    ),
    _study("00080201", "SH", "timezone_offset"),
    _study("00081030", "LO", "description"),
    _study("00100010", "PN", "patient_name", Match.NAME, searched=STUDY_NAME.c.patient_name),
    _study("00100020", "LO", "patient_id"),
    _study("00100021", "LO", "issuer", is_default=False),
    _study("00100030", "DA", "birth_date", Match.DATE),
    _study("00100040", "CS", "sex"),
    _study("0020000D", "UI", "study_instance_uid", Match.UID),
    _study("00200010", "SH", "study_id"),
    _series("00080060", "CS", SERIES.c.modality),
    _series("0008103E", "LO", SERIES.c.description),
    _series("00180015", "CS", SERIES.c.body_part, is_default=False),
    _series("0020000E", "UI", SERIES.c.series_instance_uid, Match.UID),
    _series("00200011", "IS", SERIES.c.series_number, Match.NUMBER),
    _series("00400244", "DA", SERIES_STEP.c.start_date, Match.DATE),
    _series("00400245", "TM", SERIES_STEP.c.start_time, Match.TIME),
    _instance("00080016", "UI", INSTANCE.c.sop_class_uid, Match.UID),
    _instance("00080018", "UI", INSTANCE.c.sop_instance_uid, Match.UID),
    _instance("00083002", "UI", INSTANCE.c.transfer_syntax_uid, Match.UID),
    _instance("00200013", "IS", INSTANCE.c.instance_number, Match.NUMBER),
    _instance("00280008", "IS", INSTANCE.c.number_of_frames, Match.NUMBER),
    _instance("00280010", "US", DESCRIPTION.c.pixel_rows, Match.NUMBER),
    _instance("00280011", "US", DESCRIPTION.c.pixel_columns, Match.NUMBER),
    _instance("00280100", "US", DESCRIPTION.c.bits_allocated, Match.NUMBER),
)

BY_TAG = {attribute.tag: attribute for attribute in ATTRIBUTES}

MODALITIES_IN_STUDY = "00080061"
INSTANCE_AVAILABILITY = "00080056"

# Attributes of Request Attributes Sequence, by their path.
REQUESTS: dict[str, ColumnElement[Any]] = {
    "00400275.00400009": SERIES_REQUEST.c.scheduled_step_id,
    "00400275.00401001": SERIES_REQUEST.c.requested_procedure_id,
}


def _tags(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Patient, Patient Study, Clinical Trial and General Study modules.
STUDY_MODULES = _tags(
    "00080005 00080020 00080030 00080050 00080051 00080080 00080090 00080096 0008009C 0008009D "
    "00080201 00081030 00081032 00081048 00081049 00081060 00081062 00081080 00081084 00081110 "
    "00100010 00100020 00100021 00100022 00100024 00100026 00100027 00100030 00100032 00100033 "
    "00100035 00100040 00101000 00101001 00101002 00101010 00101020 00101021 00101022 00101023 "
    "00101024 00101030 00101100 00102000 00102110 00102160 00102180 001021A0 001021B0 001021C0 "
    "00102201 00102202 00102203 00102292 00102293 00102294 00102295 00102296 00102297 00102298 "
    "00104000 00120010 00120020 00120021 00120030 00120031 00120040 00120042 00120050 00120051 "
    "00120062 00120063 00120064 0020000D 00200010 00321033 00321034 00321060 00321064 00380010 "
    "00380014 00380060 00380062 00380064 00380500 00401012"
)

# General Series, Clinical Trial Series and General Equipment modules.
SERIES_MODULES = _tags(
    "00080021 00080031 00080060 00080064 00080068 00080070 00080081 0008103E 0008103F 00081010 "
    "00081040 00081050 00081052 00081070 00081072 00081090 00081111 00081250 00120060 00120071 "
    "00180015 00180050 00180060 00180088 00181000 00181016 00181018 00181019 00181020 00181030 "
    "00181050 00181200 00181201 00185100 0020000E 00200011 00200052 00200060 00201040 00280108 "
    "00280109 00280120 00400244 00400245 00400250 00400251 00400253 00400254 00400260 00400275 "
    "00400280"
)
