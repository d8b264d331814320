"""How long work tells how far it has come: ``node.cli.output.progress`` draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Step = Callable[[], object]
"""To be called after each of the steps that were announced."""

Progress = Callable[[str, int], AbstractContextManager[Step]]
"""What is being done, and in how many steps."""


@contextmanager
def silent(_title: str, _total: int) -> Iterator[Step]:
    """The progress of who shows none."""
    yield lambda: None
