"""What was fetched and found right, a line for each file: the memory of an interrupted run.

``<study>/.fetched.jsonl`` names each instance with size and way. A file that still has its recorded
size need not be compared again; a journal that is lost costs that comparison, nothing else.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from consumer.report import FetchedInstance

NAME = ".fetched.jsonl"


class Journal:
    """Takes note in ``folder`` of what is in its place."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def add(self, one: FetchedInstance) -> None:
        """Note one instance; written at once, for whoever is interrupted after it."""
        line = {"instance": one.sop_instance_uid, "size": one.size, "way": one.way}
        with suppress(OSError), self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def sizes(self) -> dict[str, int]:
        """Bytes of each instance that was noted; a line cut short by a power cut is passed over."""
        found: dict[str, int] = {}
        with suppress(OSError), self._path.open() as file:
            for line in file:
                with suppress(ValueError, KeyError, TypeError):
                    note = json.loads(line)
                    found[str(note["instance"])] = int(note["size"])
        return found
