"""The keys by which a node seals at rest, and what proves that they are the right ones.

For each key that something may be sealed by, a file in the data folder has a known text wrapped by
it: a start with another key, or with none, is refused before a document is found unreadable. These
files are part of a backup, keys never are.
"""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from node.config import Settings
from node.config_file import ConfigError, Problem
from node.texts import tr
from storage.contract import Keys
from storage.errors import KeyUnavailable
from storage.folders import sync_folder
from storage.keys import KEY_BYTES, Keeper, KeyFile, WrongKey
from storage.token import Token, TokenPlace

# Below the data folder.
SEALED_BY = "sealed-by"

# <linux/prctl.h>
_SET_DUMPABLE = 4

_KNOWN = bytes(KEY_BYTES)
_CONTEXT = b"kosmos key proof"


def open_keys(settings: Settings) -> Keys | None:
    """The keys of the node; None where nothing is sealed, nor ever was.

    Raises ConfigError naming what is missing or wrong, and its remedy.
    """
    section, folder = settings.at_rest, settings.node.data_dir / SEALED_BY
    if section.keys is None:
        if needed := sorted(used(folder)):
            text = tr("files are sealed by the key {key}: name the keys", key=needed[0])
            raise ConfigError([Problem("kosmos.toml", "at_rest.keys", text)])
        return None
    return _opened(str(section.keys), section.enabled, folder)


def keeper_of(place: str) -> Keeper:
    """The keys in a file, or in a token. Raises ConfigError."""
    try:
        if place.startswith("pkcs11:"):
            return Token(TokenPlace.of(place))
        return KeyFile(Path(place))
    except (KeyUnavailable, ValueError) as error:
        raise _refusal(str(error)) from None


def used(folder: Path) -> Iterator[str]:
    """The ids of the keys that files may be sealed by."""
    if folder.exists():
        yield from (name for name in os.listdir(folder) if not name.endswith(".part"))


def note(keeper: Keeper, folder: Path) -> None:
    """Note, durably, that files may be sealed by the current key. Raises ConfigError, OSError."""
    key_id = keeper.current
    if (folder / key_id).exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    arriving = folder / f"{secrets.token_hex(8)}.part"
    try:
        proof = keeper.wrap(key_id, _KNOWN, _CONTEXT)
    except KeyUnavailable as error:
        raise _refusal(str(error)) from None
    with arriving.open("xb") as file:
        file.write(proof)
        file.flush()
        os.fsync(file.fileno())
    os.replace(arriving, folder / key_id)
    sync_folder(folder)
    sync_folder(folder.parent)


@cache  # a session with a token is for a process, not for a store
def _opened(place: str, sealing: bool, folder: Path) -> Keys:
    keeper = keeper_of(place)
    for key_id in used(folder):
        try:
            keeper.unwrap(key_id, (folder / key_id).read_bytes(), _CONTEXT)
        except WrongKey:
            text = tr("the key {key} is not the one that files are sealed by", key=key_id)
            raise _refusal(text) from None
        except KeyUnavailable as error:
            raise _refusal(tr("files are sealed by it: {reason}", reason=error)) from None
    if sealing:
        note(keeper, folder)
    _leave_no_core()
    return Keys(keeper, sealing)


def _leave_no_core() -> None:
    """Nothing of this process's memory, where keys are, is written to a disk when it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):  # Linux alone; for cores that go to a program, too
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0)


def _refusal(text: str) -> ConfigError:
    return ConfigError([Problem("kosmos.toml", "at_rest.keys", text)])
