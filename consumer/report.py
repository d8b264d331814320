"""What came of fetching a study: told while it goes on, and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consumer.errors import ConsumerError
from metadata.catalogue import RegistryError


@dataclass(frozen=True, slots=True)
class Progress:
    """How far fetching has come: instances received of those to fetch, bytes, seconds."""

    instances: int
    total: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MissingInstance:
    """An instance of the manifest that could not be had, and why.

    ``error`` is the source's own word on it, if it gave one.
    """

    series_instance_uid: str
    sop_instance_uid: str
    reason: str
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What came of fetching the images of one manifest.

    ``fetched`` are the files written, ``present`` those that an earlier run had written;
    ``missing`` is what the manifest lists and nobody delivered, ``unexpected`` the UIDs that
    were delivered though nobody had asked. ``errors`` are all RegistryErrors of the sources,
    warnings included, ``failures`` the calls that brought no answer.
    """

    fetched: tuple[Path, ...]
    present: tuple[Path, ...]
    missing: tuple[MissingInstance, ...]
    unexpected: tuple[str, ...]
    errors: tuple[RegistryError, ...]
    failures: tuple[ConsumerError, ...]
    bytes: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every instance of the manifest is there now."""
        return not self.missing
