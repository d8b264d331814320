"""A connection's own way out is closed while a job of it runs, or waits for its turn."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from soap.message import Piece
from soap.outlet import Job, Outlet

# What does not wait takes microseconds.
_MOMENT_SECONDS = 0.1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, neither of which blocks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        yield ours, theirs


def test_a_job_that_runs_keeps_its_descriptor_until_it_ends(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    waited: list[bool] = []

    def pieces() -> Iterator[Piece]:
        closing.start()
        closing.join(_MOMENT_SECONDS)
        waited.append(closing.is_alive())
        yield b"the last"

    async def start(job: Job) -> bool:
        return job()

    outlet = Outlet(os.dup(pair[0].fileno()), pieces())
    closing = threading.Thread(target=outlet.close)
    asyncio.run(outlet.run(start, 1.0))
    closing.join()
    assert waited == [True]
    assert pair[1].recv(100) == b"the last"


def test_a_job_that_comes_after_the_end_writes_nothing_to_who_has_the_number_now(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    descriptor = os.dup(pair[0].fileno())

    async def start(job: Job) -> bool:
        outlet.close()
        os.dup2(pair[0].fileno(), descriptor)
        return job()

    outlet = Outlet(descriptor, iter([b"of somebody else"]))
    try:
        asyncio.run(outlet.run(start, 1.0))
    finally:
        os.close(descriptor)
    with pytest.raises(BlockingIOError):
        pair[1].recv(100)
