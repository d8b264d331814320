"""Parameters of stored queries: a line for the query, then lines of name and value."""

from tests.fuzz.target import Target
from transactions.iti_18 import AdhocQueryRequest
from transactions.query_catalogue import FIND_DOCUMENTS, STORED_QUERIES
from transactions.query_decoding import decode
from transactions.query_values import BadCoding, read_value

_NUMBERS = list(STORED_QUERIES)


def read(data: bytes) -> None:
    """Decode a request; every fault must have its code."""
    number, *lines = data.decode("utf-8", "replace").split("\n")
    query = _NUMBERS[ord(number[0]) % len(_NUMBERS)] if number else FIND_DOCUMENTS.id
    pairs = [line.partition("=")[::2] for line in lines]
    found = decode(
        AdhocQueryRequest(query, parameters=[(name, [value]) for name, value in pairs]),
        STORED_QUERIES,
    )
    if isinstance(found, list):
        for fault in found:
            fault.error("ITI-18")
    for _, value in pairs:
        read_value(value)


def seeds() -> list[bytes]:
    """Each query with every parameter it knows."""
    return [
        chr(place).encode()
        + "".join(
            f"\n{parameter.slot}={value}"
            for parameter in query.parameters
            for value in ("'a^^1.2'", "('a','b''c')", "2026", "1")
        ).encode()
        for place, query in enumerate(STORED_QUERIES.values())
    ]


TARGET = Target("query", read, (BadCoding,), seeds, 3_000)
