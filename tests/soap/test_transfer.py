"""Content-Transfer-Encodings, decoded in any pieces."""

from __future__ import annotations

import base64
import quopri
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soap.faults import MessageError
from soap.transfer import decoder

cuts = st.lists(st.integers(min_value=0, max_value=500), max_size=12)


def decode(encoding: str, data: bytes, cuts: list[int]) -> bytes:
    decoding = decoder(encoding)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [decoding.feed(data[a:b]) for a, b in pairwise(edges)]
    return b"".join(pieces) + decoding.finish()


@given(st.binary(max_size=300), cuts, st.sampled_from([b"\r\n", b"\n", b" \t", b""]))
def test_base64_comes_back_whatever_its_lines(data: bytes, cuts: list[int], gap: bytes) -> None:
    encoded = re.sub(rb"(.{1,76})", rb"\1" + gap, base64.b64encode(data))
    assert decode("Base64", encoded, cuts) == data


@given(st.binary(max_size=300), cuts)
def test_quoted_printable_comes_back(data: bytes, cuts: list[int]) -> None:
    encoded = quopri.encodestring(data, quotetabs=True)
    assert decode("quoted-printable", encoded, cuts) == quopri.decodestring(encoded)
    if b"\r" not in data:
        assert decode("quoted-printable", encoded, cuts) == data


@pytest.mark.parametrize("encoding", ["", "binary", "8BIT", "7bit"])
def test_the_others_are_what_they_are(encoding: str) -> None:
    assert decode(encoding, b"\0\r\n=41", [2]) == b"\0\r\n=41"


@pytest.mark.parametrize("data", [b"QUJ", b"QUJD=", b"QQ==QUJD", b"Q!JD", b"=QUJ", b"QUJDR"])
def test_damaged_base64_is_refused_whatever_its_pieces(data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(MessageError):
            decode("base64", data, [cut])


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(MessageError, match="x-uuencode"):
        decoder("x-uuencode")


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(MessageError):
        decode("quoted-printable", b"x" * 100_000, list(range(0, 100_000, 1000)))
