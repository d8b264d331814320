"""Every message of the main flow, as it is on the wire, against the schemas of its standards.

A recorder stands between all callers and one node: our client, the node's own repository on its
way to the registry, its imaging source on its way to the repository. Optimised content is put
back into the message where the recipient finds it, so that the schemas see what XOP means.
"""

from __future__ import annotations

import base64
import email
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from lxml import etree
from pydicom.data import get_testdata_file

from consumer.client import Consumer
from metadata.datatypes import CX
from metadata.model import DocumentEntry
from node.config_file import load
from node.documents import Description, provide
from node.wiring.common import affinity_domain
from soap.client import SoapClient
from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.foreign import run, standards
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
INCLUDE = "{http://www.w3.org/2004/08/xop/include}Include"
SCHEMAS = {
    SOAP: "ws/soap-1.2-envelope.xsd",
    WSA: "ws/ws-addr.xsd",
    "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": "xds-dcm4chee/schema/ebRS/lcm.xsd",
    "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0": "xds-dcm4chee/schema/ebRS/query.xsd",
    "urn:ihe:iti:xds-b:2007": "xds-dcm4chee/schema/IHE/XDS.b_DocumentRepository.xsd",
    "urn:ihe:rad:xdsi-b:2009": "xds-dcm4chee/schema/IHE/XDSI.b_ImagingDocumentSource.xsd",
}
PATIENT = "1CT1"
KOS = b"1.2.840.10008.5.1.4.1.1.88.59"
MIME_TYPE_SUFFICIENT = "urn:ihe:iti:xds:2017:mimeTypeSufficient"
# Headers that belong to one connection (RFC 9110 7.6.1), and those the recorder writes itself.
OWN_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date"}


class Message(NamedTuple):
    """One message: what it came with and its bytes."""

    content_type: str
    data: bytes

    def envelope(self) -> etree._Element:
        """The SOAP envelope, its optimised content put back."""
        message = email.message_from_bytes(
            f"Content-Type: {self.content_type}\r\n\r\n".encode() + self.data
        )
        parts = {
            part["Content-ID"]: bytes(part.get_payload(decode=True))
            for part in message.walk()
            if not part.is_multipart()
        }
        # A message that is no package is its own only part.
        root = message.get_param("start") if message.is_multipart() else None
        envelope = etree.fromstring(parts[root])
        for include in list(envelope.iter(INCLUDE)):
            element = include.getparent()
            assert element is not None
            content = parts[f"<{include.get('href', '').removeprefix('cid:')}>"]
            element.remove(include)
            element.text = base64.b64encode(content).decode()
        return envelope

    def action(self) -> str:
        """Its WS-Addressing action."""
        return self.envelope().findtext(f"{{{SOAP}}}Header/{{{WSA}}}Action", "")


class Recorder(ThreadingHTTPServer):
    """Passes requests on to a node and remembers both directions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream = ("", 0)
        self.messages: list[Message] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Passing(BaseHTTPRequestHandler):
    """One connection through the recorder."""

    server: Recorder
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Pass one request on, and its answer back."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with closing(HTTPConnection(*self.server.upstream, timeout=30)) as upstream:
            upstream.request("POST", self.path, body, dict(self._kept(self.headers.items())))
            answer = upstream.getresponse()
            data = answer.read()
        self.server.messages += [
            Message(self.headers["Content-Type"], body),
            Message(answer.headers["Content-Type"], data),
        ]
        self.send_response_only(answer.status)
        for name, value in self._kept(answer.headers.items()):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line in the test's output."""

    def _kept(self, headers: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        return ((name, value) for name, value in headers if name.lower() not in OWN_HEADERS)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.serve_forever)
    thread.start()
    yield recorder
    recorder.shutdown()
    thread.join()
    recorder.server_close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[RunningNode]:
    """A node whose repository and imaging source call their peers through the recorder."""
    nodes = Nodes(tmp_path_factory.mktemp("schemas"))
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KOSMOS__REPOSITORY__REGISTRY", f"{recorder.url}/registry")
            environment.setenv("KOSMOS__IMAGING_SOURCE__REPOSITORY", f"{recorder.url}/repository")
            environment.setenv("KOSMOS__IMAGING_SOURCE__REGISTRY", f"{recorder.url}/registry")
            node = nodes.start()
        where = urlsplit(node.endpoints["registry"])
        recorder.upstream = (str(where.hostname), int(where.port or 0))
        yield node
    finally:
        nodes.close()


@pytest.fixture(scope="module")
def messages(
    node: RunningNode, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> list[Message]:
    """Everything that travelled: publish, submit, find and fetch, with success and in vain."""
    folder = tmp_path_factory.mktemp("flow")
    assert node.announce(PATIENT) == "AA"
    publish_image(node)
    client = SoapClient()
    submit_document(node, recorder, client, folder)
    consumer = Consumer(
        f"{recorder.url}/registry",
        {node.settings["repository"]["unique_id"]: f"{recorder.url}/repository"},
        {node.settings["imaging_source"]["unique_id"]: f"{recorder.url}/imaging"},
        client,
    )
    entries = await_(lambda: found_both(consumer, node))
    for entry in entries:
        consumer.fetch_document(entry)
    [manifest] = [consumer.open_manifest(one) for one in entries if one.mime_type != "text/plain"]
    assert consumer.fetch_images(manifest, folder).complete
    consumer.get_documents(entry_uuid=[entry.entry_uuid for entry in entries])
    ask_in_vain(recorder, client, node)
    client.close()
    return list(recorder.messages)


def publish_image(node: RunningNode) -> None:
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    image = str(get_testdata_file("CT_small.dcm"))
    assert run("storescu", "-aec", "KOSMOS", host, port, image).returncode == 0


def submit_document(
    node: RunningNode, recorder: Recorder, client: SoapClient, folder: Path
) -> None:
    file = folder / "bonjour.txt"
    file.write_text("bonjour")
    answer = client.call(f"{recorder.url}/repository", ITI_41, request_for(node, PATIENT, file))
    assert answer.errors == ()


def request_for(node: RunningNode, identifier: str, file: Path) -> ProvideAndRegisterRequest:
    """The submission of ``file`` for a patient, its title in need of escaping."""
    settings = load(node.config)
    patient = CX(node.patient(identifier))
    description = Description(patient, "Été <&>\"'", "10", "18748-4", MIME_TYPE_SUFFICIENT)
    return provide(file, description, settings, affinity_domain(settings))[1]


def found_both(consumer: Consumer, node: RunningNode) -> list[DocumentEntry]:
    """The document and the manifest, once both are there."""
    found = consumer.find_documents(node.patient(PATIENT))
    return list(found) if len(found) == 2 else []


def ask_in_vain(recorder: Recorder, client: SoapClient, node: RunningNode) -> None:
    """Each transaction once more, so that it is answered with errors."""
    nowhere = DocumentRequest("1.2.3", "1.2.3.4")
    study = StudyRequest("1.2", (SeriesRequest("1.2.3", (nowhere,)),))
    refused = request_for(node, "STRANGER", node.config)
    assert client.call(f"{recorder.url}/registry", ITI_18, AdhocQueryRequest("urn:uuid:0")).errors
    assert client.call(f"{recorder.url}/repository", ITI_41, refused).errors
    assert client.call(f"{recorder.url}/registry", ITI_42, refused.submit).errors
    documents = RetrieveDocumentSetRequest((nowhere,))
    assert client.call(f"{recorder.url}/repository", ITI_43, documents).errors
    images = RetrieveImagingDocumentSetRequest((study,), ("1.2.840.10008.1.2.1",))
    assert client.call(f"{recorder.url}/imaging", RAD_69, images).errors


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    """All schemas as one: what the envelope leaves open is held to its own schema."""
    folder = standards()
    imports = "".join(
        f'<xs:import namespace="{namespace}" schemaLocation="{(folder / file).as_uri()}"/>'
        for namespace, file in SCHEMAS.items()
    )
    xsd = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{imports}</xs:schema>'
    return etree.XMLSchema(etree.fromstring(xsd))


def test_every_transaction_of_the_main_flow_was_recorded(messages: list[Message]) -> None:
    exchanges = (ITI_18, ITI_41, ITI_42, ITI_43, RAD_69)

    recorded = {message.action() for message in messages}

    assert recorded == {one.action for one in exchanges} | {
        one.response_action for one in exchanges
    }
    # RAD-68 travels under the action of ITI-41 (RAD TF-2 4.68.4.1.2).
    assert any(one.action() == ITI_41.action and KOS in one.data for one in messages)


def test_every_message_on_the_wire_is_valid_against_the_official_schemas(
    messages: list[Message], schema: etree.XMLSchema
) -> None:
    for message in messages:
        schema.assertValid(message.envelope())


def test_the_schemas_notice_a_message_that_is_wrong(
    messages: list[Message], schema: etree.XMLSchema
) -> None:
    for message in messages:
        envelope = message.envelope()
        body = envelope.find(f"{{{SOAP}}}Body")
        assert body is not None
        etree.SubElement(body[0], "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}Nonsense")
        assert not schema.validate(envelope)


@pytest.mark.parametrize(
    "broken",
    [
        "<a/>",
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>',
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body><x/></s:Body></s:Envelope>',
        f'<s:Envelope xmlns:s="{SOAP}"><s:Header><h xmlns="urn:&lt;" s:mustUnderstand="1"/>'
        "</s:Header><s:Body><x/></s:Body></s:Envelope>",
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{WSA}"><s:Header><a:Action>&lt;</a:Action>'
        "<a:MessageID>urn:uuid:1</a:MessageID></s:Header><s:Body><x/></s:Body></s:Envelope>",
    ],
)
@pytest.mark.parametrize("endpoint", ["registry", "repository", "imaging"])
def test_a_fault_is_valid_against_the_official_schemas(
    endpoint: str, broken: str, node: RunningNode, schema: etree.XMLSchema
) -> None:
    where = urlsplit(node.endpoints[endpoint])
    with closing(HTTPConnection(str(where.hostname), int(where.port or 0), timeout=30)) as http:
        http.request("POST", where.path, broken, {"Content-Type": "application/soap+xml"})
        answer = http.getresponse()
        fault = Message(answer.headers["Content-Type"], answer.read()).envelope()

    schema.assertValid(fault)
    assert fault.find(f"{{{SOAP}}}Body/{{{SOAP}}}Fault") is not None


@pytest.mark.parametrize("endpoint", ["registry", "repository", "imaging"])
@pytest.mark.parametrize("description", ["wsdl", "singleWsdl"])
def test_the_served_description_is_well_formed(
    endpoint: str, description: str, node: RunningNode
) -> None:
    where = urlsplit(node.endpoints[endpoint])
    with closing(HTTPConnection(str(where.hostname), int(where.port or 0), timeout=30)) as http:
        http.request("GET", f"{where.path}?{description}")
        text = http.getresponse().read().decode()

    told = run("xmllint", "--noout", "--nonet", "-", send=text)

    assert told.returncode == 0, told.stdout
    assert told.stdout == ""
