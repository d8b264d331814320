"""Mutual TLS as ITI-19 asks for it, over real sockets."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from security.pki import Identity
from security.tls import TlsError, client_context, server_context

MANDATORY = [
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
]
# Loopback answers at once: only a fault takes longer.
PATIENCE = 10.0


def server_of(pki: dict[str, Identity], trust: Path | None = None) -> ssl.SSLContext:
    node = pki["node"]
    return server_context(node.certificate, node.key, trust or pki["authority"].certificate)


def client_of(pki: dict[str, Identity], who: str = "node", *, host: bool = False) -> ssl.SSLContext:
    identity = pki[who]
    trust = pki["authority"].certificate
    return client_context(identity.certificate, identity.key, trust, check_host=host)


def converse(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> str:
    """One byte each way; the negotiated suite. The client's exception, if any, is raised."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)

    def answer() -> None:
        plain, _ = listener.accept()
        plain.settimeout(PATIENCE)
        try:
            with server.wrap_socket(plain, server_side=True) as secure:
                secure.sendall(secure.recv(1))
        except OSError:
            plain.close()  # a refusal is what the client must see

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with (
            socket.create_connection(listener.getsockname(), PATIENCE) as plain,
            client.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(b"x")
            # A TLS 1.3 refusal shows only here, at the first read.
            if secure.recv(1) != b"x":
                raise ssl.SSLError("closed without an answer")
            cipher = secure.cipher()
            assert cipher is not None
            return cipher[0]
    finally:
        thread.join()
        listener.close()


def test_two_nodes_of_one_authority_talk(pki: dict[str, Identity]) -> None:
    assert converse(server_of(pki), client_of(pki, host=True))


@pytest.mark.parametrize("suite", MANDATORY)
def test_every_suite_that_iti_19_names_is_offered(pki: dict[str, Identity], suite: str) -> None:
    client = client_of(pki)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suite)
    assert converse(server_of(pki), client) == suite


def test_a_client_of_another_authority_is_refused(pki: dict[str, Identity]) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        converse(server_of(pki), client_of(pki, "stranger"))


def test_a_client_without_a_certificate_is_refused(pki: dict[str, Identity]) -> None:
    client = ssl.create_default_context(cafile=pki["authority"].certificate)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        converse(server_of(pki), client)


def test_a_certificate_trusted_by_itself_needs_no_authority(pki: dict[str, Identity]) -> None:
    server = server_of(pki, trust=pki["stranger"].certificate)
    assert converse(server, client_of(pki, "stranger"))


def test_a_server_under_another_name_is_refused_when_asked(pki: dict[str, Identity]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        converse(server_of(pki), client_of(pki, host=True), name="elsewhere.example")
    assert converse(server_of(pki), client_of(pki), name="elsewhere.example")


def test_nothing_older_than_tls_1_2_is_spoken(pki: dict[str, Identity]) -> None:
    assert server_of(pki).minimum_version is ssl.TLSVersion.TLSv1_2
    assert client_of(pki).minimum_version is ssl.TLSVersion.TLSv1_2


def test_an_error_names_the_file(pki: dict[str, Identity], tmp_path: Path) -> None:
    node, missing = pki["node"], tmp_path / "missing.pem"
    with pytest.raises(TlsError, match=r"missing\.pem: no such file"):
        server_context(missing, node.key, node.certificate)
    with pytest.raises(TlsError, match=r"node\.pem and .*ca\.key"):
        server_context(node.certificate, pki["authority"].key, node.certificate)
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    with pytest.raises(TlsError, match=r"broken\.pem"):
        server_context(node.certificate, node.key, broken)
