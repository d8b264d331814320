"""What it costs that a node asks who is asking, and shows each what he may see.

ITI-18 with mutual TLS, an assertion, the access policy and an audit trail stands beside the same
without any of them: same data, same questions, by turns. An assertion that comes again is beside
one that comes for the first time.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median

from benchmarks import queries
from benchmarks.figures import Row, WrongAnswer, interleaved, per_second
from benchmarks.place import Place, fresh
from node.wiring.audit import open_auditor
from node.wiring.common import own_assertions
from node.wiring.gate import open_gate
from soap.envelope import Envelope, read_envelope, write_request
from soap.xml import parse


@dataclass(frozen=True, slots=True)
class Scale:
    """Entries of the registries and queries of one run; assertions that are verified."""

    entries: int = 10_000
    queries: int = 4_000
    assertions: int = 200
    rounds: int = 3


QUICK = Scale(entries=200, queries=60, assertions=5, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """The rate of queries with everything beside that with nothing; an assertion again."""
    with ExitStack() as stack:
        policy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "policy.toml"
        policy.write_text(_lenient())
        extra = f'\n[policy]\nfile = "{policy}"\n'
        secure, plain = (
            queries.Queried(
                stack,
                stack.enter_context(fresh("trust", extra=extra, audit=on, secure=on)),
                scale.entries,
                scale.queries,
            )
            for on in (True, False)
        )
        ours, bare = interleaved(scale.rounds, secure.ask, plain.ask)
    work = "ITI-18 with TLS, assertion, policy and audit, beside none"
    yield per_second(work, [one.rate for one in ours], [one.rate for one in bare], 0.55)
    with fresh("trust", secure=True) as place:
        first, again = _verified(place, scale.assertions)
    times = f"{again * 1e6:.0f} us", f"first {first * 1e6:.0f} us"
    yield Row("an assertion that comes again", *times, again / first, 0.1, True)


def _lenient() -> str:
    """The policy that ships, judged to its end, where everything is shown: both answer alike."""
    shipped = (resources.files("security.access") / "policy.toml").read_text()
    unmasked = re.sub(r'(masked = true\ndecision = )"deny"', r'\1"permit"', shipped)
    return f'{unmasked}\n[[rule]]\ndecision = "permit"\n'


def _verified(place: Place, count: int) -> tuple[float, float]:
    """Seconds to verify an assertion for the first time, and again."""
    first: list[float] = []
    again: list[float] = []
    with ExitStack() as stack:
        opened = open_gate(place.settings, stack, open_auditor(place.settings, stack, "web-0", ""))
        if opened is None:
            raise WrongAnswer("the node asks nobody who he is")
        verifier = opened[0].verifier
        for number in range(count):
            token = own_assertions(place.settings, f"user {number}")()
            for kept in (first, again):
                envelope = _envelope(token)
                started = time.perf_counter()
                verifier.verify(envelope, None)
                kept.append(time.perf_counter() - started)
    return median(first), median(again)


def _envelope(token: str) -> Envelope:
    message = write_request(
        [b"<q/>"], action="urn:x", message_id="urn:uuid:1", to="urn:y", token=token
    )
    return read_envelope(parse(b"".join(message)))
