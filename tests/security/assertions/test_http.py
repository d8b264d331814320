"""Assertions in the header Authorization."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.assertions.http import SCHEME, authorization, token_of


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_what_is_written_is_read(token: str) -> None:
    assert token_of(authorization(token)["Authorization"]) == token.encode()


@pytest.mark.parametrize("header", ["", "Bearer eHl6", SCHEME, f"{SCHEME} ~", f"{SCHEME}: eHl6"])
def test_anything_else_is_refused(header: str) -> None:
    if header == SCHEME:
        assert token_of(header) == b""
    else:
        with pytest.raises(ValueError, match="expected"):
            token_of(header)


def test_no_assertion_makes_no_header() -> None:
    assert authorization("") == {}
