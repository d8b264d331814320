"""What sealing at rest costs: the same moved in and out of a sealed node and of a plain one.

RAD-69 of a study, and ITI-41 and ITI-43 of one large document, by turns in one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.figures import MIB, Row, growth, interleaved, throughput
from benchmarks.images import Retrieved
from benchmarks.place import Place, fresh
from benchmarks.transfers import Transfer
from node.sealing import new_key

_SEALED = '\n[at_rest]\nenabled = true\nkeys = "keys"\n'


@dataclass(frozen=True, slots=True)
class Scale:
    """Instances of the study, of 512 KiB each; bytes of the document."""

    instances: int = 300
    size: int = 1024 * MIB
    rounds: int = 3


QUICK = Scale(instances=8, size=4 * MIB, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """Each way sealed, beside the same as the bytes are."""
    with ExitStack() as stack:
        sealed, plain = (
            Retrieved(stack, _place(stack, extra), scale.instances) for extra in (_SEALED, "")
        )
        ours, bare = interleaved(scale.rounds, sealed.fetch, plain.fetch)
        size = plain.size
    yield throughput(
        f"RAD-69 of {scale.instances} x 512 KiB, sealed",
        size,
        [one.seconds for one in ours],
        [one.seconds for one in bare],
        0.6,
    )
    with ExitStack() as stack:
        into, beside = (_transfer(stack, extra, scale.size) for extra in (_SEALED, ""))
        provided, bare_in, retrieved, bare_out = interleaved(
            scale.rounds, into.provide, beside.provide, into.retrieve, beside.retrieve
        )
    name = f"{scale.size // MIB:,} MiB, sealed"
    for work, found, reference, reach in (
        (f"ITI-41 of {name}", provided, bare_in, 0.6),
        (f"ITI-43 of {name}", retrieved, bare_out, 0.6),
    ):
        times = [one.seconds for one in found], [one.seconds for one in reference]
        yield throughput(work, scale.size, *times, reach)
        yield growth(f"{work}: memory", [one.growth for one in found], 64)


def _place(stack: ExitStack, extra: str) -> Place:
    place = stack.enter_context(fresh("sealed", extra=extra))
    if extra:
        new_key(place.settings)
    return place


def _transfer(stack: ExitStack, extra: str, size: int) -> Transfer:
    place = _place(stack, extra)
    place.announce(1)
    return Transfer(place, stack.enter_context(place.serve("web")), size)
