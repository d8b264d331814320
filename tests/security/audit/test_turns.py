"""Records of an event loop are written together, and each call hears of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from security.audit import trail as trail_module
from security.audit.chain import Verifier
from security.audit.trail import Trail
from security.audit.verification import Verified, verify
from storage.faultpoints import InjectedFault
from tests.security.audit.conftest import NODE, Open, record

Waiting = list[asyncio.Future[None]]


def turn(trail: Trail, then: Callable[[Waiting], object] = lambda _waiting: None) -> list[object]:
    """What three calls hear that give their records to ``trail`` in one turn; ``then`` comes in the
    same turn, after them."""

    async def calls() -> list[object]:
        waiting = [trail.appended([record(number)]) for number in (1, 2, 3)]
        then(waiting)
        return [*await asyncio.gather(*waiting, return_exceptions=True)]

    return asyncio.run(calls())


def proved(folder: Path) -> Verified:
    return verify(folder / "web.db", NODE, Verifier.of(folder))


def test_all_records_of_a_turn_are_durable_when_their_calls_hear_of_it(
    open_trail: Open, folder: Path
) -> None:
    trail = open_trail("web")
    assert turn(trail) == [None, None, None]
    assert turn(trail) == [None, None, None]  # in another loop
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", 6)


def test_every_call_hears_that_its_record_was_not_written(
    open_trail: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = open_trail("web")

    def fail(name: str) -> None:
        raise InjectedFault(name)

    with monkeypatch.context() as broken:
        broken.setattr(trail_module, "reach", fail)
        assert [type(one) for one in turn(trail)] == [InjectedFault] * 3
    assert turn(trail) == [None, None, None]
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", 3)


def test_a_call_that_goes_away_takes_neither_its_record_nor_the_others(
    open_trail: Open, folder: Path
) -> None:
    trail = open_trail("web")
    heard = turn(trail, lambda waiting: waiting[1].cancel())
    assert [type(one) for one in heard] == [type(None), asyncio.CancelledError, type(None)]
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", 3)


def test_records_of_other_threads_are_written_with_them(open_trail: Open, folder: Path) -> None:
    trail = open_trail("web")
    assert turn(trail, lambda _waiting: trail.append([record(4)]).result()) == [None, None, None]
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", 4)


def test_a_loop_that_never_rests_is_not_waited_for(open_trail: Open, folder: Path) -> None:
    trail = open_trail("web")

    async def calls() -> int:
        first = last = trail.appended([record(1)])
        count = 1
        while not first.done():
            count += 1
            last = trail.appended([record(count)])
            await asyncio.sleep(0)
        await last
        return count

    count = asyncio.run(calls())
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", count)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_however_many_are_written_at_once_each_is_there(
    open_trail: Open, folder: Path, count: int
) -> None:
    trail = open_trail("web")
    trail.append([record(number) for number in range(1, count + 1)]).result()
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", count)
