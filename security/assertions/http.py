"""Assertions where there is no SOAP: in the header Authorization (IHE IUA, SAML option)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

SCHEME = "IHE-SAML"

# Both alphabets of base64 are in use.
_URL_SAFE = str.maketrans("-_", "+/")


def authorization(token: str) -> dict[str, str]:
    """The header that brings an assertion; nothing for none."""
    encoded = base64.b64encode(token.encode()).decode()
    return {"Authorization": f"{SCHEME} {encoded}"} if token else {}


def authorization_at(address: str, token: Callable[[], str]) -> dict[str, str]:
    """The header for a request to ``address``: nothing where a listener could take and use it."""
    return authorization(token()) if address.startswith("https:") else {}


def token_of(header: str) -> bytes:
    """The assertion in such a header. Raises ValueError where there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise ValueError(f"expected {SCHEME}")
    try:
        return base64.b64decode(value.translate(_URL_SAFE).strip(), validate=True)
    except binascii.Error as error:
        raise ValueError("expected base64") from error
