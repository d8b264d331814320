"""The keys that seal at rest: they wrap the key of each file, and never leave their keeper.

A ``Keeper`` has several keys, each known by an id that stands in the files it wraps; one of them
is current and wraps what is new. ``KeyFile`` keeps them in a file of this machine,
``storage.token`` in a PKCS#11 token. What is wrapped is bound to a context, so that it opens
nothing but the file that it was made for.

A key wraps at most 2**32 files, the bound of AES-GCM under random nonces (NIST SP 800-38D 8.3);
``rotate`` long before.
"""

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import KeyUnavailable
from storage.folders import sync_folder

KEY_BYTES = 32
NONCE_BYTES = 12

# What an id may be: it stands in every file, and as the label of a key in a token.
ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Keeper(Protocol):
    """Who wraps data keys; safe for many threads."""

    @property
    def current(self) -> str:
        """The id of the key that wraps what is new."""

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes:
        """The data key, wrapped by the key of this id. Raises KeyUnavailable."""

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """The data key that was wrapped by the key of this id, for this context.

        Raises KeyUnavailable where there is no such key, WrongKey where it is another one, or what
        is wrapped was damaged or made for something else.
        """


class WrongKey(KeyUnavailable):
    """A key is here under the id, and does not open what was wrapped."""


def new_id() -> str:
    """An id for a new key: the time, and four digits to tell keys of one second apart."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """The keeper of one file, whose data key was handed to this process."""

    data_key: bytes = field(repr=False)
    current: str = ""

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes:
        """Nothing: who was handed a data key wraps none."""
        raise KeyUnavailable("no key to wrap with")

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """The data key."""
        return self.data_key


class KeyFile:
    """Keys in a file: one a line, its id and its 32 bytes in Base64; the last one is current.

    A file that has changed is read again: a new key comes into force without a restart.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises KeyUnavailable naming what is wrong with it, never a key."""
        self.path = path
        self._version: tuple[int, int] | None = None
        self._keys: dict[str, AESGCM] = {}
        self._refresh()

    @property
    def current(self) -> str:
        """See ``Keeper``."""
        return list(self._refresh())[-1]

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes:
        """See ``Keeper``."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._keys[key_id].encrypt(nonce, data_key, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """See ``Keeper``."""
        key = self._keys.get(key_id) or self._refresh().get(key_id)
        if key is None:
            raise KeyUnavailable(f"no key {key_id} in {self.path}")
        try:
            return key.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise WrongKey(f"the key {key_id} in {self.path} is not the one that wrapped") from None

    def _refresh(self) -> dict[str, AESGCM]:
        """The keys in the file. While it cannot be read those of before stay in force."""
        try:
            state = self.path.stat()
            if (state.st_mtime_ns, state.st_ino) != self._version:
                self._keys = {one: AESGCM(key) for one, key in _read(self.path).items()}
                self._version = state.st_mtime_ns, state.st_ino
        except OSError as error:
            if not self._keys:
                raise _unread(self.path, error) from None
        except KeyUnavailable:
            if not self._keys:
                raise
        return self._keys


def add_key(path: Path) -> str:
    """Add a new key, current from now on, to the file, which is made if there is none; its id.

    The file is whole at any time, and no key of it is ever lost: a new one takes its place, one
    caller at a time. Raises KeyUnavailable and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        lines = path.read_bytes() if path.exists() and _read(path) else b""
        key_id = new_id()
        key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
        before = lines + b"\n" if lines and not lines.endswith(b"\n") else lines
        _replace(path, before + f"{key_id} {key}\n".encode())
    finally:
        os.close(descriptor)
    return key_id


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def _read(path: Path) -> dict[str, bytes]:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyUnavailable(f"{path} may be read by others: chmod 600 {path}")
            lines = file.read().split(b"\n")
    except OSError as error:
        raise _unread(path, error) from None
    keys = dict(_key(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not keys:
        raise KeyUnavailable(f"{path} has no key: `kosmos keys new` makes one")
    return keys


def _unread(path: Path, error: OSError) -> KeyUnavailable:
    remedy = ": `kosmos keys new` makes one" if error.errno == errno.ENOENT else ""
    return KeyUnavailable(f"{path}: {error.strerror}{remedy}")


def _key(path: Path, number: int, line: bytes) -> tuple[str, bytes]:
    key_id, _, text = line.decode("ascii", "replace").strip().partition(" ")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not ID.fullmatch(key_id) or len(key) != KEY_BYTES:
        raise KeyUnavailable(f"{path}, line {number}: not an id and {KEY_BYTES} bytes in Base64")
    return key_id, key
