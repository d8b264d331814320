"""``python -m benchmarks``: measure, print the table, keep it where asked."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import (
    at_rest,
    audit,
    dicomweb,
    dimse,
    feed,
    images,
    large,
    manifests,
    media,
    queries,
    scale,
    submissions,
    transfers,
    trust,
)
from benchmarks.figures import Row, WrongAnswer, table
from benchmarks.scale import ENGINES
from node.cli import COLLECT_EVERY


class Benchmark(NamedTuple):
    """A benchmark and the scales it is run at."""

    measure: Callable[[Any], Iterator[Row]]
    full: object
    quick: object


BENCHMARKS = {
    "query": Benchmark(queries.measure, queries.Scale(), queries.QUICK),
    "register": Benchmark(
        submissions.measure_registrations, submissions.Scale(), submissions.QUICK
    ),
    "provide": Benchmark(submissions.measure_documents, submissions.Scale(), submissions.QUICK),
    "transfer": Benchmark(transfers.measure, transfers.Scale(), transfers.QUICK),
    "study": Benchmark(images.measure_retrieval, images.Scale(), images.QUICK),
    "dicomweb": Benchmark(dicomweb.measure, dicomweb.Scale(), dicomweb.QUICK),
    "media": Benchmark(media.measure, media.Scale(), media.QUICK),
    "large": Benchmark(large.measure, large.Scale(), large.QUICK),
    "feed": Benchmark(feed.measure, feed.Scale(), feed.QUICK),
    "dimse": Benchmark(dimse.measure, dimse.Scale(), dimse.QUICK),
    "store": Benchmark(images.measure_storage, images.Scale(), images.QUICK),
    "sealed": Benchmark(at_rest.measure, at_rest.Scale(), at_rest.QUICK),
    "audit": Benchmark(audit.measure, audit.Scale(), audit.QUICK),
    "trust": Benchmark(trust.measure, trust.Scale(), trust.QUICK),
    "manifest": Benchmark(manifests.measure, manifests.Scale(), manifests.QUICK),
}


def run(names: list[str], quick: bool) -> Iterator[Row]:
    """The rows of the named benchmarks. Raises WrongAnswer."""
    for name in names:
        benchmark = BENCHMARKS[name]
        print(f"{name} ...", file=sys.stderr, flush=True)
        yield from benchmark.measure(benchmark.quick if quick else benchmark.full)


def main() -> int:
    """Run what the command line asks for; 1 if an answer was wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="may be repeated")
    parser.add_argument("--scale", choices=scale.SCALES, help="a region's registry instead")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="with --scale")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args()
    gc.set_threshold(COLLECT_EVERY)
    try:
        if given.scale:
            rows = list(_told(scale.measure(scale.SCALES[given.scale], given.engine or ENGINES)))
        else:
            rows = list(run(given.only or list(BENCHMARKS), given.quick))
    except WrongAnswer as wrong:
        print(f"wrong answer: {wrong}", file=sys.stderr)
        return 1
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(_report(rows, given.quick), indent=2) + "\n")
    return 0


def _told(rows: Iterator[Row]) -> Iterator[Row]:
    """``rows``, each told as soon as it is known: all of them take an hour."""
    for row in rows:
        print(*row.cells(), sep=" | ", file=sys.stderr, flush=True)
        yield row


def _report(rows: list[Row], quick: bool) -> dict[str, object]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "quick": quick,
        "rows": [asdict(row) | {"is_met": row.is_met} for row in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
