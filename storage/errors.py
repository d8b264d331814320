"""What can go wrong below the actors, as they need to tell it apart.

::

    StorageError
     +- OutOfSpace            no room for more: refuse new work, reads go on
     +- BlobMissing           no blob has this address
     +- BlobCorrupt           the bytes on disk are not those of the address
     +- KeyUnavailable        what is sealed at rest cannot be opened: its key is not here
     +- BlobStoreBusy         the object store does not answer or is overloaded, or too many files
     |                        are open: try again later
     +- BlobStoreUnavailable  the file system or the object store failed: nothing was kept
     +- DatabaseBusy          try again later: queue full, lock or pool not had in time
     +- DatabaseUnavailable   the database cannot be reached, opened or trusted
         +- DatabaseLocked    another process is the one writer of this SQLite file

Errors of the data itself (a broken constraint, a wrong statement) are not translated:
they reach the caller as SQLAlchemy raised them.
"""

from __future__ import annotations

import errno


class StorageError(Exception):
    """Base of every error of this room."""


class OutOfSpace(StorageError):
    """The disk, a quota or a file-size limit leaves no room; nothing was stored."""


class BlobMissing(StorageError):
    """No blob has this address."""


class BlobCorrupt(StorageError):
    """A blob's bytes no longer have the SHA-256 that is their address."""


class KeyUnavailable(StorageError):
    """A key that seals at rest is not here, is another one, or its token does not answer."""


class BlobStoreBusy(StorageError):
    """The store of blobs cannot be reached or asks for patience, or no more files can be opened
    now; try again later."""


class BlobStoreUnavailable(StorageError):
    """The store of blobs failed, refuses us or stopped writing; nothing was kept."""


class DatabaseBusy(StorageError):
    """The work was not done and can be tried again."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached or opened, or failed with the outcome unknown."""


class DatabaseLocked(DatabaseUnavailable):
    """Another process already writes this SQLite file."""


# No space left, quota used up, file larger than the process may write (RLIMIT_FSIZE).
_SPACE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Too many files are open, in this process or on this machine: others will be closed.
_PASSING_ERRORS = frozenset({errno.EMFILE, errno.ENFILE})


def from_os_error(error: OSError, doing: str) -> StorageError:
    """The StorageError for an operating-system error met while ``doing`` something."""
    text = f"{doing}: {error.strerror or error}"
    if error.errno in _SPACE_ERRORS:
        return OutOfSpace(text)
    return BlobStoreBusy(text) if error.errno in _PASSING_ERRORS else BlobStoreUnavailable(text)
