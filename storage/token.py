"""Keys in a PKCS#11 token (a hardware security module, or SoftHSM): they never leave it.

The place is a URI of RFC 7512::

    pkcs11:token=NAME;object=KEY?module-path=/LIB.so&pin-source=/FILE

``object`` is the label of the current key; other keys are found by the label that stands in the
files they wrap. Needs the extra ``pkcs11`` (python-pkcs11), and a token that does AES-GCM under a
nonce given to it (CKM_AES_GCM).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from storage.errors import KeyUnavailable
from storage.keys import ID, KEY_BYTES, NONCE_BYTES, WrongKey, new_id

SCHEME = "pkcs11:"


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where a token is, and which of its keys is current."""

    token: str
    key_id: str
    module: str
    pin_source: Path | None

    @classmethod
    def of(cls, uri: str) -> TokenPlace:
        """The place that a URI names. Raises ValueError telling what it lacks."""
        path, _, query = uri.removeprefix(SCHEME).partition("?")
        named = dict(part.partition("=")[::2] for part in path.split(";") if part)
        asked = dict(parse_qsl(query))
        token, key_id = unquote(named.get("token", "")), unquote(named.get("object", ""))
        if not token or not ID.fullmatch(key_id) or not asked.get("module-path"):
            raise ValueError("token, object and module-path are needed")
        pin = asked.get("pin-source", "").removeprefix("file:")
        return cls(token, key_id, asked["module-path"], Path(pin) if pin else None)


class Token:
    """The keys of a token, as a ``storage.keys.Keeper``.

    Opened by the process that uses it: a session does not outlive a fork.
    """

    def __init__(self, place: TokenPlace) -> None:
        """Open a session and find the current key. Raises KeyUnavailable."""
        self._place = place
        self._lock = threading.Lock()  # a session does one thing at a time
        self._keys: dict[str, Any] = {}
        self._session = _session(place)
        self.current = place.key_id

    def wrap(self, key_id: str, data_key: bytes, context: bytes) -> bytes:
        """See ``Keeper``."""
        nonce = os.urandom(NONCE_BYTES)
        with self._lock, _told():
            key = self._key(key_id)
            return nonce + bytes(key.encrypt(data_key, **_gcm(nonce, context)))

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """See ``Keeper``."""
        from pkcs11 import exceptions

        with self._lock, _told():
            key = self._key(key_id)
            nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
            try:
                data_key = bytes(key.decrypt(sealed, **_gcm(nonce, context)))
            except (  # tokens differ in what they call a tag that is not the right one
                exceptions.EncryptedDataInvalid,
                exceptions.EncryptedDataLenRange,
                exceptions.DataInvalid,
                exceptions.GeneralError,
            ):
                raise WrongKey(f"the key {key_id} of the token did not wrap this") from None
            if len(data_key) != KEY_BYTES:
                raise WrongKey(f"the key {key_id} of the token did not wrap this")
            return data_key

    def add_key(self) -> str:
        """Make a new key in the token, which cannot be taken out of it; its id."""
        from pkcs11 import Attribute, KeyType

        key_id = self._place.key_id if not self._holds(self._place.key_id) else new_id()
        template = {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True}
        with self._lock, _told():
            self._session.generate_key(
                KeyType.AES, KEY_BYTES * 8, label=key_id, store=True, template=template
            )
        return key_id

    def _holds(self, key_id: str) -> bool:
        try:
            with self._lock, _told():
                self._key(key_id)
        except KeyUnavailable:
            return False
        return True

    def _key(self, key_id: str) -> Any:
        from pkcs11 import KeyType, ObjectClass, exceptions

        if key_id not in self._keys:
            try:
                self._keys[key_id] = self._session.get_key(
                    object_class=ObjectClass.SECRET_KEY, key_type=KeyType.AES, label=key_id
                )
            except (exceptions.NoSuchKey, exceptions.MultipleObjectsReturned):
                raise KeyUnavailable(f"no key {key_id} in the token {self._place.token}") from None
        return self._keys[key_id]


def _session(place: TokenPlace) -> Any:
    try:
        import pkcs11
    except ImportError:
        raise KeyUnavailable("a token needs: pip install 'kosmos-xds[pkcs11]'") from None
    try:
        pin = place.pin_source.read_text().rstrip("\n") if place.pin_source else None
    except OSError as error:
        raise KeyUnavailable(f"{place.pin_source}: {error.strerror}") from None
    with _told():
        try:
            token = pkcs11.lib(place.module).get_token(token_label=place.token)
        except pkcs11.exceptions.NoSuchToken:
            raise KeyUnavailable(f"no token {place.token} by {place.module}") from None
        try:
            return token.open(rw=True, user_pin=pin)
        except pkcs11.exceptions.UserAlreadyLoggedIn:  # by another session of this process
            return token.open(rw=True)


def _gcm(nonce: bytes, context: bytes) -> dict[str, Any]:
    from pkcs11 import GCMParams, Mechanism

    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": GCMParams(nonce, context, 128)}


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the token as KeyUnavailable; their texts hold no secret, for they have none."""
    from pkcs11.exceptions import PKCS11Error

    try:
        yield
    except PKCS11Error as error:
        raise KeyUnavailable(f"the token: {type(error).__name__}") from None
    except RuntimeError as error:  # a library that cannot be loaded
        raise KeyUnavailable(f"the token: {error}") from None
