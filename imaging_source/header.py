"""What the index keeps of an instance, read from the beginning of its data set.

The attributes are those that a manifest, its XDS entry and RAD-69 need. Nothing after
(0040,2016) is looked at, so pixel data is never read; text is decoded by the instance's own
character set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

from imaging_source.charset import decode, encodings_of
from imaging_source.elements import Elements, Unreadable, encoding_of
from manifest.model import Patient, Study

# The header may be longer than what has been kept in memory of it, but a header beyond
# 16 MiB (large private elements before the UIDs) is refused: nothing made by a modality
# comes near it, and it bounds what one instance can make us read.
HEADER_LIMIT_BYTES = 16 * 1024 * 1024

_UID = re.compile(r"[0-9][0-9.]{0,63}")  # a name of dots alone would be a place in a file system
_DATE = re.compile(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})")
_TIME = re.compile(r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,11}")

_CHARACTER_SET = 0x00080005
_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_STUDY_DATE = 0x00080020
_SERIES_DATE = 0x00080021
_STUDY_TIME = 0x00080030
_SERIES_TIME = 0x00080031
_ACCESSION_NUMBER = 0x00080050
_ISSUER_OF_ACCESSION = 0x00080051
_MODALITY = 0x00080060
_MANUFACTURER = 0x00080070
_INSTITUTION = 0x00080080
_REFERRING_PHYSICIAN = 0x00080090
_TIMEZONE_OFFSET = 0x00080201
_STUDY_DESCRIPTION = 0x00081030
_SERIES_DESCRIPTION = 0x0008103E
_PATIENT_NAME = 0x00100010
_PATIENT_ID = 0x00100020
_ISSUER_OF_PATIENT_ID = 0x00100021
_ISSUER_QUALIFIERS = 0x00100024
_BIRTH_DATE = 0x00100030
_SEX = 0x00100040
_BODY_PART = 0x00180015
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_STUDY_ID = 0x00200010
_SERIES_NUMBER = 0x00200011
_INSTANCE_NUMBER = 0x00200013
_FRAMES = 0x00280008
_ORDER_PLACER = 0x00400026
_UNIVERSAL_ENTITY_ID = 0x00400032
_REQUEST_ATTRIBUTES = 0x00400275
_REQUESTED_PROCEDURE_ID = 0x00401001
_PLACER_ORDER_NUMBER = 0x00402016

_OF_THE_PATIENT = frozenset(
    {
        _CHARACTER_SET,
        _PATIENT_NAME,
        _PATIENT_ID,
        _ISSUER_OF_PATIENT_ID,
        _ISSUER_QUALIFIERS,
        _BIRTH_DATE,
        _SEX,
    }
)
_WANTED = _OF_THE_PATIENT | frozenset(
    {
        _SOP_CLASS_UID,
        _SOP_INSTANCE_UID,
        _STUDY_DATE,
        _SERIES_DATE,
        _STUDY_TIME,
        _SERIES_TIME,
        _ACCESSION_NUMBER,
        _ISSUER_OF_ACCESSION,
        _MODALITY,
        _MANUFACTURER,
        _INSTITUTION,
        _REFERRING_PHYSICIAN,
        _TIMEZONE_OFFSET,
        _STUDY_DESCRIPTION,
        _SERIES_DESCRIPTION,
        _BODY_PART,
        _STUDY_UID,
        _SERIES_UID,
        _STUDY_ID,
        _SERIES_NUMBER,
        _INSTANCE_NUMBER,
        _FRAMES,
        _ORDER_PLACER,
        _REQUEST_ATTRIBUTES,
        _PLACER_ORDER_NUMBER,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The indexed attributes of one instance; numbers are None when absent or no numbers."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study: Study
    modality: str
    series_number: int | None
    series_description: str
    body_part: str
    series_date: str
    series_time: str
    instance_number: int | None
    number_of_frames: int
    rest: int = field(default=0, compare=False)
    """Where in the data set an element begins behind which nothing has been looked at."""


def read_header(data: bytes, transfer_syntax_uid: str, more: bool = False) -> Header:
    """The header of the data set that ``data`` is, or with ``more`` begins with.

    Raises Truncated when ``more`` bytes are needed, and Unreadable for bytes that are not a
    data set or lack one of the four UIDs that place an instance.
    """
    elements = Elements(data, encoding_of(transfer_syntax_uid), more=more)
    values = _Values(elements, elements.find(_WANTED))
    return Header(
        sop_class_uid=values.uid(_SOP_CLASS_UID, "SOP Class UID"),
        sop_instance_uid=values.uid(_SOP_INSTANCE_UID, "SOP Instance UID"),
        series_instance_uid=values.uid(_SERIES_UID, "Series Instance UID"),
        study=_study(values),
        modality=values.text(_MODALITY),
        series_number=values.number(_SERIES_NUMBER),
        series_description=values.text(_SERIES_DESCRIPTION),
        body_part=values.text(_BODY_PART).upper(),
        series_date=values.date(_SERIES_DATE),
        series_time=values.time(_SERIES_TIME),
        instance_number=values.number(_INSTANCE_NUMBER),
        number_of_frames=values.number(_FRAMES) or 1,
        rest=elements.reached,
    )


def read_patient(elements: Elements) -> Patient:
    """The patient whom a small data set names. Raises Unreadable."""
    return _patient(_Values(elements, elements.find(_OF_THE_PATIENT)))


def is_uid(text: str) -> bool:
    """Whether ``text`` may be taken for a UID: a digit, then up to 63 digits and dots."""
    return _UID.fullmatch(text) is not None


class _Values:
    """The values found at one level, decoded on demand."""

    def __init__(self, elements: Elements, found: dict[int, tuple[int, int]]) -> None:
        self._elements = elements
        self._found = found
        self._encodings = encodings_of(self._bytes(_CHARACTER_SET))

    def _bytes(self, tag: int) -> bytes:
        start, stop = self._found.get(tag, (0, 0))
        return self._elements.data[start:stop]

    def text(self, tag: int) -> str:
        """The text of an element, empty if it is absent."""
        return decode(self._bytes(tag), self._encodings)

    def uid(self, tag: int, name: str) -> str:
        """A UID that must be there."""
        value = self._bytes(tag).strip(b"\0 ").decode("ascii", "replace")
        if not is_uid(value):
            raise Unreadable(f"{name} is {'not a UID' if value else 'missing'}")
        return value

    def date(self, tag: int) -> str:
        """The value of a Date, the form of ACR-NEMA included; what is no date is not known."""
        found = _DATE.fullmatch(self.text(tag))
        digits = "".join(found.groups()) if found else ""
        try:
            date.fromisoformat(digits)
        except ValueError:
            return ""
        return digits

    def time(self, tag: int) -> str:
        """The value of a Time, likewise."""
        text = self.text(tag).replace(":", "")
        return text if _TIME.fullmatch(text) else ""

    def authority(self, sequence: int) -> str:
        """The OID of an authority; one that is named in another way is not known by OID."""
        name = self.nested(sequence, _UNIVERSAL_ENTITY_ID)
        return name if is_uid(name) else ""

    def number(self, tag: int) -> int | None:
        """The value of an Integer String; numbers that no database column holds are none."""
        text = self.text(tag)
        number = int(text) if _INTEGER.fullmatch(text) else None
        return number if number is None or abs(number) < 2**31 else None

    def nested(self, sequence: int, tag: int) -> str:
        """The text of an element in the first item of a sequence; a broken item has none."""
        if sequence not in self._found:
            return ""
        try:
            for item in self._elements.items(self._found[sequence]):
                start, stop = item.find({tag}).get(tag, (0, 0))
                return decode(self._elements.data[start:stop], self._encodings)
        except Unreadable:
            pass
        return ""


def _study(values: _Values) -> Study:
    return Study(
        study_instance_uid=values.uid(_STUDY_UID, "Study Instance UID"),
        patient=_patient(values),
        date=values.date(_STUDY_DATE),
        time=values.time(_STUDY_TIME),
        timezone_offset=values.text(_TIMEZONE_OFFSET),
        description=values.text(_STUDY_DESCRIPTION),
        study_id=values.text(_STUDY_ID),
        accession_number=values.text(_ACCESSION_NUMBER)
        or values.nested(_REQUEST_ATTRIBUTES, _ACCESSION_NUMBER),
        accession_issuer_oid=values.authority(_ISSUER_OF_ACCESSION),
        placer_order_number=values.text(_PLACER_ORDER_NUMBER),
        placer_issuer_oid=values.authority(_ORDER_PLACER),
        requested_procedure_id=values.nested(_REQUEST_ATTRIBUTES, _REQUESTED_PROCEDURE_ID),
        referring_physician=values.text(_REFERRING_PHYSICIAN),
        institution=values.text(_INSTITUTION),
        manufacturer=values.text(_MANUFACTURER),
    )


def _patient(values: _Values) -> Patient:
    sex = values.text(_SEX).upper()
    return Patient(
        patient_id=values.text(_PATIENT_ID),
        issuer=values.text(_ISSUER_OF_PATIENT_ID),
        # Not only OIDs: whoever issued the ID under another kind of name is no less a stranger.
        issuer_oid=values.nested(_ISSUER_QUALIFIERS, _UNIVERSAL_ENTITY_ID),
        name=values.text(_PATIENT_NAME),
        birth_date=values.date(_BIRTH_DATE),
        sex=sex if sex in ("M", "F", "O") else "",
    )
