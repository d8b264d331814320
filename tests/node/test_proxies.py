"""Proxies that end TLS before a node: who they say that their client is, is judged as if he had
come himself, and nobody else may say so (RFC 9440).
"""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from node.config_file import load
from node.init import NewNode, create
from node.wiring.nodes import NodeGuard, Refusals, open_guard, watch_tls
from node.wiring.proxies import ProxyDoor
from security.forwarded import BadForward, Judge, Proxies, read
from security.nodes import KnownNode, NodeRefused, Nodes, Permit, names_of
from security.pki import Identity, create_authority, issue, write_crl
from security.tls import NodeContext, client_context, server_context
from security.trust import Revocations, read_certificates, read_revocations
from soap.asgi import Receive, Scope, Send, certificate_of, respond
from soap.server import running_server
from tests.node.test_node_guard import Days, Told
from tests.security.test_revocation import made

HOSTS = ["localhost", "127.0.0.1"]


def subject(name: str) -> str:
    return f"CN={name},O=Kosmos test PKI"


@dataclass(frozen=True, slots=True)
class Region:
    """Certificates by name, and what the node trusts."""

    identities: dict[str, Identity]
    trust: Path
    crl: Path

    def calling(self, who: str) -> NodeContext:
        one = self.identities[who]
        return client_context(one.certificate, one.key, self.trust)

    def judge(self) -> Judge:
        trusted = read_certificates(self.trust)
        return Judge(trusted, Revocations(read_revocations(self.crl, trusted)))

    def named(self, who: str) -> str:
        """What a proxy writes of ``who``."""
        der = self.certificate(who).public_bytes(Encoding.DER)
        return f":{base64.b64encode(der).decode()}:"

    def certificate(self, who: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.identities[who].certificate.read_bytes())


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    folder, trust = tmp_path_factory.mktemp("region"), tmp_path_factory.mktemp("trust")
    ca = create_authority(folder, "Test authority")
    elsewhere = create_authority(tmp_path_factory.mktemp("elsewhere"), "Another authority")
    names = ("node", "proxy", "viewer", "unlisted", "revoked")
    identities = {one: issue(folder, ca, one, HOSTS) for one in names}
    identities["expired"] = issue(folder, ca, "expired", HOSTS, timedelta(minutes=-1))
    identities["stranger"] = issue(folder, elsewhere, "stranger", HOSTS)
    identities["direct"] = made(folder, "direct", None)
    identities["weak"] = made(folder, "weak", ca, bits=1024)
    root = made(folder, "root", None, authority=True)
    identities["between"] = made(folder, "between", root, authority=True)
    identities["far"] = made(folder, "far", identities["between"])
    identities["vouched"] = made(folder, "vouched", identities["viewer"])
    for one in (ca, root, identities["direct"]):
        shutil.copy(one.certificate, trust)
    revoked = x509.load_pem_x509_certificate(identities["revoked"].certificate.read_bytes())
    return Region(identities, trust, write_crl(ca, [revoked]))


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def url(region: Region, told: Told) -> Iterator[str]:
    """A node behind one proxy, which tells who it takes its client for; "/" is for "viewer",
    "direct" and "far"."""

    async def who(scope: Scope, _receive: Receive, send: Send) -> None:
        certificate = certificate_of(scope)
        await respond(send, 200, names_of(certificate)[1].encode() if certificate else b"nobody")

    known = (subject("viewer"), "CN=direct", "CN=far")
    nodes = Nodes([KnownNode(Permit(one, frozenset({"RAD-107"})), subject=one) for one in known])
    proxies = Proxies([KnownNode(Permit("front"), subject=subject("proxy"))])
    proxies.judge_by(region.judge())
    guard = NodeGuard(nodes, Refusals(told, Days()), proxies)  # type: ignore[arg-type]
    door = ProxyDoor(guard, guard.http(who, lambda _scope: "RAD-107"))
    node = region.identities["node"]
    tls = server_context(node.certificate, node.key, region.trust, crl=region.crl)
    with running_server(door, tls=tls) as base:
        yield base


def ask(
    url: str, tls: ssl.SSLContext, *requests: Sequence[tuple[str, str]]
) -> list[tuple[int, str]]:
    """The status and body of each request, with its headers, all on one connection."""
    place, answers = urlsplit(url), []
    plain = socket.create_connection((str(place.hostname), place.port or 0), 10)
    with closing(tls.wrap_socket(plain, server_hostname="localhost")) as connection:
        file = connection.makefile("rb")
        for headers in requests:
            lines = ["GET / HTTP/1.1", "Host: here", *(f"{name}: {text}" for name, text in headers)]
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
            status, length = int(file.readline().split()[1]), 0
            while (line := file.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name == b"content-length" else length
            answers.append((status, file.read(length).decode()))
        file.close()
    return answers


def test_the_client_of_a_proxy_is_who_the_proxy_says_at_each_request(
    url: str, region: Region
) -> None:
    """On one connection, which a proxy shares among its clients."""
    assert ask(
        url,
        region.calling("proxy"),
        [("Client-Cert", region.named("viewer"))],
        [("Client-Cert", region.named("direct"))],
        [("Client-Cert", region.named("far")), ("Client-Cert-Chain", region.named("between"))],
        [("Client-Cert", region.named("unlisted"))],
    ) == [
        (200, subject("viewer")),
        (200, "CN=direct"),
        (200, "CN=far"),
        (403, "this node is not listed here\n"),
    ]


def test_who_comes_himself_is_who_he_is(url: str, region: Region) -> None:
    assert ask(url, region.calling("viewer"), []) == [(200, subject("viewer"))]


@pytest.mark.parametrize("header", ["Client-Cert", "Client-Cert-Chain", "client-cert"])
@pytest.mark.parametrize("who", ["viewer", "unlisted"])
def test_nobody_but_a_proxy_may_say_who_asks(
    url: str, region: Region, told: Told, who: str, header: str
) -> None:
    [(status, _)] = ask(url, region.calling(who), [(header, region.named("viewer"))])
    assert status == 400
    assert told.said[-1] == "127.0.0.1 Client-Cert is for the proxies of this node to send False"


def test_a_proxy_that_names_nobody_is_refused_and_does_not_ask_by_itself(
    url: str, region: Region
) -> None:
    [(status, words)] = ask(url, region.calling("proxy"), [])
    assert (status, words) == (400, "a proxy must name its client in Client-Cert\n")


@pytest.mark.parametrize(
    "who", ["expired", "revoked", "stranger", "far", "weak", "vouched", "between"]
)
def test_who_tls_would_have_refused_is_refused_behind_a_proxy_too(
    url: str, region: Region, told: Told, who: str
) -> None:
    """Without the authority between, which is of use to "far" alone."""
    with_viewer = [("Client-Cert-Chain", region.named("viewer"))] if who == "vouched" else []
    named = [("Client-Cert", region.named(who)), *with_viewer]
    [(status, words)] = ask(url, region.calling("proxy"), named)
    assert status == 403
    assert words.strip() in told.said[-1]


def test_what_is_malformed_is_400(url: str, region: Region) -> None:
    viewer = region.named("viewer")
    far = region.named("far")
    wrong = [
        [("Client-Cert", viewer), ("Client-Cert", viewer)],
        [("Client-Cert", f"{viewer}, {viewer}")],
        [("Client-Cert", viewer.strip(":"))],
        [("Client-Cert", f"{viewer};proxy=1")],
        [("Client-Cert", f":{viewer[1:-1][:-8]}:")],
        [("Client-Cert", ":bm90IGEgY2VydGlmaWNhdGU=:")],
        [("Client-Cert", ":")],
        [("Client-Cert", "")],
        [("Client-Cert-Chain", viewer)],
        [("Client-Cert", far), ("Client-Cert-Chain", "nonsense")],
        [("Client-Cert", far), ("Client-Cert-Chain", ",".join([region.named("between")] * 9))],
    ]
    answers = ask(url, region.calling("proxy"), *wrong)
    assert [status for status, _ in answers] == [400] * len(wrong)


def test_a_node_without_proxies_refuses_the_header_of_anybody(region: Region) -> None:
    with pytest.raises(BadForward):
        Proxies().client(None, [(b"client-cert", region.named("viewer").encode())])
    assert Proxies().client(b"shown", []) == b"shown"


def test_a_certificate_revoked_meanwhile_is_refused_once_the_files_are_read(
    region: Region, tmp_path: Path
) -> None:
    for one in ("ca.pem", "ca.key", "crl.pem"):
        shutil.copy(region.crl.with_name(one), tmp_path)
    proxies = Proxies([KnownNode(Permit("front"), subject=subject("proxy"))])
    proxies.judge_by(region.judge())
    proxy = region.certificate("proxy").public_bytes(Encoding.DER)
    headers = [(b"client-cert", region.named("viewer").encode())]
    assert proxies.client(proxy, headers)
    ca = Identity(tmp_path / "ca.pem", tmp_path / "ca.key")
    crl = write_crl(ca, [region.certificate("viewer")])
    proxies.judge_by(Region(region.identities, region.trust, crl).judge())
    with pytest.raises(NodeRefused, match="revoked by"):
        proxies.client(proxy, headers)


def test_proxies_of_the_configuration_are_judged_by_the_files_as_they_become(
    tmp_path: Path,
) -> None:
    config = create(NewNode(tmp_path / "node", port_base=0))
    with config.open("a") as file:
        file.write(f'\n[[tls.proxies]]\nname = "front"\nsubject = "{subject("node")}"\n')
    settings, pki = load(config), config.parent / "pki"
    guard = open_guard(settings, None)
    [watch] = watch_tls(settings, guard)
    # The node's two certificates: that of the proxy, and that of its client.
    shown, other = (
        x509.load_pem_x509_certificate((pki / f"{one}.pem").read_bytes())
        for one in ("node", "issuer")
    )
    der = other.public_bytes(Encoding.DER)
    headers = [(b"client-cert", b":%b:" % base64.b64encode(der))]
    proxy = shown.public_bytes(Encoding.DER)
    assert guard.proxies.client(proxy, headers) == der
    write_crl(Identity(pki / "ca.pem", pki / "ca.key"), [other])
    watch.tell()
    watch.look()
    with pytest.raises(NodeRefused, match="revoked by"):
        guard.proxies.client(proxy, headers)


def test_who_is_revoked_is_heard_no_more_on_a_connection_that_stands(tmp_path: Path) -> None:
    """By HTTP, MLLP and DICOM alike; whoever is not revoked goes on."""
    config = create(NewNode(tmp_path / "node", port_base=0))
    settings, pki = load(config), config.parent / "pki"
    guard = open_guard(settings, None)
    [watch] = watch_tls(settings, guard)

    async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, 200, b"hello")
        write_crl(Identity(pki / "ca.pem", pki / "ca.key"), [issuer])
        watch.tell()
        watch.look()

    issuer, node = (
        x509.load_pem_x509_certificate((pki / f"{one}.pem").read_bytes())
        for one in ("issuer", "node")
    )
    listening = server_context(pki / "node.pem", pki / "node.key", pki / "ca.pem")
    calling = client_context(pki / "issuer.pem", pki / "issuer.key", pki / "ca.pem")
    shown, other = (one.public_bytes(Encoding.DER) for one in (issuer, node))
    permit, feeding = guard.permit(shown, "here", "PACS"), guard.mllp(lambda _raw, _peer: b"heard")
    assert feeding is not None
    assert feeding(shown)(b"", "here") == b"heard"
    permit.check("C-STORE")
    with running_server(ProxyDoor(guard, hello), tls=listening) as base:
        first, second = ask(base, calling, [], [])
    assert first == (200, "hello")
    assert (second[0], second[1][:10]) == (403, "revoked by")
    assert b"MSA|AR" in feeding(shown)(b"", "here")
    with pytest.raises(NodeRefused, match="revoked by"):
        permit.check("C-STORE")
    assert feeding(other)(b"", "here") == b"heard"
    guard.permit(other, "here", "PACS").check("C-STORE")


@given(st.binary(max_size=80), st.sampled_from([b"client-cert", b"client-cert-chain"]))
def test_any_bytes_are_a_certificate_or_refused(value: bytes, name: bytes) -> None:
    with pytest.raises(BadForward):
        read([(name, value)])
