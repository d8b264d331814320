"""Who is behind an association: User Identity Negotiation with a SAML assertion (PS3.7 D.3.3.7).

An assertion is handed to whoever the node has to judge it; here is how it is read, refused and
answered. Other kinds of identity (user name, passcode, Kerberos, JWT) prove nothing here: an
association that brings one is treated as if it brought none, and gets no positive response.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation

from imaging_source.guard import AbortReason, ProtocolError
from imaging_source.ledger import End

SAML = 4
"""The User-Identity-Type of an assertion (PS3.7 Table D.3-14)."""

_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"


class UserRefused(Exception):
    """An association that does not prove for whom it is; the text says why."""


Identify = Callable[[End, bytes], Any]
"""The user of an association by the assertion that it brings, empty where it brings none; None for
nobody. Raises UserRefused, and StorageError where it cannot be known."""


def nobody(_peer: End, _assertion: bytes) -> None:
    """Nobody asks for whom an association is."""


def identity_of(request: A_ASSOCIATE) -> UserIdentityNegotiation | None:
    """The item with the assertion that a request brings, if it does. Raises ProtocolError for
    more than one identity."""
    items = [one for one in request.user_information if isinstance(one, UserIdentityNegotiation)]
    if len(items) > 1:
        raise ProtocolError(AbortReason.INVALID_PARAMETER, "more than one user identity")
    return next((one for one in items if one.user_identity_type == SAML), None)


def positive_response() -> UserIdentityNegotiation:
    """The item that says that the user was accepted (PS3.7 D.3.3.7.2)."""
    item = UserIdentityNegotiation()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item.server_response = (
        '<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" Version="2.0" '
        f'ID="_{secrets.token_hex(16)}" IssueInstant="{now}"><samlp:Status>'
        f'<samlp:StatusCode Value="{_SUCCESS}"/></samlp:Status></samlp:Response>'
    ).encode()
    return item
