"""One exchange with a peer, its failures told as this room tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from consumer.errors import Faulted, NoAnswer
from soap.client import SoapClient
from soap.faults import PeerError, SoapFault
from soap.message import MemorySpool, Spool
from transactions.transaction import Transaction

Request = TypeVar("Request")
Response = TypeVar("Response")


def call(
    client: SoapClient,
    url: str,
    exchange: Transaction[Request, Response],
    request: Request,
    spool: Callable[[], Spool] = MemorySpool,
) -> Response:
    """The answer to ``request``. Raises Faulted, and NoAnswer for anything unintelligible."""
    try:
        return client.call(url, exchange, request, spool=spool)
    except SoapFault as error:
        raise Faulted(f"{exchange.number} ended in a SOAP fault: {error.code}") from error
    except PeerError as error:
        raise NoAnswer(f"{exchange.number} brought no answer from {url}") from error
