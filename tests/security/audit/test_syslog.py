"""Syslog as audit messages travel in it, whatever pieces it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.audit.syslog import MOST_BYTES, BadSyslog, Frames, Sender, frame, read

SENDER = Sender("north.example", "kosmos", "77")
AT = "2026-03-02T08:00:00.000+00:00"


@given(st.binary(max_size=500), st.booleans())
def test_a_message_comes_back_byte_for_byte(message: bytes, failed: bool) -> None:
    expected = message.removeprefix(b"\xef\xbb\xbf")
    assert read(SENDER.write(message, AT, failed)) == expected


def test_a_failure_is_a_warning_and_the_header_has_no_blanks() -> None:
    assert SENDER.write(b"<a/>", AT, False).startswith(
        b"<85>1 2026-03-02T08:00:00.000+00:00 north.example kosmos 77 IHE+RFC-3881 - <a/>"
    )
    assert (
        Sender("a b", "", "é").write(b"", AT, True).startswith(b"<84>1 " + AT.encode() + b" ab - -")
    )


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_frames_come_apart_whatever_the_pieces(messages: list[bytes], data: st.DataObject) -> None:
    stream, frames, got = b"".join(map(frame, messages)), Frames(), list[bytes]()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += frames.feed(stream[:size])
        stream = stream[size:]
    assert got == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        list(Frames().feed(data))
    except BadSyslog:
        return


@pytest.mark.parametrize(
    "data", [b"x12 ", b"012 a", b" 1 a", b"99999999", b"%d " % (MOST_BYTES + 1)]
)
def test_a_stream_without_lengths_is_refused(data: bytes) -> None:
    with pytest.raises(BadSyslog):
        list(Frames().feed(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<85>1 - - - - - - \xef\xbb\xbf<a/>", b"<a/>"),
        (b'<85>1 - h a - m [x@1 k="v\\]"][y@2] <a/>', b"<a/>"),
        (b"<85>1 - h a - m -", b""),
    ],
)
def test_other_senders_headers_are_read(data: bytes, message: bytes) -> None:
    assert read(data) == message


@pytest.mark.parametrize("data", [b"", b"<a/>", b"<85>Mar  2 08:00:00 host tag: old", b"<8>1 - -"])
def test_what_is_no_message_of_rfc_5424_is_refused(data: bytes) -> None:
    with pytest.raises(BadSyslog):
        read(data)
