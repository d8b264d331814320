"""What every IHE transaction module declares, as one value.

The same value serves the server, the client, the conformance kit and the tests:
whoever knows the transaction's number finds its module, and its module says it all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from soap.faults import InvalidBody
from soap.message import Incoming, Outgoing

__all__ = ["InvalidBody", "Transaction"]

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Transaction(Generic[Request, Response]):
    """One IHE transaction on the SOAP wire.

    ``number`` and ``name`` are those of the Technical Framework ("ITI-18", "Registry
    Stored Query"); ``action`` and ``response_action`` the WS-Addressing actions, the latter
    empty for a one-way transaction; ``root`` the request's root element in Clark notation;
    ``mtom`` whether both directions travel as MTOM/XOP. ``refuse`` makes the response for a
    body that could not be read, from the exception's text (ITI TF-3 4.2.4: such a body gets a
    Failure, not a SOAP fault), or raises the fault of a transaction that has faults instead.
    """

    number: str
    name: str
    action: str
    response_action: str
    root: str
    mtom: bool
    read_request: Callable[[Incoming], Request]
    write_request: Callable[[Request], Outgoing]
    read_response: Callable[[Incoming], Response]
    write_response: Callable[[Response], Outgoing]
    refuse: Callable[[str], Response]
