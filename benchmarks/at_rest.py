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

# Who asks is measured by itself.
_UNASKED = "\n[assertions]\nenabled = false\n"
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
    yield from measure_images(scale)
    yield from measure_document(scale)


def measure_images(scale: Scale) -> Iterator[Row]:
    """RAD-69, also by TLS."""
    with ExitStack() as stack:
        places = (
            _place(stack, _SEALED + _UNASKED, secure=True),
            _place(stack, _SEALED),
            _place(stack, ""),
        )
        secured, sealed, plain = (Retrieved(stack, one, scale.instances) for one in places)
        by_tls, alone, bare = interleaved(scale.rounds, secured.fetch, sealed.fetch, plain.fetch)
        size = plain.size
    work = f"RAD-69 of {scale.instances} x 512 KiB"
    for how, ours, reach in (("sealed, by TLS", by_tls, 0.45), ("sealed", alone, 0.6)):
        times = [one.seconds for one in ours], [one.seconds for one in bare]
        yield throughput(f"{work}, {how}", size, *times, reach)


def measure_document(scale: Scale) -> Iterator[Row]:
    """ITI-41 and ITI-43, each with the server's memory."""
    with ExitStack() as stack:
        into, beside = (_transfer(stack, extra, scale.size) for extra in (_SEALED, ""))
        provided, bare_in, retrieved, bare_out = interleaved(
            scale.rounds, into.provide, beside.provide, into.retrieve, beside.retrieve
        )
    name = f"{scale.size // MIB:,} MiB, sealed"
    for work, moved, reference in (
        (f"ITI-41 of {name}", provided, bare_in),
        (f"ITI-43 of {name}", retrieved, bare_out),
    ):
        times = [one.seconds for one in moved], [one.seconds for one in reference]
        yield throughput(work, scale.size, *times, 0.6)
        yield growth(f"{work}: memory", [one.growth for one in moved], 64)


def _place(stack: ExitStack, extra: str, *, secure: bool = False) -> Place:
    place = stack.enter_context(fresh("sealed", extra=extra, secure=secure))
    if extra:
        new_key(place.settings)
    return place


def _transfer(stack: ExitStack, extra: str, size: int) -> Transfer:
    place = _place(stack, extra)
    place.announce(1)
    return Transfer(place, stack.enter_context(place.serve("web")), size)
