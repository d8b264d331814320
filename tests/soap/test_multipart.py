"""The push parser: any content in any pieces comes out byte for byte."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soap.faults import MessageError
from soap.multipart import BOUNDARY_LIMIT, HEADER_LIMIT, MultipartParser, PartBegin, PartData

Parts = list[tuple[dict[str, str], bytes]]
BOUNDARY = "b"


def take_apart(data: bytes, cuts: list[int], boundary: str = BOUNDARY) -> Parts:
    parser = MultipartParser(boundary)
    events = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        events += parser.feed(data[start:end])
    events += parser.close()
    parts: Parts = []
    for event in events:
        if isinstance(event, PartBegin):
            parts.append((dict(event.headers), b""))
        elif isinstance(event, PartData):
            parts[-1] = (parts[-1][0], parts[-1][1] + event.data)
    return parts


def put_together(
    contents: list[bytes], newline: bytes = b"\r\n", boundary: str = BOUNDARY
) -> bytes:
    dashed = b"--" + boundary.encode("latin-1")
    parts = [
        newline.join([dashed, b"Content-ID: <%d>" % index, b"", content, b""])
        for index, content in enumerate(contents)
    ]
    return b"".join(parts) + dashed + b"--" + newline


# Pieces that look like delimiters are what contents are made of here.
fragments = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"-", b"--", b"--b", b"\r\n--", b"\r\n--b", b"\n--b", b"--b--", b" ",
     b"\t", b"x", b"\r\n--bx", b"\r\n--b-", b"\r\n--b--x", b"\r\n--b x", b"b", b"\0\xff"]
)  # fmt: skip
contents = (st.lists(fragments, max_size=12).map(b"".join) | st.binary(max_size=60)).filter(
    lambda content: not re.search(rb"(^|\n)--b(--)?[ \t]*\r?(\n|$)", content)
)
cuts = st.lists(st.integers(min_value=0, max_value=2000), max_size=20)


@given(st.lists(contents, min_size=1, max_size=4), cuts)
@example([b"", b"", b""], list(range(60)))
@example([b"\r\n--b\r"], list(range(60)))
def test_any_content_in_any_pieces_round_trips(contents: list[bytes], cuts: list[int]) -> None:
    parts = take_apart(put_together(contents), cuts)
    assert [content for _, content in parts] == contents
    assert [headers["content-id"] for headers, _ in parts] == [
        f"<{index}>" for index in range(len(contents))
    ]


@given(st.lists(contents, min_size=1, max_size=4), cuts)
def test_line_feeds_alone_are_understood(contents: list[bytes], cuts: list[int]) -> None:
    parts = take_apart(put_together(contents, b"\n"), cuts)
    assert [content for _, content in parts] == contents


@given(st.binary(max_size=200), cuts)
def test_only_one_exception_ever_escapes(data: bytes, cuts: list[int]) -> None:
    for candidate in (data, b"--b\r\n" + data, b"--b\r\n\r\n" + data, put_together([b"x"]) + data):
        try:
            take_apart(candidate, cuts)
        except MessageError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n--b\r\n\r\nx\r\n--b--",
        b"a preamble\r\nof -- two --b lines\r\n--b\r\n\r\nx\r\n--b--\r\nan epilogue --b",
        b"--b  \t\r\n\r\nx\r\n--b-- \t",
        b"--b\r\n\r\nx\r\n--b--\r\n\r\n\r\n",
        b"--b\n\nx\n--b--\n",
    ],
)
def test_surroundings_are_tolerated(data: bytes) -> None:
    for step in range(1, len(data)):
        assert take_apart(data, list(range(0, len(data), step))) == [({}, b"x")]


def test_headers_are_folded_and_their_names_in_any_case() -> None:
    data = b"--b\r\nCONTENT-id:  <a>\r\nX: one\r\n\ttwo\r\nX: three\r\nEmpty:\r\n\r\nx\r\n--b--"
    assert take_apart(data, []) == [({"content-id": "<a>", "x": "one two", "empty": ""}, b"x")]


def test_an_empty_part_may_end_at_its_headers() -> None:
    data = b"--b\r\nA: 1\r\n\r\n--b\r\n\r\n--b--"
    for cut in range(len(data)):
        assert take_apart(data, [cut]) == [({"a": "1"}, b""), ({}, b"")]


@pytest.mark.parametrize("boundary", ["----=_Part_1.2", "a b'()+_,-./:=?", "é", "x" * 70])
def test_odd_boundaries_work(boundary: str) -> None:
    contents = [b"one\r\n--b", b"two", b""]
    data = put_together(contents, boundary=boundary)
    for cut in range(len(data)):
        assert [content for _, content in take_apart(data, [cut], boundary)] == contents


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no delimiter",
        b"--b--\r\n",
        b"--b",
        b"--b\r\n",
        b"--b\r\nA: 1\r\n",
        b"--b\r\n\r\nx",
        b"--b\r\n\r\nx\r\n--b",
        b"--b\r\n\r\nx\r\n--b-",
        b"--b\r\n\r\nx\r\n--b\r\n\r\n",
        b"--b\r\n\r\nx\r\n--bb--",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--",
        b"--b\r\n: no name\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-ID: 1\r\ncontent-id: 2\r\n\r\nx\r\n--b--",
        b"x" * (HEADER_LIMIT + 1),
        b"--b\r\n" + b"A: 1\r\n" * HEADER_LIMIT + b"\r\nx\r\n--b--",
    ],
)
def test_a_broken_body_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        take_apart(data, [3, 7])


@pytest.mark.parametrize("boundary", ["", "x" * (BOUNDARY_LIMIT + 1), "漢"])
def test_an_impossible_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(MessageError):
        MultipartParser(boundary)


def test_what_might_be_a_delimiter_is_all_that_is_held() -> None:
    parser = MultipartParser(BOUNDARY)
    parser.feed(b"--b\r\n\r\n")
    given_out = 0
    for _ in range(100):
        events = parser.feed(b"\r\n--b" + b"x" * 1000)
        given_out += sum(len(event.data) for event in events if isinstance(event, PartData))
    assert 100 * 1005 - given_out < len(b"\r\n--b")
