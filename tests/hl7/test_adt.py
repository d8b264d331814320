"""What an ADT message means to a registry (ITI-8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.adt import ForeignPatient, IdentityFeed, Refused, read_identity_feed
from hl7.message import Message
from metadata.datatypes import CX, HD
from tests.hl7.conftest import AUTHORITY, make_adt

Adt = Callable[..., bytes]
OWN = ("", "1.2.250.1.99.1", "ISO")
FOREIGN = ("OTHER", "1.2.3", "ISO")


@pytest.fixture
def feed_of(authority: HD) -> Callable[[bytes], IdentityFeed]:
    return lambda raw: read_identity_feed(Message.read(raw), authority, raw)


@pytest.fixture
def refusal_of(feed_of: Callable[[bytes], IdentityFeed]) -> Callable[[bytes], Refused]:
    def refuse(raw: bytes) -> Refused:
        with pytest.raises(Refused) as caught:
            feed_of(raw)
        return caught.value

    return refuse


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08"])
def test_an_admission_or_update_names_the_patient(
    event: str, adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    feed = feed_of(adt(event))
    assert feed.event == event
    assert feed.identifiers == (CX("4711^^^&1.2.250.1.99.1&ISO"),)
    assert feed.subsumed is None
    assert feed.sender == "GENERAL|HIS"
    assert feed.control_id == "42"


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        (b"", None),
        (b"PD1\r", None),
        (b"PD1||||||||||||Y\r", True),
        (b"PD1||||||||||||N\r", False),
        (b"PD1||||||||||||?\r", None),
    ],
)
def test_a_message_may_say_that_a_record_is_protected(
    segment: bytes, said: bool | None, adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    assert feed_of(adt("A08") + segment).protected is said


def test_a_merge_names_who_stays_and_who_goes(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    feed = feed_of(adt("A40"))
    assert feed.identifiers == (CX("4711^^^&1.2.250.1.99.1&ISO"),)
    assert feed.subsumed == CX("4712^^^&1.2.250.1.99.1&ISO")


def test_a_redelivery_has_the_same_digest_and_a_change_another(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    first, again, changed = adt(), adt(), adt(PID_5="MARTIN")
    assert feed_of(first).digest == feed_of(again).digest != feed_of(changed).digest


@pytest.mark.parametrize(
    "identifier",
    [
        ("4711", "", "", OWN),
        ("4711", "", "", ("KOSMOS",)),
        ("4711", "", "", ("KOSMOS", "1.2.250.1.99.1", "ISO")),
        ("4711", "", "", ("THEIRS", "1.2.250.1.99.1", "ISO")),
        ("4711", "", "", ("", "1.2.250.1.99.1")),
        ("4711", "9", "M11", OWN, "PI"),
    ],
)
def test_every_way_to_name_our_domain_is_understood(
    identifier: tuple[str, ...], adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    assert feed_of(adt(PID_3=identifier)).identifiers == (CX("4711^^^&1.2.250.1.99.1&ISO"),)


@pytest.mark.parametrize(
    "identifier",
    [
        "4711",
        ("4711", "", "", FOREIGN),
        ("4711", "", "", ("OTHER",)),
        ("4711", "", "", ("kosmos",)),
        ("4711", "", "", ("KOSMOS", "1.2.3", "ISO")),
        ("4711", "", "", ("", "1.2.250.1.99.1", "DNS")),
        ('""', "", "", OWN),
        ("", "", "", OWN),
    ],
)
def test_an_id_of_no_or_another_domain_leaves_nothing(
    identifier: tuple[str, ...], adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    refusal = refusal_of(adt(PID_3=identifier))
    assert (refusal.ack_code, refusal.error_code) == ("AE", "204")
    assert refusal.location == "PID^1^3^1^4"


def test_foreign_ids_beside_ours_are_ignored(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    ids = [("1", "", "", FOREIGN), ("4711", "", "", OWN), ("2", "", "", FOREIGN), "3"]
    assert [cx.id for cx in feed_of(adt(PID_3=ids)).identifiers] == ["4711"]


def test_an_id_with_delimiters_in_it_survives(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    feed = feed_of(adt(PID_3=("a^b&c|d~e\\f", "", "", OWN)))
    assert feed.identifiers[0].id == "a^b&c|d~e\\f"
    assert feed.identifiers[0].count("^") == 3


def test_the_same_id_twice_is_one(adt: Adt, feed_of: Callable[[bytes], IdentityFeed]) -> None:
    twice = [("4711", "", "", OWN), ("4711", "", "", ("KOSMOS",))]
    assert len(feed_of(adt(PID_3=twice)).identifiers) == 1


@pytest.mark.parametrize(
    ("fields", "code", "location"),
    [
        ({"MSH_9": ("ORU", "R01")}, "200", "MSH^1^9^1^1"),
        ({"MSH_9": ("", "A99")}, "200", "MSH^1^9^1^1"),
        ({"MSH_9": ("ADT", "A99")}, "201", "MSH^1^9^1^2"),
        ({"MSH_9": ("ADT", "A10")}, "201", "MSH^1^9^1^2"),
        ({"MSH_9": "ADT"}, "201", "MSH^1^9^1^2"),
        ({"MSH_11": "X"}, "202", "MSH^1^11^1^1"),
        ({"MSH_12": "3.0"}, "203", "MSH^1^12^1^1"),
    ],
)
def test_what_is_not_ours_to_judge_is_rejected(
    fields: dict[str, str],
    code: str,
    location: str,
    adt: Adt,
    refusal_of: Callable[[bytes], Refused],
) -> None:
    refusal = refusal_of(adt(**fields))
    assert (refusal.ack_code, refusal.error_code, refusal.location) == ("AR", code, location)


REQUIRED = [f"MSH_{number}" for number in (3, 4, 5, 6, 7, 9, 10, 11, 12)] + ["PID_3", "PID_5"]


@pytest.mark.parametrize("field", REQUIRED)
def test_a_required_field_may_not_be_empty(
    field: str, adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    refusal = refusal_of(adt(**{field: ""}))
    assert (refusal.ack_code, refusal.error_code) == ("AE", "101")
    segment, _, number = field.partition("_")
    assert refusal.location == f"{segment}^1^{number}"


def test_every_missing_field_is_told_at_once(
    adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    refusal = refusal_of(adt(MSH_3="", MSH_7="yesterday", PID_5=""))
    assert [problem.code for problem in refusal.problems] == ["101", "101", "102"]


@pytest.mark.parametrize("segment", ["PID", "MRG"])
def test_a_merge_without_a_segment_it_needs_is_out_of_sequence(
    segment: str, adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    refusal = refusal_of(adt("A40", **{segment: None}))
    assert (refusal.ack_code, refusal.error_code) == ("AE", "100")
    assert refusal.location == f"{segment}^1"


def test_two_patients_in_one_message_are_refused(
    adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    raw = adt() + b"PID|||4713^^^&1.2.250.1.99.1&ISO||X\r"
    assert refusal_of(raw).location == "PID^2"


@pytest.mark.parametrize("event", ["A40", "A43"])
def test_one_message_names_one_pair(
    event: str, adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    pair = b"PID|||4713^^^&1.2.250.1.99.1&ISO||X\rMRG|4714^^^&1.2.250.1.99.1&ISO\r"
    refusal = refusal_of(adt(event) + pair)
    assert [problem.code for problem in refusal.problems] == ["100", "100"]


def test_segments_a_registry_does_not_read_may_be_absent(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    assert feed_of(adt("A01", EVN=None, PV1=None)).event == "A01"
    assert feed_of(adt("A01") + b"ZPA|1|local\r").event == "A01"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"MRG_1": ("4712", "", "", FOREIGN)}, "204"),
        ({"MRG_1": "4712"}, "204"),
        ({"PID_3": ("4711", "", "", FOREIGN)}, "204"),
        ({"MRG_1": ("4711", "", "", ("KOSMOS",))}, "205"),
        ({"PID_3": [("1", "", "", OWN), ("2", "", "", OWN)]}, "204"),
        ({"MRG_1": [("1", "", "", OWN), ("2", "", "", OWN)]}, "204"),
        ({"MRG_1": ""}, "101"),
    ],
)
def test_a_merge_needs_two_different_ids_of_our_domain(
    fields: dict[str, str], code: str, adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    refusal = refusal_of(adt("A40", **fields))
    assert (refusal.ack_code, refusal.error_code) == ("AE", code)


LOCAL = ("77", "", "", ("", "1.2.3", "ISO"))
NEW = ("4711", "", "", OWN)


def test_a_link_change_names_who_gets_which_local_id_from_whom(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed]
) -> None:
    feed = feed_of(adt("A43", PID_3=[NEW, LOCAL, ("9", "", "", ("NAME",))], PID_5=""))
    assert feed.event == "A43"
    assert feed.identifiers == (CX("4711^^^&1.2.250.1.99.1&ISO"),)
    assert feed.previous == CX("4712^^^&1.2.250.1.99.1&ISO")
    assert feed.local == (CX("77^^^&1.2.3&ISO"),)
    assert feed.subsumed is None


@pytest.mark.parametrize(
    ("fields", "code", "location"),
    [
        ({"MRG": None}, "100", "MRG^1"),
        ({"MRG_1": ""}, "101", "MRG^1^1"),
        ({"MRG_1": ("4712", "", "", FOREIGN)}, "204", "MRG^1^1^1^4"),
        ({"MRG_1": NEW}, "205", "MRG^1^1^1^1"),
        ({"PID_3": NEW}, "204", "PID^1^3^2^1"),
        ({"PID_3": [NEW, ("77", "", "", ("NAME",))]}, "204", "PID^1^3^2^1"),
        ({"PID_3": LOCAL}, "204", "PID^1^3^1^4"),
    ],
)
def test_a_link_change_needs_two_ids_of_our_domain_and_a_local_one(
    fields: dict[str, object],
    code: str,
    location: str,
    adt: Adt,
    refusal_of: Callable[[bytes], Refused],
) -> None:
    refusal = refusal_of(adt("A43", **{"PID_3": [NEW, LOCAL], **fields}))
    assert (refusal.ack_code, refusal.error_code) == ("AE", code)
    assert location in [problem.location for problem in refusal.problems]


identifiers = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
).filter(lambda text: text != '""')


@given(
    new=identifiers,
    previous=identifiers,
    local=st.lists(st.tuples(identifiers, st.integers(1, 99)), min_size=1, max_size=4, unique=True),
)
def test_any_link_change_is_read_as_it_was_written(
    new: str, previous: str, local: list[tuple[str, int]]
) -> None:
    foreign = [(name, "", "", ("", f"1.9.{arc}", "ISO")) for name, arc in local]
    prior = [(previous, "", "", OWN), *foreign]  # some senders repeat the local id here
    raw = make_adt("A43", PID_3=[*foreign, (new, "", "", OWN)], MRG_1=prior)
    if new == previous:
        with pytest.raises(Refused):
            read_identity_feed(Message.read(raw), AUTHORITY, raw)
        return
    feed = read_identity_feed(Message.read(raw), AUTHORITY, raw)
    assert [cx.id for cx in feed.identifiers] == [new]
    assert feed.previous is not None
    assert feed.previous.id == previous
    assert feed.local == tuple(CX.of(name, f"1.9.{arc}") for name, arc in local)


def test_a_name_may_be_deleted_but_not_left_out(
    adt: Adt, feed_of: Callable[[bytes], IdentityFeed], refusal_of: Callable[[bytes], Refused]
) -> None:
    assert feed_of(adt(PID_5='""')).event == "A04"
    assert refusal_of(adt(PID_5="")).error_code == "101"
    assert refusal_of(adt(PID_3='""')).error_code == "101"


@pytest.mark.parametrize("event", ["A04", "A40", "A43"])
def test_a_message_without_any_id_of_ours_is_told_apart(
    event: str, adt: Adt, refusal_of: Callable[[bytes], Refused]
) -> None:
    fields = {} if event == "A04" else {"MRG_1": ("1", "", "", FOREIGN)}
    foreign = refusal_of(adt(event, PID_3=("2", "", "", FOREIGN), **fields))
    assert isinstance(foreign, ForeignPatient)


def test_the_sample_merge_of_the_standards_is_read(samples: Path) -> None:
    authority = HD("HIMSS2005", "1.3.6.1.4.1.21367.2005.1.1", "ISO")
    message = Message.read((samples / "iti-8.hl7").read_bytes())
    feed = read_identity_feed(message, authority)
    assert [cx.id for cx in feed.identifiers] == ["PDQ113XX35"]
    assert feed.subsumed is not None
    assert feed.subsumed.id == "PDQ113XX03"
