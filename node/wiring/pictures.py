"""What the process ``web`` makes of stored images: other transfer syntaxes, pictures."""

from __future__ import annotations

from contextlib import ExitStack

from imaging_source.variants import Variants
from imaging_source.workers import Workers
from node.config import GIB, Settings

# Below the data folder: may be emptied while the node is stopped.
FOLDER = "transcoded"


def open_variants(settings: Settings, stack: ExitStack) -> Variants:
    """Transcoding, kept in the data folder; its processes end with ``stack``."""
    workers = Workers()
    stack.callback(workers.close)
    limit = settings.imaging_source.transcoded_gib * GIB
    return Variants(settings.node.data_dir / FOLDER, workers, limit)
