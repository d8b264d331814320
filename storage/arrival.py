"""Bytes that arrive while there is no room for them: let pass, and missed when they are needed.

A message is understood only once all of it has come. If a spool failed on the way, its sender
could be told no more than a SOAP fault; so the bytes are let pass, and what was to be kept
raises the error where the transaction reads it and has an answer of its own: for ITI-41
XDSRepositoryOutOfResources (ITI TF-3 4.2.4.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage.contract import Blobs
from storage.errors import StorageError
from storage.spool import FileSpool, SpooledFile


@dataclass(slots=True)
class Lost:
    """A spool that keeps nothing, and the content it hands over: reading it raises ``error``."""

    error: StorageError
    size: int = 0
    sha1: str = ""
    sha256: str = ""

    def write(self, data: bytes) -> None:
        """Let the next bytes pass."""
        self.size += len(data)

    def finish(self) -> Lost:
        """Itself: what tells why there are no bytes."""
        return self

    def chunks(self) -> Iterator[bytes]:
        """Nothing but ``error``."""
        raise self.error

    def abort(self) -> None:
        """Nothing to forget."""

    def discard(self) -> None:
        """Nothing to give up."""


class Arrival:
    """A spool in ``store`` that takes every byte, whether or not it can be kept."""

    def __init__(self, store: Blobs) -> None:
        self._spool: FileSpool | Lost
        try:
            self._spool = store.spool()
        except StorageError as error:
            self._spool = Lost(error)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        try:
            self._spool.write(data)
        except StorageError as error:  # the failed spool has removed its file
            self._spool = Lost(error)

    def finish(self) -> SpooledFile | Lost:
        """The bytes as the store holds them, or what tells why it does not."""
        try:
            return self._spool.finish()
        except StorageError as error:
            return Lost(error)

    def abort(self) -> None:
        """Forget what was written."""
        self._spool.abort()
