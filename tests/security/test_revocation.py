"""Revoked, weak and renewed certificates, over real sockets."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from security.pki import Identity, issue, write_crl
from security.tls import NodeContext, TlsError, client_context, renew, server_context
from tests.security.test_tls import converse

REFUSED = (ssl.SSLError, ConnectionError)


@pytest.fixture
def folder(pki: dict[str, Identity], tmp_path: Path) -> Path:
    """A copy of the authority's files, the node's among them, that a test may change."""
    return Path(shutil.copytree(pki["authority"].certificate.parent, tmp_path / "pki"))


def identity(folder: Path, name: str) -> Identity:
    return Identity(folder / f"{name}.pem", folder / f"{name}.key")


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def pair(folder: Path, crl: Path | None, client: str = "node") -> tuple[NodeContext, NodeContext]:
    """Contexts of a listener that knows ``crl``, and of a client without one."""
    node, caller = identity(folder, "node"), identity(folder, client)
    trust = folder / "ca.pem"
    return (
        server_context(node.certificate, node.key, trust, crl=crl),
        client_context(caller.certificate, caller.key, trust),
    )


def signed_crl(authority: Identity, file: Path, next_update: datetime) -> Path:
    """An empty CRL that ends at ``next_update``."""
    key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate(authority.certificate).subject)
        .last_update(next_update - timedelta(days=1))
        .next_update(next_update)
        .sign(key, hashes.SHA256())
    )
    file.write_bytes(crl.public_bytes(Encoding.PEM))
    return file


def test_a_revoked_client_is_refused_and_the_others_are_not(folder: Path) -> None:
    authority = identity(folder, "ca")
    lost = issue(folder, authority, "lost", ["localhost"])
    crl = write_crl(authority)
    assert converse(*pair(folder, crl, "lost"))

    write_crl(authority, [certificate(lost.certificate)])
    with pytest.raises(REFUSED):
        converse(*pair(folder, crl, "lost"))
    assert converse(*pair(folder, crl, "node"))


def test_a_revoked_server_is_refused_in_words(folder: Path) -> None:
    authority, node = identity(folder, "ca"), identity(folder, "node")
    crl = write_crl(authority, [certificate(node.certificate)])
    client = client_context(node.certificate, node.key, folder / "ca.pem", crl=crl)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"revoked by .*CN=node"):
        converse(server_context(node.certificate, node.key, folder / "ca.pem"), client)


def test_what_is_revoked_stays_so_when_another_is(folder: Path) -> None:
    authority = identity(folder, "ca")
    first = certificate(issue(folder, authority, "first", ["localhost"]).certificate)
    write_crl(authority, [first])
    crl = x509.load_pem_x509_crl(
        write_crl(authority, [certificate(folder / "node.pem")]).read_bytes()
    )
    assert crl.get_revoked_certificate_by_serial_number(first.serial_number) is not None


def test_a_crl_that_has_expired_refuses_everybody_of_its_authority(folder: Path) -> None:
    authority, node = identity(folder, "ca"), identity(folder, "node")
    crl = signed_crl(authority, folder / "old.crl", datetime.now(UTC) - timedelta(minutes=1))
    client = client_context(node.certificate, node.key, folder / "ca.pem", crl=crl)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"the CRL of .* has expired"):
        converse(server_context(node.certificate, node.key, folder / "ca.pem"), client)


def test_a_crl_of_somebody_else_is_no_crl(pki: dict[str, Identity], folder: Path) -> None:
    forged = signed_crl(pki["elsewhere"], folder / "forged.crl", datetime.now(UTC))
    with pytest.raises(TlsError, match=r"forged\.crl: not signed by .* trusted"):
        pair(folder, forged)


def test_a_certificate_trusted_by_itself_needs_no_crl(
    pki: dict[str, Identity], folder: Path
) -> None:
    """Trust is a folder here, in PEM and DER."""
    trust = folder / "trust"
    trust.mkdir()
    shutil.copy(folder / "ca.pem", trust)
    der = certificate(pki["stranger"].certificate).public_bytes(Encoding.DER)
    (trust / "stranger.cer").write_bytes(der)
    node, stranger = identity(folder, "node"), pki["stranger"]
    crl = write_crl(identity(folder, "ca"))
    server = server_context(node.certificate, node.key, trust, crl=crl)
    client = client_context(stranger.certificate, stranger.key, folder / "ca.pem")
    assert converse(server, client)


def test_an_authority_between_that_was_revoked_vouches_for_nobody(
    pki: dict[str, Identity], tmp_path: Path
) -> None:
    """The whole chain is judged: root, authority between, node."""
    root = made(tmp_path, "root", None, authority=True)
    between = made(tmp_path, "between", root, authority=True)
    far = made(tmp_path, "far", between)
    chain = far.certificate.read_bytes() + between.certificate.read_bytes()
    far.certificate.write_bytes(chain)
    crl, node = write_crl(root), pki["node"]
    client = client_context(far.certificate, far.key, pki["authority"].certificate)
    assert converse(server_context(node.certificate, node.key, root.certificate, crl=crl), client)
    write_crl(root, [certificate(between.certificate)])
    with pytest.raises(REFUSED):
        converse(server_context(node.certificate, node.key, root.certificate, crl=crl), client)


def made(
    folder: Path, name: str, parent: Identity | None, *, authority: bool = False, bits: int = 2048
) -> Identity:
    """A certificate that ``parent`` signed, or itself, with nothing that is not needed."""
    key, now = rsa.generate_private_key(65537, bits), datetime.now(UTC)
    subject = issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = key
    if parent is not None:
        issuer = certificate(parent.certificate).subject
        read = serialization.load_pem_private_key(parent.key.read_bytes(), None)
        assert isinstance(read, rsa.RSAPrivateKey)
        signer = read
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    form = (Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(*form))
    return identity(folder, name)


@pytest.mark.parametrize("fault", ["a short key", "a weak signature"])
def test_weak_keys_and_signatures_are_refused(folder: Path, fault: str) -> None:
    """Of a peer that does not mind itself: its own context is another's."""
    ca = identity(folder, "ca")
    weak = made(folder, "weak", ca, bits=1024 if fault == "a short key" else 2048)
    if fault == "a weak signature":
        out, asked = folder / "sha1.pem", folder / "sha1.csr"
        ask = f"openssl req -new -key {weak.key} -subj /CN=weak -out {asked}".split()
        subprocess.run(ask, check=True, capture_output=True)
        sign = f"openssl x509 -req -in {asked} -sha1 -days 2 -out {out}".split()
        ours = ["-CA", str(ca.certificate), "-CAkey", str(ca.key), "-set_serial", "77"]
        done = subprocess.run([*sign, *ours], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        weak = Identity(out, weak.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    client.load_verify_locations(folder / "ca.pem")
    client.load_cert_chain(weak.certificate, weak.key)
    server, _ = pair(folder, None)
    with pytest.raises(REFUSED):
        converse(server, client)


def test_only_tls_1_3_where_that_is_the_minimum(folder: Path) -> None:
    node = identity(folder, "node")
    server = server_context(node.certificate, node.key, folder / "ca.pem", minimum="1.3")
    _, client = pair(folder, None)
    assert converse(server, client)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(REFUSED):
        converse(server, client)


def test_new_files_are_taken_over_and_old_trust_is_gone(
    pki: dict[str, Identity], folder: Path
) -> None:
    node, stranger = identity(folder, "node"), pki["stranger"]
    server = server_context(node.certificate, node.key, folder / "ca.pem")
    ours = client_context(node.certificate, node.key, folder / "ca.pem")
    theirs = client_context(stranger.certificate, stranger.key, folder / "ca.pem")
    assert converse(server, ours)

    trusted = (folder / "ca.pem").read_bytes()
    shutil.copy(stranger.certificate, folder / "ca.pem")
    renew([server])
    assert converse(server, theirs)
    with pytest.raises(REFUSED):
        converse(server, ours)

    (folder / "ca.pem").write_bytes(trusted)
    renew([server])
    assert converse(server, ours)


def test_a_broken_new_file_leaves_the_old_ones_in_force(folder: Path) -> None:
    server, client = pair(folder, None)
    (folder / "ca.pem").write_text("half a certifi")
    with pytest.raises(TlsError, match=r"ca\.pem"):
        renew([server])
    assert converse(server, client)
