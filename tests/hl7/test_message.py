"""The HL7 v2 reader and builder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.errors import InvalidMessage
from hl7.escapes import STANDARD, Delimiters, escape, unescape
from hl7.message import Limits, Message, build, parse_path

HEADER = "MSH|^~\\&|HIS|GENERAL|KOSMOS|REGION|20261122080000||ADT^A04^ADT_A01|42|P|2.3.1"
PID = "PID|1||4711^^^KOSMOS&1.2.3&ISO~0815^^^OTHER&1.2.4&ISO||DUPONT^ANNE"

# Any text that UTF-8 can carry: surrogates are no characters.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAF = TEXT
COMPONENT = st.one_of(LEAF, st.lists(LEAF, min_size=1, max_size=3).map(tuple))
REPETITION = st.one_of(LEAF, st.lists(COMPONENT, min_size=1, max_size=4).map(tuple))
DELIMITERS = st.permutations(list("|^~\\&#$%!*+")).map(lambda marks: Delimiters(*marks[:5]))


def read(*segments: str, end: str = "\r") -> Message:
    return Message.read(end.join(segments).encode())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-3", "HIS"),
        ("MSH-9.1", "ADT"),
        ("MSH-9.2", "A04"),
        ("MSH-9", "ADT"),
        ("MSH-12", "2.3.1"),
        ("MSH-18", ""),
        ("PID-3.1", "4711"),
        ("PID-3.4", "KOSMOS"),
        ("PID-3.4.2", "1.2.3"),
        ("PID-3.4.4", ""),
        ("PID-3[2].1", "0815"),
        ("PID-3[2].4.2", "1.2.4"),
        ("PID-3[3].1", ""),
        ("PID[1]-5.2", "ANNE"),
        ("PID[2]-5.2", ""),
        ("PID-99", ""),
        ("ZZZ-1", ""),
    ],
)
def test_a_path_names_a_value(path: str, value: str) -> None:
    assert read(HEADER, PID)[path] == value


@pytest.mark.parametrize("path", ["", "PID.3", "pid-3", "PID-", "PID-3.", "PID-3.1.2.3", "PID-3[]"])
def test_what_is_no_path_is_a_programmers_error(path: str) -> None:
    with pytest.raises(ValueError, match="not an HL7 path"):
        parse_path(path)


def test_segments_and_repetitions_are_counted() -> None:
    message = read(HEADER, PID, "OBX|1", "OBX|2||a~~c")
    assert [message.count(path) for path in ("PID", "OBX", "NK1")] == [1, 2, 0]
    assert [message.count(path) for path in ("PID-3", "PID-4", "OBX[2]-3")] == [2, 0, 3]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_segment_end_is_read(end: str) -> None:
    assert read(HEADER, PID, "", end=end)["PID-3.1"] == "4711"


def test_blank_lines_and_a_byte_order_mark_are_no_segments() -> None:
    message = Message.read(b"\xef\xbb\xbf\r\n" + f"{HEADER}\r\r\n{PID}\r\r".encode())
    assert message.segments == [HEADER, PID]


def test_unusual_delimiters_are_used() -> None:
    message = read("MSH$*+!%$HIS$GENERAL$$$$$ADT*A04$42", "PID$$$1*x*y*n%1.2.3+2")
    assert message["MSH-9.2"] == "A04"
    assert message["PID-3.4.2"] == "1.2.3"
    assert message["PID-3[2].1"] == "2"


@pytest.mark.parametrize("encoding", ["^~\\&#", "^~", "^"])
def test_a_long_or_short_msh_2_leaves_the_usual_delimiters(encoding: str) -> None:
    message = read(HEADER.replace("^~\\&", encoding), PID)
    assert message.delimiters == STANDARD
    assert message["PID-3.4.2"] == "1.2.3"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "100"),
        ("PID|1", "100"),
        ("MSH", "100"),
        ("MSH\r|^~\\&|HIS", "100"),
        ("FHS|^~\\&|HIS", "100"),
        ("MSH||HIS", "101"),
        ("MSH|^^\\&|HIS", "102"),
        ("MSHA^~\\&AHIS", "102"),
        ("MSH|^~\\& |HIS", "102"),
        ("MSH|^~\\&#!|HIS", "102"),
    ],
)
def test_a_header_that_cannot_be_trusted_is_refused(header: str, code: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        read(header)
    assert refusal.value.problem.code == code


@pytest.mark.parametrize("line", ["pid|1", "PI|1", "PIDX|1", "garbage", "1ID|"])
def test_a_line_that_begins_no_segment_is_refused(line: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        read(HEADER, line)
    assert refusal.value.problem.code == "100"


def test_a_field_may_not_be_repeated_for_ever_but_a_text_may_have_many_lines() -> None:
    many = "1~" * 100_000
    with pytest.raises(InvalidMessage) as refusal:
        read(HEADER, f"PID|||{many}")
    assert refusal.value.problem.location == "PID"
    assert read(HEADER, f"OBX|1|TX|||{many}").count("OBX-5") == 100_001


def test_a_second_header_is_refused() -> None:
    with pytest.raises(InvalidMessage) as refusal:
        read(HEADER, PID, HEADER)
    assert refusal.value.problem.location == "MSH^2"


@pytest.mark.parametrize(
    "limits",
    [Limits(size=100), Limits(segments=1), Limits(fields=8)],
    ids=["size", "segs", "fields"],
)
def test_each_limit_is_kept(limits: Limits) -> None:
    data = f"{HEADER}\r{PID}".encode()
    assert Message.read(data)["PID-3.1"] == "4711"
    with pytest.raises(InvalidMessage):
        Message.read(data, limits=limits)


def with_charset(name: str) -> str:
    return HEADER + "||||||" + name


@pytest.mark.parametrize(
    ("name", "codec"),
    [("UNICODE UTF-8", "utf-8"), ("8859/1", "iso8859-1"), ("8859/15", "iso8859-15"), ("", "utf-8")],
)
def test_the_text_is_read_in_the_charset_of_msh_18(name: str, codec: str) -> None:
    data = f"{with_charset(name)}\rPID|||1||HÉLÈNE".encode(codec)
    assert Message.read(data)["PID-5"] == "HÉLÈNE"


def test_a_sender_that_declares_nothing_may_write_latin_1() -> None:
    assert Message.read(f"{HEADER}\rPID|||1||HÉLÈNE".encode("latin-1"))["PID-5"] == "HÉLÈNE"


def test_the_default_charset_is_a_setting() -> None:
    data = f"{HEADER}\rPID|||1||ŠIMEK".encode("iso8859-2")
    assert Message.read(data, default_charset="iso8859-2")["PID-5"] == "ŠIMEK"


@pytest.mark.parametrize(
    ("name", "code"),
    [("ASCII", "102"), ("UNICODE UTF-8", "102"), ("UNICODE UTF-16", "103"), ("KLINGON", "103")],
)
def test_a_charset_that_lies_or_is_unknown_is_refused(name: str, code: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        Message.read(f"{with_charset(name)}\rPID|||1||HÉLÈNE".encode("latin-1"))
    assert refusal.value.problem.code == code
    assert refusal.value.problem.location == "MSH^1^18^1^1"


def test_the_header_can_be_read_though_the_rest_cannot() -> None:
    data = f"{with_charset('KLINGON')}\rgarbage".encode()
    assert Message.read_header(data)["MSH-10"] == "42"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"A\F\B\S\C\T\D\R\E\E\F", r"A|B^C&D~E\F"),
        (r"line\.br\line", "line\nline"),
        (r"\X48C3A9\llo", "Héllo"),
        (r"\H\bold\N\ ", r"\H\bold\N\ "),
        (r"\XZZ\ ", r"\XZZ\ "),
        (r"\XFF\ ", r"\XFF\ "),
        ("lonely \\ mark", "lonely \\ mark"),
        ("\\", "\\"),
    ],
)
def test_escape_sequences_are_read(text: str, value: str) -> None:
    assert unescape(text) == value


@given(TEXT, DELIMITERS)
def test_what_is_escaped_reads_back(value: str, delimiters: Delimiters) -> None:
    written = escape(value, delimiters)
    assert unescape(written, delimiters) == value
    assert not {"\r", "\n", "\x0b", "\x1c"} & set(written)


@given(st.lists(REPETITION, min_size=1, max_size=4), DELIMITERS)
def test_what_is_built_reads_back(repetitions: list[object], delimiters: Delimiters) -> None:
    header: list[object] = ["MSH", "HIS"]
    segments = [header, ["PID", "", "", list(repetitions)]]
    message = Message.read(build(segments, delimiters=delimiters))  # type: ignore[arg-type]
    for r, repetition in enumerate(repetitions, 1):
        components = repetition if isinstance(repetition, tuple) else (repetition,)
        for c, component in enumerate(components, 1):
            leaves = component if isinstance(component, tuple) else (component,)
            for s, leaf in enumerate(leaves, 1):
                assert message[f"PID-3[{r}].{c}.{s}"] == leaf


@given(st.text(st.characters(codec="latin-1")))
def test_what_is_built_in_latin_1_reads_back(value: str) -> None:
    data = build([["MSH", *[""] * 15, "8859/1"], ["PID", value]], charset="8859/1")
    assert Message.read(data)["PID-1"] == value


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"MSH|^~\\&|" + tail))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        assert Message.read(data).segments[0].startswith("MSH")


def test_the_samples_of_the_standards_are_read(samples: Path) -> None:
    files = sorted(samples.rglob("*.hl7"))
    assert len(files) > 10
    for file in files:
        message = Message.read(file.read_bytes())
        assert message["MSH-10"], file
        assert message["MSH-9.1"] in {"ADT", "QBP", "RSP", "ACK"}, file
