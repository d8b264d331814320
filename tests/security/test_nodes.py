"""Which nodes may connect, decided by certificate."""

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from security.nodes import EVERYTHING, KnownNode, NodeRefused, Nodes, Permit
from security.pki import Identity

LIMITED = Permit("PACS", frozenset({"ITI-41", "C-STORE"}), frozenset({"PACS1"}))


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.certificate.read_text())


def known_by(identity: Identity, way: str) -> KnownNode:
    read = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    match way:
        case "certificate":
            return KnownNode(LIMITED, certificate=read.fingerprint(SHA256()).hex())
        case "subject":
            return KnownNode(LIMITED, subject=read.subject.rfc4514_string())
        case _:
            return KnownNode(LIMITED, san="LocalHost")


def test_without_a_list_everybody_may_do_everything(pki: dict[str, Identity]) -> None:
    assert Nodes().permit(der(pki["node"])) is EVERYTHING
    assert not Nodes()


@pytest.mark.parametrize("way", ["certificate", "subject", "san"])
def test_a_node_is_known_by_its_certificate(pki: dict[str, Identity], way: str) -> None:
    nodes = Nodes([known_by(pki["node"], way)])
    nodes.check(der(pki["node"]), "C-STORE")
    with pytest.raises(NodeRefused, match="PACS may not do ITI-18 here"):
        nodes.check(der(pki["node"]), "ITI-18")


@pytest.mark.parametrize("way", ["certificate", "subject"])
def test_a_node_that_is_not_listed_is_refused(pki: dict[str, Identity], way: str) -> None:
    with pytest.raises(NodeRefused, match="not listed"):
        Nodes([known_by(pki["node"], way)]).permit(der(pki["stranger"]))


def test_an_ae_title_belongs_to_a_node() -> None:
    LIMITED.check_title("PACS1")
    EVERYTHING.check_title("ANYBODY")
    with pytest.raises(NodeRefused):
        LIMITED.check_title("PACS2")


def test_who_shows_no_certificate_is_known_by_its_title_alone(pki: dict[str, Identity]) -> None:
    nodes = Nodes([known_by(pki["node"], "certificate")])
    assert nodes.permit(None, "PACS1") is LIMITED
    with pytest.raises(NodeRefused):
        nodes.permit(None, "PACS2")
    with pytest.raises(NodeRefused):
        nodes.permit(None)


def test_the_node_itself_is_always_let_in(pki: dict[str, Identity]) -> None:
    nodes = Nodes([known_by(pki["stranger"], "subject")])
    nodes.own([x509.load_pem_x509_certificate(pki["node"].certificate.read_bytes())])
    assert nodes.permit(der(pki["node"])) is EVERYTHING
