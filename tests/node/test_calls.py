"""Calls that have ended are counted and logged, some at a time, and all of them."""

from __future__ import annotations

import asyncio
import io

from node.calls import PAUSE_SECONDS, Calls
from node.metrics import CALLS, observer
from soap.service import Ended
from transactions.iti_18 import ITI_18


def ended(action: str) -> Ended:
    return Ended(action, "aborted", 1.0, 0.1, 3, 4, "urn:uuid:1", "10.0.0.1")


async def after_the_pause() -> None:
    """Return once what was to be done after the pause, as known by now, is done."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(PAUSE_SECONDS, passed.set)
    await passed.wait()


def count(number: str) -> float:
    [metric] = CALLS.collect()
    return sum(
        sample.value
        for sample in metric.samples
        if sample.name.endswith("_total")
        and sample.labels == {"transaction": number, "outcome": "aborted"}
    )


def test_calls_are_told_of_together_after_a_moment(stream: io.StringIO) -> None:
    before = count("ITI-18"), count("unknown")

    async def serve() -> str:
        calls = Calls(observer([ITI_18]))
        for action in (ITI_18.action, ITI_18.action, ""):
            calls(ended(action))
        told_at_once = stream.getvalue()
        await after_the_pause()
        return told_at_once

    assert asyncio.run(serve()) == ""
    assert stream.getvalue().count('"event": "call"') == 3
    assert (count("ITI-18"), count("unknown")) == (before[0] + 2, before[1] + 1)


def test_what_is_left_is_told_of_at_the_end_and_nothing_twice() -> None:
    before = count("ITI-18")

    async def serve() -> None:
        calls = Calls(observer([ITI_18]))
        calls(ended(ITI_18.action))
        calls.tell()
        await after_the_pause()

    asyncio.run(serve())
    assert count("ITI-18") == before + 1
