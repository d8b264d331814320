"""Who is let in and who is not, by certificate, version and suite, at all four listeners (ITI-19):
by Python's TLS, and by the command of OpenSSL.
"""

from __future__ import annotations

import re
import shutil
import ssl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from security.pki import Identity, issue, write_crl
from security.tls import client_context, server_context
from tests.security.conftest import HOSTS
from tests.security.listeners import PATIENCE_SECONDS, PROTOCOLS, Door, Listeners, Terms
from tests.security.test_revocation import certificate, made
from tests.security.test_tls import MANDATORY
from tests.system.foreign import run

# Why a listener says that it has refused somebody, in OpenSSL's words or ours.
REFUSED = {
    "none": "CERTIFICATE",
    "stranger": "certificate",
    "expired": "has expired",
    "revoked": "revoked by",
    "old": "UNSUPPORTED_PROTOCOL",
}


@dataclass(frozen=True, slots=True)
class Region:
    """Who may or may not connect to a node, and what the node trusts."""

    identities: dict[str, Identity]
    trust: Path
    crl: Path

    def listening(self) -> ssl.SSLContext:
        """The context of the node's listeners."""
        node = self.identities["node"]
        return server_context(node.certificate, node.key, self.trust, crl=self.crl)

    def calling(self, who: str) -> ssl.SSLContext:
        """The context of ``who``: an identity, nobody ("none"), or one of old ("old")."""
        if who in self.identities:
            one = self.identities[who]
            return client_context(one.certificate, one.key, self.trust)
        if who == "none":
            return ssl.create_default_context(cafile=self.identities["authority"].certificate)
        return _of_old(self.calling("node"))


def _of_old(context: ssl.SSLContext) -> ssl.SSLContext:
    """``context`` for TLS 1.1 alone; without the security level, it would not be offered."""
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.fixture(scope="module")
def region(pki: dict[str, Identity], tmp_path_factory: pytest.TempPathFactory) -> Region:
    """Authority, node and stranger of all tests, and who is particular to these."""
    folder = tmp_path_factory.mktemp("region")
    authority = Identity(folder / "ca.pem", folder / "ca.key")
    shutil.copy(pki["authority"].certificate, authority.certificate)
    shutil.copy(pki["authority"].key, authority.key)
    identities = {
        **pki,
        "expired": issue(folder, authority, "expired", HOSTS, timedelta(minutes=-1)),
        "revoked": issue(folder, authority, "revoked", HOSTS),
        "direct": made(folder, "direct", None),
    }
    trust = folder / "trust"
    trust.mkdir()
    shutil.copy(authority.certificate, trust)
    shutil.copy(identities["direct"].certificate, trust)
    crl = write_crl(authority, [certificate(identities["revoked"].certificate)])
    return Region(identities, trust, crl)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A listener, and what it has said of those whom it refused."""

    door: Door
    said: SimpleQueue[tuple[str, str]]

    def awaited(self) -> str:
        """What it says of the next one, who may know of it first."""
        address, reason = self.said.get(timeout=PATIENCE_SECONDS)
        assert address == "127.0.0.1"
        return reason


@pytest.fixture(scope="module", params=PROTOCOLS)
def opened(
    request: pytest.FixtureRequest, region: Region, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    said: SimpleQueue[tuple[str, str]] = SimpleQueue()
    terms = Terms(refused=lambda address, reason: said.put((address, reason)))
    with ExitStack() as stack:
        listeners = Listeners(stack, tmp_path_factory.mktemp(request.param))
        yield Guarded(listeners.open(request.param, region.listening(), terms), said)


@pytest.fixture
def guarded(opened: Guarded) -> Guarded:
    while not opened.said.empty():
        opened.said.get()
    return opened


@pytest.mark.parametrize("suite", [*MANDATORY, "TLS 1.3"])
def test_every_suite_of_iti_19_is_spoken(guarded: Guarded, region: Region, suite: str) -> None:
    context = region.calling("node")
    if suite == "TLS 1.3":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
    assert guarded.door.serves(context)


def test_a_certificate_that_is_trusted_by_itself_is_let_in(
    guarded: Guarded, region: Region
) -> None:
    assert guarded.door.serves(region.calling("direct"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", ["none", "stranger", "expired", "revoked"])
def test_who_cannot_be_trusted_is_refused_and_the_node_says_why(
    guarded: Guarded, region: Region, who: str, version: ssl.TLSVersion
) -> None:
    context = region.calling(who)
    context.minimum_version = context.maximum_version = version
    assert not guarded.door.serves(context)
    assert REFUSED[who] in guarded.awaited()


def test_tls_1_1_is_refused(guarded: Guarded, region: Region) -> None:
    assert not guarded.door.serves(region.calling("old"))
    assert REFUSED["old"] in guarded.awaited()


def openssl(region: Region, door: Door, who: str, *more: str | Path) -> str:
    """What ``openssl s_client`` tells of a handshake."""
    trust = region.identities["authority"].certificate
    shown: list[str | Path] = []
    if who in region.identities:
        one = region.identities[who]
        shown = ["-cert", one.certificate, "-key", one.key]
    where = ("-connect", f"127.0.0.1:{door.port}", "-CAfile", trust)
    return run("openssl", "s_client", *where, *shown, *more, send="").stdout


@pytest.mark.parametrize("who", ["none", "stranger", "expired", "node"])
def test_the_command_of_openssl_is_told_the_same(
    guarded: Guarded, region: Region, who: str
) -> None:
    """By TLS 1.2, where the refusal comes within the handshake."""
    suite = MANDATORY[0]
    told = openssl(region, guarded.door, who, "-tls1_2", "-cipher", suite)
    if who == "node":
        assert f"Cipher is {suite}" in told
        assert "Verify return code: 0 (ok)" in told
    else:
        assert re.search(r":error:|errno=", told)
        assert REFUSED[who] in guarded.awaited()
