"""A node with TLS, as ``kosmos init`` makes it: who shows no trusted certificate gets nothing."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from consumer.client import Consumer
from hl7.client import MllpClient, MllpError
from node import feed
from node.config_file import load
from node.wiring.common import own_assertions
from security.assertions.http import authorization
from security.tls import client_context
from soap.client import SoapClient
from soap.faults import PeerError, PeerFault
from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.foreign import run
from transactions import stored_query
from transactions.iti_18 import ITI_18

SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
# The suites that the ATNA secure-transport options require of TLS 1.2 (ITI TF-2 3.19.6.2).
MANDATORY = [
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
]
GET = "GET / HTTP/1.0\r\n\r\n"
# How openssl tells of a refusal: by the server's alert, or, as Python's event loops drop the
# alert of a handshake that fails, by the end of the connection in the midst of TLS; by an error
# of the operating system where it comes while openssl writes.
REFUSAL = re.compile(
    r":error:.*(SSL alert number \d+|unexpected eof while reading)|(read|write):errno=\d+"
)
LOOPBACK = "127.0.0.1"


class SecureNodes(Nodes):
    """As ``Nodes``, of a node that was made without ``--plain``."""

    plain = False


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    nodes = SecureNodes(tmp_path_factory.mktemp("secure"))
    try:
        yield nodes.start(
            KOSMOS__IMAGING_SOURCE__QUERY_TITLES='["*"]',
            KOSMOS__IMAGING_SOURCE__TRUSTED_TITLES='["ARCHIVE"]',
        )
    finally:
        nodes.close()


@pytest.fixture(scope="module")
def pki(node: RunningNode) -> Path:
    """Where the node's test authority and certificate lie."""
    return node.config.parent / "pki"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``node.pem`` and ``node.key`` that the node's authority has not signed."""
    folder = tmp_path_factory.mktemp("stranger")
    key, certificate = folder / "node.key", folder / "node.pem"
    made = run(
        "openssl", *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=stranger", "-keyout", key, "-out", certificate),
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    return folder


@pytest.fixture(scope="module")
def ours(pki: Path) -> ssl.SSLContext:
    """The context of a client with the node's own certificate."""
    return client_context(pki / "node.pem", pki / "node.key", pki / "ca.pem")


@pytest.fixture(scope="module")
def token(node: RunningNode) -> Callable[[], str]:
    """Assertions about a user, by the issuer that the node believes."""
    return own_assertions(load(node.config), "ada")


@pytest.fixture(scope="module")
def anonymous(pki: Path) -> ssl.SSLContext:
    """The context of a client that trusts the node and shows no certificate."""
    return ssl.create_default_context(cafile=pki / "ca.pem")


def place(node: RunningNode, endpoint: str) -> str:
    """HOST:PORT of an endpoint."""
    return node.endpoints[endpoint].rpartition("@")[2].split("//")[-1].partition("/")[0]


def identity(folder: Path, *, option: str = "-") -> list[str]:
    """The certificate and key in ``folder`` as openssl's (``-``) or curl's (``--``) options."""
    return [f"{option}cert", str(folder / "node.pem"), f"{option}key", str(folder / "node.key")]


def s_client(where: str, *options: str | Path, send: str = GET) -> str:
    """What ``openssl s_client`` tells of a connection, the answer to ``send`` included."""
    return run("openssl", "s_client", "-connect", where, "-ign_eof", *options, send=send).stdout


def test_openssl_with_the_nodes_certificate_gets_a_page(node: RunningNode, pki: Path) -> None:
    told = s_client(
        place(node, "registry"), *identity(pki), "-CAfile", pki / "ca.pem", "-verify_return_error"
    )

    assert "Verify return code: 0 (ok)" in told
    assert "HTTP/1.1 200 OK" in told


@pytest.mark.parametrize("suite", MANDATORY)
def test_every_mandatory_cipher_suite_is_spoken(suite: str, node: RunningNode, pki: Path) -> None:
    told = s_client(place(node, "registry"), *identity(pki), "-tls1_2", "-cipher", suite)

    assert f"Cipher is {suite}" in told
    assert "HTTP/1.1 200 OK" in told


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("endpoint", ["registry", "mllps", "dicom"])
def test_without_a_certificate_nothing_is_answered(
    endpoint: str, version: str, node: RunningNode, pki: Path
) -> None:
    told = s_client(place(node, endpoint), version, "-CAfile", pki / "ca.pem")

    assert REFUSAL.search(told)
    assert "HTTP/" not in told


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("endpoint", ["registry", "mllps", "dicom"])
def test_the_certificate_of_another_authority_is_refused(
    endpoint: str, version: str, node: RunningNode, stranger: Path
) -> None:
    told = s_client(place(node, endpoint), version, *identity(stranger))

    assert REFUSAL.search(told)
    assert "HTTP/" not in told


@pytest.mark.parametrize("endpoint", ["registry", "mllps", "dicom"])
def test_tls_1_1_is_refused(endpoint: str, node: RunningNode, pki: Path) -> None:
    # Without the security level, openssl itself would not offer so old a version.
    told = s_client(
        place(node, endpoint), *identity(pki), "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"
    )

    assert REFUSAL.search(told)
    assert "Cipher is (NONE)" in told


def test_curl_with_the_nodes_certificate_reads_the_description(
    node: RunningNode, pki: Path
) -> None:
    url = f"{node.endpoints['registry']}?wsdl"

    answer = run(
        "curl", "-sS", "--fail", "--cacert", pki / "ca.pem", *identity(pki, option="--"), url
    )

    assert answer.returncode == 0, answer.stdout
    assert f'location="{node.endpoints["registry"]}"' in answer.stdout


def test_dicomweb_is_served_to_whoever_shows_a_certificate_and_says_who_asks(
    node: RunningNode, pki: Path, token: Callable[[], str]
) -> None:
    url, trust = f"{node.endpoints['dicomweb']}/studies", pki / "ca.pem"
    asking = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", trust)
    [(name, value)] = authorization(token()).items()
    asked = run(*asking, *identity(pki, option="--"), "-H", f"{name}: {value}", url)
    assert asked.stdout in ("200", "204")
    assert run(*asking, *identity(pki, option="--"), url).stdout == "401"
    assert run("curl", "-sS", "--cacert", trust, url).returncode != 0


def test_nobody_but_a_proxy_of_the_configuration_may_say_who_asks(
    node: RunningNode, pki: Path
) -> None:
    named = ("-i", "-H", "Client-Cert: :AAAA:", "--cacert", pki / "ca.pem")
    answer = run("curl", "-sS", *named, *identity(pki, option="--"), node.endpoints["registry"])
    assert answer.stdout.startswith("HTTP/1.1 400")
    assert "Client-Cert is for the proxies of this node to send" in answer.stdout


def test_curl_without_a_certificate_gets_nothing(node: RunningNode, pki: Path) -> None:
    answer = run("curl", "-sS", "--cacert", pki / "ca.pem", node.endpoints["registry"])

    # The refusal of TLS 1.3 comes with the first bytes that are read: an empty reply, or a
    # failure to receive where the alert came through.
    assert answer.returncode in (52, 56)
    assert "<" not in answer.stdout


def test_a_caller_who_trusts_another_authority_does_not_talk_to_the_node(
    node: RunningNode, pki: Path, stranger: Path
) -> None:
    answer = run(
        "curl", "-sS", "--cacert", stranger / "node.pem", *identity(pki, option="--"),
        node.endpoints["registry"],
    )  # fmt: skip

    assert answer.returncode == 60  # "cannot be authenticated with known CA certificates"


def test_a_request_without_tls_gets_no_answer(node: RunningNode) -> None:
    answer = run("curl", "-sS", node.endpoints["registry"].replace("https:", "http:"))

    assert answer.returncode == 52  # "nothing was returned from the server"


def test_a_stored_query_is_answered_to_a_client_with_a_certificate_and_an_assertion(
    node: RunningNode, ours: ssl.SSLContext, token: Callable[[], str]
) -> None:
    client = SoapClient(ssl_context=ours, token=token)

    found = client.call(
        node.endpoints["registry"], ITI_18, stored_query.get_documents(unique_id="1.2.3")
    )

    client.close()
    assert found.status == SUCCESS


def test_a_stored_query_without_a_certificate_is_not_answered(
    node: RunningNode, anonymous: ssl.SSLContext
) -> None:
    client = SoapClient(ssl_context=anonymous)

    with pytest.raises(PeerError):
        client.call(
            node.endpoints["registry"], ITI_18, stored_query.find_documents(node.patient("1"))
        )

    client.close()


def announce(node: RunningNode, identifier: str, tls: ssl.SSLContext, more: bytes = b"") -> str:
    """Announce a patient over TLS, with ``more`` segments; the acknowledgement code."""
    host, port = place(node, "mllps").split(":")
    authority = node.settings["affinity_domain"]["assigning_authority"]
    with MllpClient(host, int(port), ssl_context=tls) as client:
        message = feed.announce(feed.Person(identifier, "DOE^JANE"), authority)
        answer = client.send(message + more)
    return feed.acknowledgement(answer)[0]


def test_an_identity_message_over_tls_is_accepted_with_a_certificate(
    node: RunningNode, ours: ssl.SSLContext
) -> None:
    assert announce(node, "SECURE-1", ours) == "AA"


def test_an_identity_message_over_tls_without_a_certificate_is_not_acknowledged(
    node: RunningNode, anonymous: ssl.SSLContext
) -> None:
    with pytest.raises(MllpError):
        announce(node, "SECURE-2", anonymous)


def test_what_other_machines_can_reach_demands_tls(node: RunningNode) -> None:
    listening = run("ss", "--no-header", "--tcp", "--listening", "--numeric").stdout
    addresses = {}
    for local in (line.split()[3] for line in listening.splitlines()):
        address, _, port = local.rpartition(":")
        addresses[port] = address

    beyond = {
        name
        for name in ("registry", "admin", "mllp", "mllps", "dicom")
        if addresses[place(node, name).rpartition(":")[2]] != LOOPBACK
    }

    # The three that were shown above to refuse whoever has no certificate.
    assert beyond == {"registry", "mllps", "dicom"}


def echo(node: RunningNode, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """A C-ECHO by DCMTK."""
    host, port = place(node, "dicom").split(":")
    return run("echoscu", *options, "-to", "5", "-aec", "KOSMOS", host, port)


def dicom_tls(pki: Path) -> list[str | Path]:
    """DCMTK's options for TLS with the certificate and authority in ``pki``."""
    return ["+tls", pki / "node.key", pki / "node.pem", "+cf", pki / "ca.pem"]


def test_dicom_is_spoken_over_tls_with_a_certificate_alone(node: RunningNode, pki: Path) -> None:
    assert echo(node, *dicom_tls(pki)).returncode == 0
    assert echo(node, "+tla", "+cf", pki / "ca.pem").returncode != 0
    assert echo(node).returncode != 0


def test_images_sent_over_tls_are_published_over_tls(
    node: RunningNode, pki: Path, ours: ssl.SSLContext, token: Callable[[], str]
) -> None:
    image = get_testdata_file("CT_small.dcm")
    assert announce(node, "1CT1", ours) == "AA"
    host, port = place(node, "dicom").split(":")

    sent = run("storescu", *dicom_tls(pki), "-aec", "KOSMOS", host, port, str(image))

    assert sent.returncode == 0, sent.stdout
    client = SoapClient(ssl_context=ours, token=token)
    repositories = {node.settings["repository"]["unique_id"]: node.endpoints["repository"]}
    consumer = Consumer(node.endpoints["registry"], repositories, client=client)
    [entry] = await_(lambda: consumer.find_documents(node.patient("1CT1")))
    [series] = consumer.open_manifest(entry).series
    assert len(series.instances) == 1
    # Opposed to sharing, by ADT: nothing is found any more, until the next message takes it back.
    assert announce(node, "1CT1", ours, b"PD1||||||||||||Y\r") == "AA"
    assert consumer.find_documents(node.patient("1CT1")) == []
    assert found_by("VIEWER", node, pki) == 0
    assert found_by("ARCHIVE", node, pki) == 1  # whose images these are
    assert announce(node, "1CT1", ours, b"PD1||||||||||||N\r") == "AA"
    assert len(consumer.find_documents(node.patient("1CT1"))) == 1
    assert found_by("VIEWER", node, pki) == 1
    client.close()


def found_by(title: str, node: RunningNode, pki: Path) -> int:
    """How many studies of the patient an application entity finds by C-FIND."""
    host, port = place(node, "dicom").split(":")
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=1CT1", "-k", "StudyInstanceUID")
    asked = ("-S", *keys, "-aet", title, "-aec", "KOSMOS", host, port)
    answer = run("findscu", "-v", *dicom_tls(pki), *asked)
    assert answer.returncode == 0, answer.stdout
    return len(re.findall(r"Find Response: \d+ \(Pending\)", answer.stdout))


def test_an_issuer_whose_certificate_is_exchanged_is_believed_no_more(
    node: RunningNode, pki: Path, ours: ssl.SSLContext, token: Callable[[], str], stranger: Path
) -> None:
    client = SoapClient(ssl_context=ours, token=token)
    question = stored_query.get_documents(unique_id="1.2.3")

    def is_believed() -> bool:
        try:
            client.call(node.endpoints["registry"], ITI_18, question)
        except PeerFault:
            return False
        return True

    assert is_believed()
    issuer = pki / "issuer.pem"
    certificate = issuer.read_bytes()
    issuer.write_bytes((stranger / "node.pem").read_bytes())
    await_(lambda: not is_believed())
    issuer.write_bytes(certificate)
    await_(is_believed)
    client.close()


def test_check_tells_how_long_the_certificate_lasts(node: RunningNode) -> None:
    command = [sys.executable, "-m", "node.cli", "check", "--lang", "en"]

    told = subprocess.run(
        [*command, "--config", str(node.config)], capture_output=True, text=True, check=True
    )

    # Made for 730 days (ITI TF-2 3.19.6.1), a moment ago.
    assert "valid for 729 days" in told.stdout
