"""Messages handed from one process to another by way of a folder, durable and in order.

One file each: synced, then moved into place, then the folder is synced, so that what was put is
taken after any crash. They are taken in the order in which they were put, and removed once the
taker has done with them: at least once. With keys they wait sealed (``storage.sealed``), each under
its name. It knows nothing of what the messages say.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from storage.contract import Keys
from storage.errors import KeyUnavailable, from_os_error
from storage.folders import sync_folder
from storage.sealed import SUFFIX, Seal, is_sealed, sealed, unsealed
from storage.space import LowWaterMark

_ARRIVING = ".part"


class Inbox:
    """The messages in ``folder``, which is made on first use; any number of processes may put."""

    def __init__(
        self, folder: Path, keys: Keys | None = None, low_water: LowWaterMark | None = None
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._low_water = low_water or LowWaterMark()

    def put(self, message: bytes) -> None:
        """Keep a message, durable when this returns; OutOfSpace or BlobStoreUnavailable if not."""
        # Twenty digits sort as text until the year 5138; the rest tells messages of one moment.
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        if self._keys is not None and self._keys.sealing:
            message = sealed(message, Seal(self._keys.keeper, name))
            name += SUFFIX
        arriving = self._folder / f"{name}{_ARRIVING}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._low_water.check(self._folder)
            _write(arriving, message)
            os.rename(arriving, self._folder / name)
            sync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                arriving.unlink(missing_ok=True)
            raise from_os_error(error, "keeping a message") from error

    def waiting(self) -> Iterator[tuple[Path, bytes]]:
        """Every message that waits, the oldest first, under the name to be given to ``remove``."""
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return
        for name in names:
            if not name.endswith(_ARRIVING):
                path = self._folder / name
                yield path, self._read(path)

    def remove(self, path: Path) -> None:
        """Forget a message that has had its effect."""
        path.unlink(missing_ok=True)

    def _read(self, path: Path) -> bytes:
        if not is_sealed(path):
            return path.read_bytes()
        if self._keys is None:
            raise KeyUnavailable("a message is sealed, and at_rest.keys names no keys")
        seal = Seal(self._keys.keeper, path.name.removesuffix(SUFFIX))
        return b"".join(unsealed([path.read_bytes()], seal))


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
