"""What lies in trails that nobody writes reaches the repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from security.audit import resting as resting_module
from security.audit.resting import Resting
from security.audit.sender import Delivery, Kept, Target
from storage.errors import DatabaseLocked
from tests.security.audit.conftest import Open, record
from tests.security.audit.test_sending import SENDER, await_count, messages, receiving, some
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting_module, "LOOK_SECONDS", 0.02)


@contextmanager
def looking_after(folder: Path, port: int) -> Iterator[None]:
    """Sends what rests in ``folder`` to the repository at ``port``."""

    def deliveries(kept: Kept) -> Sequence[Delivery]:
        return [Delivery(kept, Target("tcp", "127.0.0.1", port), SENDER, None)]

    resting = Resting(folder, ("operator", "client-*"), deliveries)
    resting.start()
    try:
        yield
    finally:
        resting.stop()


def leave(open_trail: Open, name: str, *numbers: int) -> None:
    """A command that records in the trail ``name``, once it is free, and ends."""

    def left() -> bool:
        with suppress(DatabaseLocked), open_trail(name) as trail:
            trail.append([record(number) for number in numbers]).result()
            return True
        return False

    wait_for(left)


def test_what_commands_have_left_is_sent_once_and_what_they_leave_later_too(
    open_trail: Open, folder: Path
) -> None:
    theirs = open_trail("received")
    leave(open_trail, "client-0", *range(150))
    with receiving(theirs) as receiver, looking_after(folder, receiver.port):
        await_count(theirs, 150)
        leave(open_trail, "operator", 150)
        await_count(theirs, 151)
        leave(open_trail, "operator", 151)
        await_count(theirs, 152)
    assert messages(theirs) == some(0, 152)


def test_a_repository_that_was_away_gets_what_rests_when_it_is_back(
    open_trail: Open, folder: Path
) -> None:
    theirs = open_trail("received")
    with receiving(theirs) as receiver:
        port = receiver.port
    leave(open_trail, "operator", 1)
    with capture_logs() as logged, looking_after(folder, port):
        wait_for(lambda: any(one["code"] == "AUDIT-SEND" for one in logged))
        with receiving(theirs, port=port):
            await_count(theirs, 1)


def test_a_trail_that_is_written_is_left_to_who_writes_it(open_trail: Open, folder: Path) -> None:
    theirs = open_trail("received")
    with receiving(theirs) as receiver:
        with open_trail("client-0") as trail:
            trail.append([record(1)]).result()
            with looking_after(folder, receiver.port):
                leave(open_trail, "operator", 2)
                await_count(theirs, 1)
            assert messages(theirs) == some(2, 1)
        with looking_after(folder, receiver.port):
            await_count(theirs, 2)
    assert messages(theirs) == [*some(2, 1), *some(1, 1)]


def test_a_file_that_is_no_trail_yet_keeps_nothing_back(open_trail: Open, folder: Path) -> None:
    theirs = open_trail("received")
    leave(open_trail, "operator", 0)
    (folder / "client-0.db").touch()  # a command has just begun to make it
    with receiving(theirs) as receiver, looking_after(folder, receiver.port):
        await_count(theirs, 1)
        leave(open_trail, "operator", 1)
        leave(open_trail, "client-0", 2)
        await_count(theirs, 3)
