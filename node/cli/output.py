"""What commands print: data as JSON or as tables, progress on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table


class Transferred(Protocol):
    """How far a transfer has come: ``consumer.report.Progress`` is one."""

    @property
    def instances(self) -> int:
        """How many have come."""

    @property
    def total(self) -> int:
        """Of how many."""

    @property
    def bytes(self) -> int:
        """Bytes that have come."""

    @property
    def seconds(self) -> float:
        """How long it took."""


class Advance(Protocol):
    """What ``progress`` gives."""

    def __call__(self, steps: int = 1) -> None:
        """Count steps."""


UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


# Beyond a terminal nothing need fit: a UID of 64 characters is not cut.
FILE_WIDTH = 200


def console() -> Console:
    """Where results go: standard output."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)


def errors() -> Console:
    """Where progress is drawn: standard error."""
    return Console(stderr=True, highlight=False)


def show_json(data: object) -> None:
    """``data`` as one JSON document on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """A table for a person."""
    made = Table(*headings, title=title or None, title_justify="left", header_style="bold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, str) else str(cell) for cell in row))
    return made


def bytes_text(count: float) -> str:
    """``count`` bytes as a person reads them: ``512 B``, ``1.5 MiB``."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError  # the last unit always returns


def time_text(time: str) -> str:
    """A DTM (UTC) as a person reads it, as far as it is known: ``2026-03-01 08:30``."""
    date = "-".join(filter(None, (time[:4], time[4:6], time[6:8])))
    clock = ":".join(filter(None, (time[8:10], time[10:12], time[12:14])))
    return f"{date} {clock}".rstrip()


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """A function that counts steps; it draws a bar on a terminal and nothing elsewhere."""
    screen = errors()
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda steps=1: bar.advance(task, steps)


@contextmanager
def transfer(title: str) -> Iterator[Callable[[Transferred], None]]:
    """A function that is told how far a transfer is; draws rate and time left on a terminal."""
    screen = errors()
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    rate = TextColumn("{task.fields[rate]}")
    with Progress(
        *columns,
        rate,
        TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=None, rate="")

        def told(done: Transferred) -> None:
            rate = f"{bytes_text(done.bytes / max(done.seconds, 0.001))}/s"
            bar.update(task, completed=done.instances, total=done.total, rate=rate)

        yield told
