"""The figures of a run: ratios, their goals, and the table a person reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

T = TypeVar("T")

MIB = 1024 * 1024

COLUMNS = ("work", "measured", "reference", "ratio", "reach", "verdict")


class WrongAnswer(Exception):
    """The work was not done, or not right: its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: ``ratio`` is compared with ``reach``, upwards unless ``at_most``."""

    work: str
    measured: str
    reference: str
    ratio: float
    reach: float
    at_most: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio <= self.reach if self.at_most else self.ratio >= self.reach

    def named(self, work: str) -> Row:
        """The same under another name."""
        return replace(self, work=work)

    def cells(self) -> tuple[str, ...]:
        """The line's texts in the order of ``COLUMNS``."""
        sign = "<=" if self.at_most else ">="
        verdict = "reached" if self.is_met else "missed"
        ratio, reach = f"{self.ratio:.3g}{self.unit}", f"{sign} {self.reach:g}{self.unit}"
        return self.work, self.measured, self.reference, ratio, reach, verdict


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, aligned."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    texts = [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def per_second(
    work: str, measured: Sequence[float], reference: Sequence[float], reach: float
) -> Row:
    """The row that compares two rates, the median of each."""
    ours, theirs = median(measured), median(reference)
    return Row(work, f"{ours:,.0f}/s", f"{theirs:,.0f}/s", ours / theirs, reach)


def throughput(
    work: str, size: int, seconds: Sequence[float], reference: Sequence[float], reach: float
) -> Row:
    """The row that compares the times of moving ``size`` bytes, the median of each."""
    ours, theirs = median(seconds), median(reference)
    speeds = [f"{size / MIB / time:,.0f} MiB/s" for time in (ours, theirs)]
    return Row(work, speeds[0], speeds[1], theirs / ours, reach)


def growth(work: str, sizes: Sequence[float], reach: float) -> Row:
    """The row for the growth of a process's memory, the largest seen, in MiB."""
    largest = max(sizes)
    return Row(work, f"+{largest:,.0f} MiB", "before", largest, reach, at_most=True, unit=" MiB")


def interleaved(rounds: int, *works: Callable[[], T]) -> list[list[T]]:
    """Do every work ``rounds`` times, by turns, so that a busy minute spoils all alike."""
    results: list[list[T]] = [[] for _ in works]
    for _ in range(rounds):
        for result, work in zip(results, works, strict=True):
            result.append(work())
    return results
