"""What a node holds: its databases, and the files that their rows name.

Shared by what copies a node away and what brings it back (``node.backup``, ``node.restore``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import URL, CompoundSelect, Connection, Select, func, select, union

from imaging_source.evicted import IS_EVICTED
from imaging_source.rejection import IS_KEPT
from imaging_source.schema import INSTANCE, QUARANTINE, REPORT
from node.config import Settings
from node.migrate import actors, database_url
from node.texts import tr
from node.wiring.blobs import open_blobs, open_images
from repository.schema import DOCUMENT, GONE
from storage.contract import Blobs
from storage.errors import BlobMissing

Selectable = Select[str, int] | CompoundSelect[str, int]

# Rows read from the database at a time.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """One database and the actors that live in it, first the one whose name it is known by."""

    url: URL
    actors: tuple[str, ...]

    @property
    def backend(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.url.get_backend_name()


@dataclass(frozen=True, slots=True)
class Files:
    """One blob store: whose it is, and the statement for the (address, size) of its files.

    ``place`` is its folder or its s3:// URL.
    """

    name: str
    actor: str
    place: Path | str
    open: Callable[[], Blobs]
    statement: Selectable

    def title(self) -> str:
        """What a person calls its files."""
        return tr("documents") if self.name == "documents" else tr("images")

    def count(self, connection: Connection) -> int:
        """How many files the rows name."""
        statement = select(func.count()).select_from(self.statement.subquery())
        return connection.execute(statement).scalar_one()

    def is_empty(self) -> bool:
        """Whether nothing lies at its place; looks without making anything there."""
        if isinstance(self.place, Path):
            return not self.place.exists() or not any(self.place.iterdir())
        return next(iter(self.open().inventory()), None) is None

    def named(self, connection: Connection) -> Iterator[tuple[str, int]]:
        """The address and size of every file that a row names."""
        for row in connection.execute(self.statement).yield_per(_PAGE):
            yield row[0], row[1]


def places(settings: Settings) -> list[Place]:
    """The databases, each once, the registry's first: it refers to what the others hold.

    Raises ConfigError.
    """
    found: dict[URL, list[str]] = {}
    for name, section in actors(settings).items():
        found.setdefault(database_url(section, name), []).append(name)
    return [Place(url, tuple(names)) for url, names in found.items()]


def stores(settings: Settings) -> list[Files]:
    """The blob stores of the actors of this node."""
    found = []
    blobs = settings.repository.blobs
    if settings.repository.enabled and blobs is not None:
        kept = select(DOCUMENT.c.sha256, DOCUMENT.c.size).where(DOCUMENT.c.state.not_in(GONE))
        kept = kept.distinct()
        found.append(Files("documents", "repository", blobs, partial(open_blobs, settings), kept))
    source = settings.imaging_source
    if source.enabled and source.files is not None:
        opening = partial(open_images, settings)
        found.append(Files("images", "imaging_source", source.files, opening, _images()))
    return found


def _images() -> Selectable:
    """What is kept of instances and what was put aside, and the documents of reports.

    What was evicted is with its archive, which the node fetches it from again.
    """
    return union(
        select(INSTANCE.c.sha256, INSTANCE.c.size).where(IS_KEPT, ~IS_EVICTED),
        select(QUARANTINE.c.sha256, QUARANTINE.c.size),
        select(REPORT.c.sha256, REPORT.c.size),
    )


def holds(blobs: Blobs, address: str, size: int) -> bool:
    """Whether the file is there and has this size."""
    try:
        return blobs.open(address).size == size
    except BlobMissing:
        return False
