"""Messages through a folder: in order, once they are there, until they are removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.contract import Keys
from storage.errors import BlobStoreUnavailable, OutOfSpace
from storage.inbox import Inbox
from storage.space import LowWaterMark


def test_messages_are_taken_in_order_and_again_until_they_are_removed(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "in")
    assert list(inbox.waiting()) == []
    for number in range(20):
        inbox.put(b"%d" % number)

    assert [raw for _, raw in Inbox(tmp_path / "in").waiting()] == [b"%d" % n for n in range(20)]
    for name, _ in list(inbox.waiting())[:15]:
        inbox.remove(name)
    assert [raw for _, raw in inbox.waiting()] == [b"%d" % n for n in range(15, 20)]


def test_half_a_message_is_none(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    (tmp_path / "00000000000000000001-aaaa.part").write_bytes(b"hal")
    assert list(inbox.waiting()) == []


def test_a_folder_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobStoreUnavailable):
        Inbox(tmp_path / "file" / "in").put(b"message")


def test_nothing_is_taken_below_the_low_water_mark_and_what_waits_is_handed_over(
    tmp_path: Path,
) -> None:
    Inbox(tmp_path).put(b"before")
    full = Inbox(tmp_path, low_water=LowWaterMark(minimum_free_bytes=2**62))
    with pytest.raises(OutOfSpace):
        full.put(b"after")
    assert [raw for _, raw in full.waiting()] == [b"before"]


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_any_bytes_come_out_as_they_went_in(tmp_path: Path, message: bytes) -> None:
    inbox = Inbox(tmp_path)
    inbox.put(message)
    ((name, raw),) = inbox.waiting()
    inbox.remove(name)
    assert raw == message


def test_with_keys_messages_wait_sealed(tmp_path: Path, keys: Keys) -> None:
    inbox = Inbox(tmp_path / "in", keys)
    Inbox(tmp_path / "in").put(b"from before")
    inbox.put(b"CANARY")
    assert [raw for _, raw in inbox.waiting()] == [b"from before", b"CANARY"]
    assert not any(b"CANARY" in path.read_bytes() for path in (tmp_path / "in").iterdir())
    for path, _ in inbox.waiting():
        inbox.remove(path)
    assert not list(inbox.waiting())
