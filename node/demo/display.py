"""How the demonstration is shown: a line a step, with its IHE name, time and bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from node.cli.output import bytes_text
from node.texts import tr


class StepFailed(Exception):
    """A step of the demonstration did not bring what it must; the text says what."""


@dataclass(slots=True)
class Step:
    """What a step tells when it is done."""

    result: str = ""
    bytes: int = 0


class Display:
    """Prints steps as they end; a spinner turns meanwhile on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, text: str) -> None:
        """What this is about."""
        self._console.print(Panel(text, expand=False, border_style="blue"))
        headings = (tr("transaction"), tr("step"), tr("time"), tr("bytes"), tr("result"))
        self._console.print("  " + _columns(*headings), style="bold", soft_wrap=True)

    @contextmanager
    def step(self, number: str, name: str) -> Iterator[Step]:
        """One step: ``number`` as IHE knows it, ``name`` for a person."""
        step, started = Step(), time.perf_counter()
        with self._console.status(f"{number} {name}"):
            try:
                yield step
            except StepFailed as error:
                self._line("[red]✗[/red]", _columns(number, name, "", "", str(error)))
                raise
        took = f"{time.perf_counter() - started:.2f} s"
        size = bytes_text(step.bytes) if step.bytes else ""
        self._line("[green]✓[/green]", _columns(number, name, took, size, step.result))

    def verdict(self, text: str, ok: bool) -> None:
        """How it ended."""
        self._console.print(Panel(text, expand=False, border_style="green" if ok else "red"))

    def _line(self, mark: str, columns: str) -> None:
        self._console.print(f"{mark} {escape(columns)}", soft_wrap=True)


def _columns(number: str, name: str, took: str, size: str, result: str) -> str:
    """Aligned; the result comes last, for it is as long as it is."""
    return f"{number:<11}  {name:<37}  {took:>7}  {size:>9}  {result}"
