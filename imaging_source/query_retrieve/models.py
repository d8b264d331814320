"""The information models of query and retrieve (PS3.4 C.3, C.6): SOP classes and levels."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """A Query/Retrieve Level; the lower in the hierarchy, the larger."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

TOP_LEVEL = {
    PATIENT_ROOT_FIND: Level.PATIENT,
    PATIENT_ROOT_MOVE: Level.PATIENT,
    PATIENT_ROOT_GET: Level.PATIENT,
    STUDY_ROOT_FIND: Level.STUDY,
    STUDY_ROOT_MOVE: Level.STUDY,
    STUDY_ROOT_GET: Level.STUDY,
}
"""The highest level of the model that a SOP class stands for."""

QUERY_RETRIEVE_LEVEL = 0x00080052

PATIENT_ID = 0x00100020
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SOP_INSTANCE_UID = 0x00080018

UNIQUE_KEY = {
    Level.PATIENT: PATIENT_ID,
    Level.STUDY: STUDY_INSTANCE_UID,
    Level.SERIES: SERIES_INSTANCE_UID,
    Level.IMAGE: SOP_INSTANCE_UID,
}
"""The key by which an entity of a level is told from all others (PS3.4 C.2.2.1.1)."""
