"""What can be wrong with a message, in the words of HL7 table 0357.

One ``Problem`` becomes one ERR segment of the acknowledgement (HL7 2.5 2.15.5). The texts
of table 0357 stand here once; what is particular to a message goes into ``detail``.
"""

from __future__ import annotations

from dataclasses import dataclass

SEGMENT_SEQUENCE = "100"
REQUIRED_FIELD_MISSING = "101"
DATA_TYPE = "102"
TABLE_VALUE = "103"
UNSUPPORTED_MESSAGE_TYPE = "200"
UNSUPPORTED_EVENT = "201"
UNSUPPORTED_PROCESSING_ID = "202"
UNSUPPORTED_VERSION = "203"
UNKNOWN_KEY = "204"
DUPLICATE_KEY = "205"
RECORD_LOCKED = "206"
INTERNAL = "207"

TABLE_0357 = {
    SEGMENT_SEQUENCE: "Segment sequence error",
    REQUIRED_FIELD_MISSING: "Required field missing",
    DATA_TYPE: "Data type error",
    TABLE_VALUE: "Table value not found",
    UNSUPPORTED_MESSAGE_TYPE: "Unsupported message type",
    UNSUPPORTED_EVENT: "Unsupported event code",
    UNSUPPORTED_PROCESSING_ID: "Unsupported processing id",
    UNSUPPORTED_VERSION: "Unsupported version id",
    UNKNOWN_KEY: "Unknown key identifier",
    DUPLICATE_KEY: "Duplicate key identifier",
    RECORD_LOCKED: "Application record locked",
    INTERNAL: "Application internal error",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a message.

    ``code`` is of table 0357; ``detail`` says what was expected, for the sender's eyes;
    ``location`` is an ERL (``PID^1^3^1^4``: segment, occurrence, field, repetition,
    component) or empty when no place can be named.
    """

    code: str
    detail: str
    location: str = ""


class InvalidMessage(Exception):
    """Bytes that are no readable HL7 v2 message; ``problem`` says why."""

    def __init__(self, code: str, detail: str, location: str = "") -> None:
        super().__init__(detail)
        self.problem = Problem(code, detail, location)
