"""Keys in a PKCS#11 token, played by SoftHSM: the key that wraps never leaves it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from soap.message import InMemory
from storage.blobs import BlobStore
from storage.contract import Keys
from storage.errors import KeyUnavailable
from storage.keys import WrongKey
from storage.sealed import key_ids
from storage.token import Token, TokenPlace

MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/local/lib/softhsm/libsofthsm2.so")]
Place = Callable[[str], TokenPlace]


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Places in a token of its own; the module is read once for a process, as its settings are."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    module = next((path for path in MODULES if path.exists()), None)
    if module is None:
        pytest.skip("softhsm2 is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    pin = folder / "pin"
    pin.write_text(secrets.token_hex(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        for label in ("kosmos nodes", "another"):
            made = ["softhsm2-util", "--init-token", "--free", "--label", label]
            pins = ["--so-pin", "123456", "--pin", pin.read_text()]
            subprocess.run([*made, *pins], check=True, capture_output=True)
        yield lambda key_id: TokenPlace.of(
            f"pkcs11:token=kosmos%20nodes;object={key_id}?module-path={module}&pin-source={pin}"
        )


def test_documents_are_sealed_by_a_key_that_stays_in_the_token(
    softhsm: Place, tmp_path: Path
) -> None:
    token = Token(softhsm("first"))
    assert token.add_key() == "first"
    store = BlobStore(tmp_path / "blobs", keys=Keys(token))
    blob = store.keep(InMemory(b"CANARY"))
    assert key_ids(blob.header()) == {"first"}
    assert b"CANARY" not in blob.path.read_bytes()
    with ThreadPoolExecutor(4) as pool:  # one session, many threads
        read = list(pool.map(lambda _: b"".join(store.open(blob.sha256).chunks()), range(40)))
    assert set(read) == {b"CANARY"}

    assert Token(softhsm("second")).add_key() == "second"
    rotated = BlobStore(tmp_path / "blobs", keys=Keys(Token(softhsm("second"))))
    assert rotated.rewrap(blob.sha256)
    assert key_ids(rotated.open(blob.sha256).header()) == {"second"}
    assert b"".join(rotated.open(blob.sha256).chunks()) == b"CANARY"


def test_what_a_token_did_not_wrap_it_does_not_unwrap(softhsm: Place) -> None:
    token = Token(softhsm("third"))
    with pytest.raises(KeyUnavailable, match="no key third"):
        token.wrap("third", bytes(32), b"")
    token.add_key()
    wrapped = token.wrap("third", bytes(32), b"context")
    assert token.unwrap("third", wrapped, b"context") == bytes(32)
    for harmed, context in ((wrapped, b"other"), (wrapped[:-1], b"context"), (b"", b"context")):
        with pytest.raises(WrongKey):
            token.unwrap("third", harmed, context)
    assert token.unwrap("third", wrapped, b"context") == bytes(32)


def test_a_token_that_is_not_there_and_a_pin_that_is_wrong_are_told(
    softhsm: Place, tmp_path: Path
) -> None:
    here = softhsm("x")
    with pytest.raises(KeyUnavailable, match="no token elsewhere"):
        Token(TokenPlace("elsewhere", "x", here.module, here.pin_source))
    (tmp_path / "pin").write_text("000000")
    with pytest.raises(KeyUnavailable, match="PinIncorrect") as refused:
        Token(TokenPlace("another", "x", here.module, tmp_path / "pin"))
    assert "000000" not in str(refused.value)
    with pytest.raises(KeyUnavailable, match="the token"):
        Token(TokenPlace(here.token, "x", "/nowhere.so", here.pin_source))


@pytest.mark.parametrize("rest", ["", "token=x?module-path=/l", "token=x;object=k"])
def test_a_uri_says_all_that_is_needed(rest: str) -> None:
    with pytest.raises(ValueError, match="needed"):
        TokenPlace.of(f"pkcs11:{rest}")
