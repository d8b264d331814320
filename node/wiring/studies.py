"""The imaging source's index, opened for an operator's command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from imaging_source.checking import Findings, check
from metadata.identifiers import APPROVED
from node.config import Settings
from node.endpoints import Endpoints
from node.migrate import open_database
from node.operator import operator_name
from node.progress import Progress
from node.texts import tr
from node.wiring.blobs import open_images
from node.wiring.commands import calling
from node.wiring.common import Asked
from storage.database import Database


@contextmanager
def open_index(settings: Settings, *, read_only: bool = True) -> Iterator[Database]:
    """The index; to write to an embedded one needs the node stopped.

    Raises ConfigError and StorageError.
    """
    with open_database(settings.imaging_source, "imaging_source", read_only=read_only) as database:
        yield database


def check_images(
    settings: Settings, progress: Progress, *, hashes: bool, files_only: bool
) -> Findings:
    """Whether index, files and published manifests agree (``imaging_source.checking``).

    Raises ConfigError, StorageError, and RegistryUnavailable unless ``files_only``.
    """
    section = settings.imaging_source
    url = Endpoints.of(settings).registry if section.registry == "local" else section.registry
    with (
        calling(settings, operator_name()) as client,
        open_index(settings) as database,
        progress(tr("images"), 0) as step,
    ):
        asked = Asked.remote(url or "", client)

        def in_force(entries: Sequence[str]) -> set[str]:
            if files_only:
                return set(entries)
            found = asked.entries(entries)
            return {one.entry_uuid for one in found if one.availability_status == APPROVED}

        return check(database, open_images(settings), in_force, hashes=hashes, step=step)
