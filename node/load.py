"""Files of submissions for ``kosmos load``: what holds one, what holds one a line.

A file ``*.xml`` is one lcm:SubmitObjectsRequest; any other file holds one on every line that is
not blank. A folder stands for the files in it and below, in the order of their names: a
replacement must come after what it replaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from node.config import Settings
from node.migrate import open_database
from node.wiring.common import affinity_domain
from registry.bulk import Loaded, Loader, Source, helpers


def files_in(place: Path) -> list[Path]:
    """The file, or the files of the folder, hidden ones left out."""
    if not place.is_dir():
        return [place]
    return sorted(
        file for file in place.rglob("*") if file.is_file() and not file.name.startswith(".")
    )


def sources(files: Iterable[Path]) -> Iterator[Source]:
    """The submissions in ``files``, each named by its file and line. Raises OSError."""
    for file in files:
        if file.suffix == ".xml":
            yield Source(str(file), file.read_bytes())
            continue
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    yield Source(f"{file}:{number}", line)


@contextmanager
def loading(settings: Settings, submissions: Iterable[Source]) -> Iterator[Iterator[Loaded]]:
    """The reports of loading ``submissions`` into the node's registry, batch by batch.

    Raises ConfigError, StorageError; on SQLite DatabaseLocked while the node runs.
    """
    domain = affinity_domain(settings)
    with open_database(settings.registry, "registry") as database, helpers() as pool:
        yield Loader(database, domain, pool).load(submissions)
