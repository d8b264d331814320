"""The chain that ties a trail together, and the signature under its heads.

Each link is SHA-256 over the link before, the record's number and its bytes: nothing can be
altered, taken out, put in or moved without breaking all links behind it. Who makes them all anew
cannot sign the heads (Ed25519); heads are also written to the log, which is kept elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

_PRIVATE, _PUBLIC = "key.pem", "key.pub"
# What tells the signature of a beginning from that of a head.
_BEGINNING = b" is where it begins"


def genesis(source: str) -> bytes:
    """The link before the first record of the trail that ``source`` names: trails cannot be
    exchanged for one another."""
    return hashlib.sha256(b"audit trail of " + source.encode()).digest()


def link(before: bytes, number: int, message: bytes) -> bytes:
    """The link of record ``number``."""
    return hashlib.sha256(before + number.to_bytes(8, "big") + message).digest()


def make_key(folder: Path) -> None:
    """Make the node's key for heads in ``folder``, unless it is there; idempotent.

    The public half lies beside it, to be given to whoever verifies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / _PRIVATE).exists():
        return
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / _PUBLIC).write_bytes(public)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Moved into place when it is whole: a crash leaves no half key.
    fresh = folder / f"{_PRIVATE}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(folder / _PRIVATE)


class Signer:
    """Signs heads with the key of ``folder``. Raises OSError or ValueError without one."""

    def __init__(self, folder: Path) -> None:
        key = load_pem_private_key((folder / _PRIVATE).read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{folder / _PRIVATE} is not an Ed25519 key")
        self._key = key

    def sign(self, source: str, number: int, chain: bytes) -> bytes:
        """The signature of the head of trail ``source`` at a record."""
        return self._key.sign(_signed(source, number, chain))

    def sign_beginning(self, source: str, number: int, chain: bytes) -> bytes:
        """The signature that trail ``source`` begins behind a record: those before have left."""
        return self._key.sign(_signed(source, number, chain) + _BEGINNING)


class Verifier:
    """Knows true heads from false ones. Raises OSError or ValueError without a key."""

    def __init__(self, public_key: Path) -> None:
        key = load_pem_public_key(public_key.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{public_key} is not an Ed25519 key")
        self._key = key

    @classmethod
    def of(cls, folder: Path) -> Verifier:
        """With the public key in ``folder``."""
        return cls(folder / _PUBLIC)

    def is_true(self, source: str, number: int, chain: bytes, signature: bytes) -> bool:
        """Whether the node's key signed this head."""
        return self._has_signed(_signed(source, number, chain), signature)

    def is_beginning(self, source: str, number: int, chain: bytes, signature: bytes) -> bool:
        """Whether the node's key signed that the trail begins behind this record."""
        return self._has_signed(_signed(source, number, chain) + _BEGINNING, signature)

    def _has_signed(self, text: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, text)
        except InvalidSignature:
            return False
        return True


def _signed(source: str, number: int, chain: bytes) -> bytes:
    return genesis(source) + number.to_bytes(8, "big") + chain
