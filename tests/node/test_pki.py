"""``kosmos pki``: certificates of nodes, by the authority of ``kosmos init``."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from node.config import Settings
from node.config_file import load
from node.init import NewNode, create
from node.wiring.common import server_tls
from node.wiring.nodes import NodeGuard, Refusals, watch_tls
from security.nodes import Nodes
from security.tls import client_context
from tests.security.listeners import Listeners, Terms
from tests.security.test_tls import converse

Kosmos = Callable[..., subprocess.CompletedProcess[str]]
# What comes out of ``--json``, or the words of a refusal.
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secure node, which is made once: its keys take a second."""
    return create(NewNode(tmp_path_factory.mktemp("pki") / "node", port_base=0))


@pytest.fixture
def settings(made: Path, tmp_path: Path) -> Settings:
    """A copy of it that a test may change."""
    return load(shutil.copytree(made.parent, tmp_path / "node") / made.name)


@pytest.fixture
def pki(settings: Settings) -> Path:
    return settings.tls.trust.parent


@pytest.fixture
def run(kosmos: Kosmos, pki: Path) -> Run:
    def ran(*arguments: object) -> Any:
        config = pki.parent / "kosmos.toml"
        done = kosmos("pki", *arguments, "--json", "--config", config)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    return ran


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def talks(settings: Settings, server: ssl.SSLContext, who: Path) -> bool:
    """Whether a listener talks to who has this certificate."""
    client = client_context(who, who.with_suffix(".key"), settings.tls.trust)
    try:
        return bool(converse(server, client))
    except (ssl.SSLError, ConnectionError):
        return False


def test_a_node_that_was_issued_a_certificate_connects(
    run: Run, settings: Settings, pki: Path
) -> None:
    told = run("issue", "pacs", "--host", "pacs.example", "--host", "10.0.0.7", "--days", "90")
    assert told == {"certificate": str(pki / "pacs.pem"), "key": str(pki / "pacs.key")}
    assert (pki / "pacs.key").stat().st_mode & 0o777 == 0o600
    one = certificate(pki / "pacs.pem")
    assert (one.not_valid_after_utc - one.not_valid_before_utc).days == 90
    server = server_tls(settings, "http")
    assert server is not None
    assert talks(settings, server, pki / "pacs.pem")
    [seen] = [one for one in run("show")["issued"] if one["name"] == "pacs"]
    assert seen["hosts"] == ["pacs.example", "10.0.0.7"]
    assert (seen["days"], seen["revoked"]) == (89, False)


def test_files_may_lie_elsewhere_and_are_known_all_the_same(run: Run, tmp_path: Path) -> None:
    run("issue", "viewer", "--out", tmp_path / "for" / "viewer")
    assert (tmp_path / "for" / "viewer" / "viewer.key").stat().st_mode & 0o777 == 0o600
    shutil.rmtree(tmp_path / "for")
    [revoked] = run("revoke", "viewer")["revoked"]
    assert revoked["name"] == "viewer"
    assert revoked["hosts"] == []


def test_a_revoked_node_is_refused_without_a_restart(
    run: Run, settings: Settings, pki: Path, tmp_path: Path
) -> None:
    """By a listener that serves, once it has looked at its files; others are served on."""
    run("issue", "lost")
    run("issue", "kept")
    guard = NodeGuard(Nodes(), Refusals(None))
    server = server_tls(settings, "mllp")
    [watch] = watch_tls(settings, guard)
    (tmp_path / "listener").mkdir()

    def calling(who: str) -> ssl.SSLContext:
        return client_context(pki / f"{who}.pem", pki / f"{who}.key", settings.tls.trust)

    with ExitStack() as stack:
        door = Listeners(stack, tmp_path / "listener").open("mllp", server, Terms())
        assert door.serves(calling("lost"))
        run("revoke", "lost")
        watch.tell()
        watch.look()
        assert not door.serves(calling("lost"))
        assert door.serves(calling("kept"))


def test_revoked_twice_is_revoked_once(run: Run, pki: Path) -> None:
    run("issue", "lost")
    serial = f"{certificate(pki / 'lost.pem').serial_number:x}"
    assert [one["serial"] for one in run("revoke", serial)["revoked"]] == [serial]
    assert run("revoke", pki / "lost.pem")["revoked"] == []
    assert len(list(x509.load_pem_x509_crl((pki / "crl.pem").read_bytes()))) == 1
    [seen] = [one for one in run("show")["issued"] if one["name"] == "lost"]
    assert seen["revoked"]


def test_a_name_means_all_that_was_issued_to_it(run: Run, pki: Path) -> None:
    run("issue", "lost")
    run("renew", pki / "lost.pem")
    assert len(run("revoke", "lost")["revoked"]) == 2


@pytest.mark.parametrize("more", [[], ["--new-key"]])
def test_a_renewed_certificate_has_the_same_names(
    run: Run, settings: Settings, pki: Path, more: list[str]
) -> None:
    file = pki / "node.pem"
    before, key = certificate(file), (pki / "node.key").read_bytes()
    told = run("renew", file, "--days", "30", *more)
    assert told == {"certificate": str(file), "key": str(pki / "node.key")}
    after = certificate(file)
    assert after.subject == before.subject
    assert _names(after) == _names(before)
    assert after.serial_number != before.serial_number
    assert ((pki / "node.key").read_bytes() == key) is not bool(more)
    assert (pki / "node.key").stat().st_mode & 0o777 == 0o600
    server = server_tls(settings, "http")
    assert server is not None
    assert talks(settings, server, file)


def _names(one: x509.Certificate) -> list[str]:
    names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def test_what_would_harm_is_refused_in_words(run: Run, pki: Path, tmp_path: Path) -> None:
    run("issue", "lost")
    run("revoke", "lost")
    assert "is there already: renew it" in run("issue", "lost")
    assert "was revoked: it needs a new key" in run("renew", pki / "lost.pem")
    assert "the node itself shows this certificate" in run("revoke", "node")
    assert "name a node" in run("issue", "../up")
    assert "name a node" in run("issue", "ca")
    assert "no name, serial number or file" in run("revoke", "nobody")
    assert "--days" in run("issue", "long", "--days", "731")
    elsewhere = create(NewNode(tmp_path / "elsewhere", port_base=0)).parent / "pki" / "node.pem"
    assert "was issued by another authority" in run("revoke", elsewhere)
    assert "was issued by another authority" in run("renew", elsewhere)
    (pki / "ca.key").unlink()
    assert "who has it issues certificates" in run("show")


def test_people_read_it_in_french(kosmos: Kosmos, pki: Path) -> None:
    config = ("--config", pki.parent / "kosmos.toml")
    told = kosmos("--lang", "fr", "pki", "show", *config).stdout
    assert "jours restants" in told
    assert "sa CRL : valable encore 729 jours" in told
    told = kosmos("--lang", "fr", "pki", "revoke", "issuer", *config).stdout
    assert f"la CRL est {pki / 'crl.pem'}" in told
