"""``kosmos keys``: new keys, files wrapped by the current one, files sealed that lie as they are.

Beside a node that serves, and again after an interruption: each file is done or not done. What is
not sealed, and is not meant to be, is said by ``at_rest``.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from node.config import PID_FOLDER, Settings
from node.config_file import ConfigError, Problem
from node.holdings import stores
from node.progress import Progress
from node.texts import tr
from node.wiring.identity import FEED_FOLDER
from node.wiring.keys import SEALED_BY, keeper_of, note, open_keys, used
from node.wiring.pictures import FOLDER as TRANSCODED
from storage.contract import Blobs, Keys, StoredBlob
from storage.errors import BlobCorrupt, BlobMissing
from storage.keys import add_key
from storage.sealed import SUFFIX, Seal, rewrap
from storage.token import Token


@dataclass(slots=True)
class Changed:
    """How many of ``files`` were changed; those that are ``damaged`` were left alone.

    ``retired`` are the ids of keys that nothing is sealed by any more.
    """

    files: int = 0
    changed: int = 0
    damaged: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)


def new_key(settings: Settings) -> str:
    """Make a key, in the file or the token that is configured; its id.

    In a file it is current from then on. Raises ConfigError, StorageError and OSError.
    """
    place = settings.at_rest.keys
    if place is None:
        text = tr("name a file or a token to keep the keys in")
        raise ConfigError([Problem("kosmos.toml", "at_rest.keys", text)])
    folder = settings.node.data_dir / SEALED_BY
    if isinstance(place, Path):
        key_id = add_key(place)
        note(keeper_of(str(place)), folder)
        return key_id
    token = keeper_of(place)
    assert isinstance(token, Token)  # by its scheme
    return token.add_key()


def seal(settings: Settings, progress: Progress) -> Changed:
    """Seal every file that lies as it is. Raises ConfigError, StorageError and OSError."""
    keys = _keys(settings)
    if not keys.sealing:
        text = tr("is false: what arrives would lie as it is")
        raise ConfigError([Problem("kosmos.toml", "at_rest.enabled", text)])
    done = Changed()
    with _alone(settings):
        for blobs, blob in _stored(settings, progress):
            _change(done, blob, None if blob.sealed else blobs.seal)
        for made in (settings.node.data_dir / TRANSCODED).glob("*"):
            if made.suffix not in (SUFFIX, ".part"):  # is made again when it is asked for
                made.unlink(missing_ok=True)
    return done


def rotate(settings: Settings, progress: Progress) -> Changed:
    """Wrap the key of every sealed file by the current key; note which keys are needed no more.

    Raises ConfigError, StorageError and OSError.
    """
    keys, done = _keys(settings), Changed()
    with _alone(settings):
        while _rotate(settings, keys, done, progress):
            pass  # again, for files that arrived meanwhile under another key
        folder = settings.node.data_dir / SEALED_BY
        if not done.damaged:
            done.retired = sorted(set(used(folder)) - {keys.keeper.current})
        note(keys.keeper, folder)
        for key_id in done.retired:
            (folder / key_id).unlink()
    return done


def at_rest(settings: Settings) -> str:
    """What of the node's data lies encrypted, and what does not. Raises ConfigError, StorageError.

    Whoever reads ``check`` is told of a file that lies as it is, if there is one.
    """
    keys = open_keys(settings)
    if keys is None or not keys.sealing:
        return tr("off: documents and images lie unencrypted")
    rest = tr("databases, audit trail and imports put aside lie unencrypted: encrypt their disk")
    for store in stores(settings):
        if any(not blob.sealed for blob in store.open().inventory()):
            told = tr("some {files} lie unencrypted: `kosmos keys seal`", files=store.title())
            rest = f"{told}; {rest}"
    return f"{tr('sealed by the key {key}', key=keys.keeper.current)}; {rest}"


def _rotate(settings: Settings, keys: Keys, done: Changed, progress: Progress) -> int:
    """One look at every file; how many were changed."""
    before, done.files, done.damaged = done.changed, 0, []
    for blobs, blob in _stored(settings, progress):
        _change(done, blob, blobs.rewrap if blob.sealed else None)
    for folder in (TRANSCODED, FEED_FOLDER):
        for file in (settings.node.data_dir / folder).glob(f"*{SUFFIX}"):
            with suppress(BlobCorrupt, BlobMissing, FileNotFoundError):  # gone, or of no use
                done.changed += rewrap(file, Seal(keys.keeper, file.name.removesuffix(SUFFIX)))
    return done.changed - before


def _change(done: Changed, blob: StoredBlob, change: Callable[[str], bool] | None) -> None:
    done.files += 1
    try:
        done.changed += change is not None and change(blob.sha256)
    except BlobMissing:
        return  # removed meanwhile
    except BlobCorrupt:
        done.damaged.append(blob.sha256)


def _stored(settings: Settings, progress: Progress) -> Iterator[tuple[Blobs, StoredBlob]]:
    """Every file of every store of the node."""
    for store in stores(settings):
        blobs = store.open()
        with progress(store.title(), 0) as step:
            for blob in blobs.inventory():
                yield blobs, blob
                step()


def _keys(settings: Settings) -> Keys:
    keys = open_keys(settings)
    if keys is None:
        text = tr("name a file or a token to keep the keys in")
        raise ConfigError([Problem("kosmos.toml", "at_rest.keys", text)])
    return keys


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One such command at a time; the second one waits."""
    folder = settings.node.data_dir / PID_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
