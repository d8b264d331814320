"""What the process ``web`` makes of stored images, and images that come to it: STOW-RS."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from imaging_source.handover import DistantIntake
from imaging_source.stow import Stow
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from node.config import PID_FOLDER, Settings
from node.config_values import GIB
from node.wiring.blobs import open_images
from node.wiring.keys import open_keys
from soap.limits import Limits

# Below the data folder: may be emptied while the node is stopped.
FOLDER = "transcoded"


def open_variants(settings: Settings, stack: ExitStack) -> Variants:
    """Transcoding, kept in the data folder; its processes end with ``stack``.

    Raises ConfigError.
    """
    workers = Workers()
    stack.callback(workers.close)
    limit = settings.imaging_source.transcoded_gib * GIB
    return Variants(settings.node.data_dir / FOLDER, workers, limit, open_keys(settings))


def intake(settings: Settings) -> DistantIntake:
    """The door by which images come in where the index is not written."""
    return DistantIntake(open_images(settings), settings.node.data_dir / PID_FOLDER)


def stow(settings: Settings, pool: ThreadPoolExecutor) -> Stow:
    """STOW-RS within the limits of the node."""
    limits, public = settings.limits, settings.node.public_url
    return Stow(
        intake(settings),
        pool,
        Limits(message=limits.message_bytes, idle=limits.idle_seconds),
        public=f"{public.rstrip('/')}/dicomweb" if public else None,
    )
