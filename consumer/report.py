"""What came of fetching a study: told while it goes on, and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from consumer.errors import ConsumerError
from metadata.catalogue import RegistryError


class Fault(StrEnum):
    """Why an instance of a manifest is not there: how the source failed, or lied."""

    INVALID_UID = "invalid-uid"
    LISTED_TWICE = "listed-twice"
    NO_ADDRESS = "no-address"
    NO_ANSWER = "no-answer"
    REFUSED = "refused"
    NOT_SENT = "not-sent"
    REDIRECTED = "redirected"
    BROKEN_ANSWER = "broken-answer"
    NOT_DICOM = "not-dicom"
    TRUNCATED = "truncated"
    WRONG_INSTANCE = "wrong-instance"
    WRONG_CLASS = "wrong-class"
    WRONG_STUDY = "wrong-study"
    WRONG_SERIES = "wrong-series"
    WRONG_SYNTAX = "wrong-transfer-syntax"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    NOT_WRITTEN = "not-written"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far fetching has come: instances received of those to fetch, bytes, seconds."""

    instances: int
    total: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FetchedInstance:
    """An instance that is in its place now, compared with the manifest; ``way`` brought it."""

    path: Path
    series_instance_uid: str
    sop_instance_uid: str
    size: int
    way: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What one way came to with one instance; ``error`` is the source's own word, if any."""

    way: str
    fault: Fault
    reason: str
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class MissingInstance:
    """An instance of the manifest that could not be had, and why.

    ``fault`` and ``error`` are of the last way that was tried, ``attempts`` of each; ``error``
    is the source's own word on it, if it gave one.
    """

    series_instance_uid: str
    sop_instance_uid: str
    reason: str
    error: RegistryError | None = None
    fault: Fault = Fault.NOT_SENT
    attempts: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What came of fetching the images of one manifest.

    ``fetched`` are the files written, ``present`` those that an earlier run had written;
    ``missing`` is what the manifest lists and nobody delivered, ``unexpected`` the UIDs that
    were delivered though nobody had asked. ``errors`` are all RegistryErrors of the sources,
    warnings included, ``failures`` the calls that brought no answer. ``ways`` counts what
    each way brought.
    """

    fetched: tuple[Path, ...]
    present: tuple[Path, ...]
    missing: tuple[MissingInstance, ...]
    unexpected: tuple[str, ...]
    errors: tuple[RegistryError, ...]
    failures: tuple[ConsumerError, ...]
    bytes: int
    seconds: float
    ways: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every instance of the manifest is there now."""
        return not self.missing


class Incomplete(ConsumerError):
    """Instances were yielded, and others could not be had; ``report`` says which and why."""

    def __init__(self, report: FetchReport) -> None:
        self.report = report
        super().__init__(f"{len(report.missing)} instances of the manifest could not be had")
