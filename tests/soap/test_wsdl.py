"""The description of a service, as a foreign toolkit and the published schemas see it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
import zeep
from lxml import etree

from soap.endpoint import CallContext, Endpoint, Operation
from soap.message import Incoming, Outgoing
from soap.server import Router, running_server
from soap.wsdl import SCHEMAS

STANDARDS = Path(__file__).parents[2].parent / "shared" / "standards"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"


class Query:
    """ITI-18 as far as this test needs it: the request element in, an answer's bytes out."""

    number = "ITI-18"
    name = "Registry Stored Query"
    action = "urn:ihe:iti:2007:RegistryStoredQuery"
    response_action = "urn:ihe:iti:2007:RegistryStoredQueryResponse"
    root = f"{{{QUERY}}}AdhocQueryRequest"
    mtom = False

    @staticmethod
    def read_request(incoming: Incoming) -> etree._Element:
        return incoming.body

    @staticmethod
    def write_response(answer: bytes) -> Outgoing:
        return Outgoing([answer])


ANSWER = f"""<query:AdhocQueryResponse xmlns:query="{QUERY}" status="{SUCCESS}">
<rim:RegistryObjectList xmlns:rim="{RIM}">
<rim:ObjectRef id="urn:uuid:1" home="urn:oid:1.2"/>
<rim:ExtrinsicObject id="urn:uuid:2" mimeType="text/plain"><rim:Slot name="hash"><rim:ValueList>
<rim:Value>abc</rim:Value></rim:ValueList></rim:Slot>
<rim:Name><rim:LocalizedString xml:lang="fr" value="été"/></rim:Name></rim:ExtrinsicObject>
</rim:RegistryObjectList></query:AdhocQueryResponse>""".encode()


@pytest.fixture(scope="module")
def asked() -> list[etree._Element]:
    return []


@pytest.fixture(scope="module")
def url(asked: list[etree._Element], say: Any) -> Iterator[str]:
    def handler(request: etree._Element, _context: CallContext) -> bytes:
        asked.append(request)
        return ANSWER

    xds, lcm = "urn:ihe:iti:xds-b:2007", "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
    others = [
        replace(say, root=root, action=action, response_action=f"{action}Response")
        for root, action in (
            (f"{{{lcm}}}SubmitObjectsRequest", "urn:ihe:iti:2007:RegisterDocumentSet-b"),
            (f"{{{xds}}}RetrieveDocumentSetRequest", "urn:ihe:iti:2007:RetrieveDocumentSet"),
            (
                "{urn:ihe:rad:xdsi-b:2009}RetrieveImagingDocumentSetRequest",
                "urn:ihe:rad:2009:RetrieveImagingDocumentSet",
            ),
            ("{urn:unknown}Thing", "urn:unknown:Thing"),
        )
    ]
    query: Any = Query()
    operations = [
        Operation(query, handler, inline=True),
        *(Operation(other, lambda text, _context: text) for other in others),
    ]
    with ThreadPoolExecutor(2) as pool:
        endpoint = Endpoint(operations, pool=pool, title="R", service_name="DocumentRegistry")
        with running_server(Router({"/registry": endpoint})) as base:
            yield f"{base}/registry"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("description", ["?wsdl", "?WSDL", "?singleWsdl"])
def test_a_foreign_toolkit_makes_a_client_of_it_and_queries(
    url: str, asked: list[etree._Element], description: str
) -> None:
    toolkit: Any = zeep.Client(url + description)  # type: ignore[no-untyped-call]
    slot = {"name": "$XDSDocumentEntryPatientId", "ValueList": {"Value": ["'1^^^&1.2&ISO'"]}}
    answer = toolkit.service.DocumentRegistry_RegistryStoredQuery(
        ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
        AdhocQuery={"id": FIND_DOCUMENTS, "Slot": [slot]},
    )
    assert asked[-1].find(f"{{{RIM}}}AdhocQuery").get("id") == FIND_DOCUMENTS  # type: ignore[union-attr]
    assert asked[-1].findtext(f".//{{{RIM}}}Value") == "'1^^^&1.2&ISO'"
    assert answer.status == SUCCESS
    objects = answer.RegistryObjectList._value_1
    assert objects[0]["ObjectRef"].home == "urn:oid:1.2"
    assert objects[1]["ExtrinsicObject"].Slot[0].ValueList.Value == ["abc"]


def test_operations_are_named_and_marked_as_the_framework_does(url: str) -> None:
    root = etree.fromstring(urllib3.request("GET", url + "?wsdl").data)
    wsdl = "{http://schemas.xmlsoap.org/wsdl/}"
    port_type = root.find(f"{wsdl}portType")
    assert port_type is not None
    names = [operation.get("name") for operation in port_type]
    assert names == [
        "DocumentRegistry_RegistryStoredQuery",
        "DocumentRegistry_RegisterDocumentSet-b",
        "DocumentRegistry_RetrieveDocumentSet",
        "DocumentRegistry_RetrieveImagingDocumentSet",
    ]
    actions = [
        message.get("{http://www.w3.org/2006/05/addressing/wsdl}Action") for message in port_type[0]
    ]
    assert actions == [Query.action, Query.response_action]
    address = next(root.iter("{http://schemas.xmlsoap.org/wsdl/soap12/}address"))
    assert address.get("location") == url


def test_schemas_are_served_one_by_one(url: str) -> None:
    for name in SCHEMAS.values():
        answer = urllib3.request("GET", f"{url}?xsd={name}")
        assert answer.status == 200
        for element in etree.fromstring(answer.data).iter("{*}import"):
            imported = urllib3.request("GET", element.get("schemaLocation", ""))
            assert imported.status == 200
    assert urllib3.request("GET", f"{url}?xsd=../wsdl.py").status == 404


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> etree.XMLSchema:
    """Our schemas, all of them, as one."""
    folder = Path(__file__).parents[2] / "soap" / "schemas"
    imports = "".join(
        f'<import namespace="{namespace}" schemaLocation="{(folder / name).as_uri()}"/>'
        for namespace, name in SCHEMAS.items()
    )
    text = f'<schema xmlns="http://www.w3.org/2001/XMLSchema">{imports}</schema>'
    path = tmp_path_factory.mktemp("schema") / "all.xsd"
    path.write_text(text)
    return etree.XMLSchema(etree.parse(path))


def test_what_the_published_schemas_admit_ours_admit(schema: etree.XMLSchema) -> None:
    folder = STANDARDS / "samples" / "xds-bodies"
    if not folder.exists():
        pytest.skip("the published samples are not at hand")
    published = _published_schema()
    admitted = 0
    for path in sorted(folder.glob("*.xml")):
        document = etree.parse(path)
        if published.validate(document):
            schema.assertValid(document)
            admitted += 1
    assert admitted >= 5


def _published_schema() -> etree.XMLSchema:
    folder = STANDARDS / "xds-dcm4chee" / "schema"
    return etree.XMLSchema(etree.parse(folder / "IHE" / "XDSI.b_ImagingDocumentSource.xsd"))
