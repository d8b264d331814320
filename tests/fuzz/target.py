"""One parser that meets bytes from strangers, and what may come out of it.

A target is played by ``tests.fuzz.play``: by inputs made from its seeds and from what is kept in
``tests/corpora``, guided by what they reach of the code where atheris is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CORPORA = Path(__file__).parents[1] / "corpora"


@dataclass(frozen=True)
class Target:
    """``read`` takes any bytes and may raise nothing but ``declared``.

    ``seeds`` are inputs it understands, from which others are made; ``runs`` is how many inputs
    take some 2 seconds.
    """

    name: str
    read: Callable[[bytes], object]
    declared: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    runs: int

    def play(self, data: bytes) -> None:
        """Read ``data``; whatever is not declared comes out."""
        with suppress(*self.declared):
            self.read(data)

    @cached_property
    def kept(self) -> list[bytes]:
        """The inputs that once did harm."""
        return [file.read_bytes() for file in sorted((CORPORA / self.name).glob("*"))]

    @cached_property
    def inputs(self) -> list[bytes]:
        """What play begins with."""
        return [*self.seeds(), *self.kept]
