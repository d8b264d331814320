"""MLLP framing, and HL7 v2 messages of the patient feed and of reports in the blocks."""

from hl7.ack import ACCEPT
from hl7.adt import FeedOutcome, Refused
from hl7.demographics import read_demographics
from hl7.errors import InvalidMessage
from hl7.feed import answer
from hl7.message import Limits, Message
from hl7.mllp import BlockTooLong, Framer, frame
from hl7.reports import read_report
from metadata.datatypes import HD
from tests.fuzz.target import Target

_OURS = HD("KOSMOS", "1.2.3", "ISO")
_LIMITS = Limits(size=4096, segments=50, fields=60)

_ADT = (
    b"MSH|^~\\&|A|B|C|D|20261122101500||ADT^%b^ADT_A01|7|P|2.3.1||||||UNICODE UTF-8\r"
    b"EVN|%b|20261122101500\r"
    b"PID|||1^^^&1.2.3&ISO~2^^^X&1.2.4&ISO||DUPONT^ANNE^^^^^L||19790328|F|||1 RUE^^PARIS^^75001\r"
    b"PD1||||||||||||Y\rMRG|3^^^&1.2.3&ISO\rPV1||O\r"
)
_ORU = (
    b"MSH|^~\\&|A|B|C|D|20261122101500||ORU^R01^ORU_R01|7|P|2.5||||||8859/1\r"
    b"PID|||1^^^&1.2.3&ISO||DUPONT^ANNE\rORC|RE|P1|F1\r"
    b"OBR|1|P1^H^1.2.9^ISO|F1|18748-4^Report^LN|||20261122|||||||||9^House^Greg\r"
    b"OBX|1|ED|18748-4^Report^LN||^application^pdf^Base64^QUJD||||||F\r"
)


def read(data: bytes) -> None:
    """Find the blocks, in pieces; answer each as the patient feed and read it as a report."""
    framer, step = Framer(4096), 1 + len(data) % 61
    for start in range(0, len(data), step):
        for block in framer.receive(data[start : start + step]):
            _meet(block)


def _meet(block: bytes) -> None:
    acknowledgement = answer(block, lambda _: FeedOutcome(ACCEPT), _OURS, limits=_LIMITS)
    Message.read(acknowledgement)
    message = Message.read(block, limits=_LIMITS)
    read_demographics(message)
    if message["MSH-9.1"] != "ADT":
        read_report(message)


def seeds() -> list[bytes]:
    """Every event of the feed, a report, and two blocks in a row."""
    events = [frame(_ADT % (event, event)) for event in (b"A04", b"A08", b"A40", b"A43")]
    latin = frame(_ADT.replace(b"UNICODE UTF-8", b"") % (b"A01", b"A01")).replace(b"ANNE", b"\xc9")
    return [*events, latin, frame(_ORU), events[0] + b"noise" + frame(_ORU)]


TARGET = Target("mllp", read, (BlockTooLong, InvalidMessage, Refused), seeds, 4_000)
