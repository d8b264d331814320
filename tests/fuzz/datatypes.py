"""Data types of XDS metadata: any text, as each of them."""

from metadata.datatypes import (
    CX,
    DTM,
    HD,
    OID,
    XCN,
    XON,
    XTN,
    CXi,
    LanguageCode,
    Recipient,
    escape,
    unescape,
)
from tests.fuzz.target import Target

_KINDS = (CX, CXi, DTM, OID, XCN, XON, XTN, LanguageCode, Recipient)


def read(data: bytes) -> None:
    """Judge the text as each type, and look at every part that the type shows."""
    text = data.decode("utf-8", "replace")
    assert unescape(escape(text)) == text
    for kind in _KINDS:
        value = kind(text)
        problem = value.problem()
        parts = [name for name, part in vars(kind).items() if isinstance(part, property)]
        for name in parts:
            getattr(value, name)
        if isinstance(value, DTM) and problem is None:
            value.earliest()
    HD.of(text)
    assert CX(text).normalised().normalised() == CX(text).normalised()


def seeds() -> list[bytes]:
    """A right value of each."""
    return [
        b"4711^^^&1.2.250.1.213&ISO",
        b"acc-1^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:accession",
        b"20261122101500",
        b"1.2.250.1.213.1.4.10",
        b"801^House^Greg^^^Dr^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
        b"CHU^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1234",
        b"^^Internet^a@b.example",
        b"^PRN^PH^^33^1^23456789",
        b"fr-FR",
        b"CHU^^^^^&1.2.3&ISO^IDNST^^^1|801^House^^^^^^^&1.2.4&ISO|^^Internet^a@b.example",
    ]


TARGET = Target("datatypes", read, (), seeds, 15_000)
