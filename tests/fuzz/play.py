"""Plays targets: millions of broken inputs, guided by what they reach of the code.

    python -m tests.fuzz                         each target, some 2 seconds
    python -m tests.fuzz --seconds 600 mllp      one target, ten minutes

Guided by atheris where it is installed; elsewhere inputs are changed blindly, which it says. An
input that does harm is written to the folder of finds: mend the fault, and keep the input in
``tests/corpora/TARGET``, where every later run begins with it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzz.target import Target

NAMES = (
    "mime",
    "envelope",
    "ebrim",
    "bodies",
    "query",
    "mllp",
    "association",
    "header",
    "datatypes",
    "manifest",
    "assertion",
    "codes",
    "dicomweb",
)
ROOMS = (
    *("metadata", "soap", "hl7", "transactions", "security", "manifest"),
    *("imaging_source", "node"),
)

MOST_BYTES = 8192
"""Longest input made: what is broken by length alone has tests of its own."""

HANG_SECONDS = 5
"""An input that takes longer is a find."""

MEMORY_MIB = 1024
"""Most memory of a target's process, a third of which is the instrumented code."""

HAS_GUIDE = find_spec("atheris") is not None


def load(names: Sequence[str], *, guided: bool = HAS_GUIDE) -> list[Target]:
    """The targets, and our own code instrumented while it is imported."""
    with _instrumented() if guided else nullcontext():
        return [import_module(f"tests.fuzz.{name}").TARGET for name in names]


def _instrumented() -> AbstractContextManager[Any]:
    import atheris

    found: AbstractContextManager[Any] = atheris.instrument_imports(include=list(ROOMS))
    return found


def mutations(inputs: Sequence[bytes], seed: str) -> Iterator[bytes]:
    """Inputs with bytes changed, lost, doubled, taken from each other; the same for a seed."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 6)):
            at, length = chance.randint(0, len(data)), min(chance.randint(0, 12), len(data))
            other = chance.choice(inputs)
            start = chance.randint(0, len(other))
            data[at : at + length] = chance.choice(
                (
                    b"",
                    chance.randbytes(chance.randint(0, 4)),
                    bytes(data[at : at + length]) * 2,
                    other[start : start + chance.randint(0, 40)],
                )
            )
        yield bytes(data[:MOST_BYTES])


def play_blindly(target: Target, runs: int, seconds: int, finds: Path) -> None:
    """Until either is used up; raises what the target does not declare."""
    deadline = time.monotonic() + seconds if seconds else float("inf")
    for number, data in enumerate(mutations(target.inputs, target.name)):
        if time.monotonic() > deadline or (runs and number >= runs):
            return
        _meet(target, finds, data)


def _meet(target: Target, finds: Path, data: bytes) -> None:
    """Play one input; keep it where it does harm."""
    try:
        target.play(data)
    except BaseException:
        (finds / f"{target.name}-crash").write_bytes(data)
        raise


def _play_guided(target: Target, runs: int, seconds: int, finds: Path) -> None:
    """Ends the process, with what libFuzzer says of it."""
    import atheris

    corpus = finds / "corpus" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.inputs):
        (corpus / f"seed-{number}").write_bytes(data)
    options = (
        f"-atheris_runs={runs}" if runs else f"-max_total_time={seconds}",
        "-seed=1",
        f"-max_len={MOST_BYTES}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={finds}/{target.name}-",
        "-verbosity=0",
    )
    atheris.Setup([target.name, *options, str(corpus)], partial(_meet, target, finds))
    atheris.Fuzz()


def in_a_child(play: Callable[[], None]) -> int:
    """Exit code of a process of its own that plays: a target may end it, or be ended."""
    child = os.fork()
    if child == 0:
        try:
            play()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:  # noqa: BLE001 - the child's last word
            sys.excepthook(type(error), error, error.__traceback__)
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play; the exit code says whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=0, help="of each target, not 2")
    parser.add_argument("--finds", type=Path, default=Path("build/fuzz"))
    asked = parser.parse_args(arguments)
    finds = asked.finds.absolute()
    finds.mkdir(parents=True, exist_ok=True)
    if not HAS_GUIDE:
        _say("atheris is not installed: inputs are changed blindly")
    way = _play_guided if HAS_GUIDE else play_blindly
    failed = []
    for target in load(asked.targets or NAMES):
        started = time.monotonic()
        runs = 0 if asked.seconds else target.runs
        code = in_a_child(lambda: way(target, runs, asked.seconds, finds))  # noqa: B023
        took = time.monotonic() - started
        _say(f"{target.name}: {'found something' if code else 'ok'} in {took:.1f} s")
        failed += [target.name] if code else []
    return 1 if failed else 0
