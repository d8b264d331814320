"""The test PKI: what it writes, and who may read it."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from security.pki import Identity, create_authority, issue


def read(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes())


def test_private_keys_are_readable_by_their_owner_only(pki: dict[str, Identity]) -> None:
    for identity in pki.values():
        assert stat.S_IMODE(identity.key.stat().st_mode) == 0o600


def test_a_node_certificate_is_signed_by_its_authority(pki: dict[str, Identity]) -> None:
    read(pki["node"]).verify_directly_issued_by(read(pki["authority"]))
    with pytest.raises(ValueError, match="does not match"):
        read(pki["stranger"]).verify_directly_issued_by(read(pki["authority"]))


def test_a_node_certificate_lives_two_years_at_most(pki: dict[str, Identity]) -> None:
    certificate = read(pki["node"])
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime <= timedelta(days=731)


def test_a_node_certificate_serves_both_ends_and_names_its_hosts(pki: dict[str, Identity]) -> None:
    extensions = read(pki["node"]).extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_keys_suit_the_rsa_suites_of_iti_19(pki: dict[str, Identity]) -> None:
    key = read(pki["node"]).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size >= 2048


def test_an_authority_is_never_overwritten(tmp_path: Path) -> None:
    authority = create_authority(tmp_path, "First")
    before = authority.key.read_bytes()
    with pytest.raises(FileExistsError):
        create_authority(tmp_path, "Second")
    assert authority.key.read_bytes() == before


def test_a_node_identity_is_never_overwritten(tmp_path: Path, pki: dict[str, Identity]) -> None:
    issue(tmp_path, pki["authority"], "node", ["localhost"])
    with pytest.raises(FileExistsError):
        issue(tmp_path, pki["authority"], "node", ["localhost"])
