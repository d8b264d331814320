"""The WSDL 1.1 description of a service, built from its operations (ITI TF-2 V.2.4).

Operations are named as the Framework names them (``DocumentRegistry_RegistryStoredQuery``),
carry their WS-Addressing actions, and are bound to SOAP 1.2 document/literal. The schemas
beside this module are our own: exact in names, namespaces and order of elements, broad in
what values they admit, so that toolkits can make clients of them; they validate nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any
from xml.sax.saxutils import quoteattr

from lxml import etree

from soap.faults import WSA
from soap.operation import Exchange

_RIM, _RS, _LCM, _QUERY = (
    f"urn:oasis:names:tc:ebxml-regrep:xsd:{name}:3.0" for name in ("rim", "rs", "lcm", "query")
)
_XDS = "urn:ihe:iti:xds-b:2007"
_XDSI = "urn:ihe:rad:xdsi-b:2009"
_HL7 = "urn:hl7-org:v3"
_RMD = "urn:ihe:iti:rmd:2017"
_WSN = "http://docs.oasis-open.org/wsn/b-2"
SCHEMAS = {  # in an order where each imports only those before it
    _RIM: "rim.xsd",
    _RS: "rs.xsd",
    _LCM: "lcm.xsd",
    _QUERY: "query.xsd",
    _XDS: "xds.xsd",
    _XDSI: "xdsi.xsd",
    _HL7: "hl7v3.xsd",
    _RMD: "rmd.xsd",
    WSA: "addressing.xsd",
    _WSN: "wsn.xsd",
}
_RESPONSES = {  # nothing answers a one-way message
    f"{{{_QUERY}}}AdhocQueryRequest": f"{{{_QUERY}}}AdhocQueryResponse",
    f"{{{_LCM}}}SubmitObjectsRequest": f"{{{_RS}}}RegistryResponse",
    f"{{{_LCM}}}RemoveObjectsRequest": f"{{{_RS}}}RegistryResponse",
    f"{{{_XDS}}}ProvideAndRegisterDocumentSetRequest": f"{{{_RS}}}RegistryResponse",
    f"{{{_XDS}}}RetrieveDocumentSetRequest": f"{{{_XDS}}}RetrieveDocumentSetResponse",
    **{
        f"{{{_HL7}}}PRPA_IN{number}UV02": f"{{{_HL7}}}MCCI_IN000002UV01"
        for number in ("201301", "201302", "201304")
    },
    f"{{{_RMD}}}RemoveDocumentsRequest": f"{{{_RS}}}RegistryResponse",
    f"{{{_XDSI}}}RetrieveImagingDocumentSetRequest": f"{{{_XDS}}}RetrieveDocumentSetResponse",
    f"{{{_WSN}}}Subscribe": f"{{{_WSN}}}SubscribeResponse",
    f"{{{_WSN}}}Unsubscribe": f"{{{_WSN}}}UnsubscribeResponse",
    f"{{{_WSN}}}Notify": None,
    f"{{{_WSN}}}CreatePullPoint": f"{{{_WSN}}}CreatePullPointResponse",
    f"{{{_WSN}}}DestroyPullPoint": f"{{{_WSN}}}DestroyPullPointResponse",
    f"{{{_WSN}}}GetMessages": f"{{{_WSN}}}GetMessagesResponse",
}
_LAST_WORD = re.compile("[^:/]+$")
_LOCATION = re.compile(r'schemaLocation="([^"]*)"')
_DEFINITIONS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/"'
    ' xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/"'
    ' xmlns:wsaw="http://www.w3.org/2006/05/addressing/wsdl"'
    ' xmlns:wsam="http://www.w3.org/2007/05/addressing/metadata"'
    ' xmlns:xs="http://www.w3.org/2001/XMLSchema"'
    f' xmlns:tns="{_XDS}" targetNamespace="{_XDS}" name=%s>'
)


def describable(exchanges: Iterable[Exchange[Any, Any]]) -> list[Exchange[Any, Any]]:
    """The exchanges whose body elements our schemas know."""
    return [exchange for exchange in exchanges if exchange.root in _RESPONSES]


def write_wsdl(
    service: str, exchanges: Sequence[Exchange[Any, Any]], address: str, *, single: bool
) -> bytes:
    """The description of ``service`` at ``address``; ``single`` includes the schemas."""
    known = describable(exchanges)
    names = [f"{service}_{_LAST_WORD.findall(exchange.action)[0]}" for exchange in known]
    pairs = list(zip(names, known, strict=True))
    port_type, binding = f"{service}_PortType", f"{service}_Binding_Soap12"
    lines = [
        _DEFINITIONS % quoteattr(service),
        f"<wsdl:types>{_types(address, single=single)}</wsdl:types>",
        *(_messages(name, exchange) for name, exchange in pairs),
        f'<wsdl:portType name="{port_type}">',
        *(_abstract(name, exchange) for name, exchange in pairs),
        f'</wsdl:portType><wsdl:binding name="{binding}" type="tns:{port_type}">'
        '<soap12:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>'
        '<wsaw:UsingAddressing wsdl:required="true"/>',
        *(_concrete(name, exchange) for name, exchange in pairs),
        f'</wsdl:binding><wsdl:service name="{service}_Service">'
        f'<wsdl:port name="{service}_Port_Soap12" binding="tns:{binding}">'
        f"<soap12:address location={quoteattr(address)}/></wsdl:port></wsdl:service>",
        "</wsdl:definitions>",
    ]
    return "\n".join(lines).encode("utf-8")


def read_schema(name: str, address: str) -> bytes | None:
    """The schema file called ``name`` with its imports pointing below ``address``, if any."""
    if name not in SCHEMAS.values():
        return None
    return _LOCATION.sub(
        lambda match: f"schemaLocation={quoteattr(f'{address}?xsd={match[1]}')}", _schema(name)
    ).encode("utf-8")


def _schema(name: str) -> str:
    return (files("soap") / "schemas" / name).read_text(encoding="utf-8")


def _types(address: str, *, single: bool) -> str:
    if single:
        return "\n".join(_inline(name) for name in SCHEMAS.values())
    imports = (
        f'<xs:import namespace="{namespace}" schemaLocation={quoteattr(f"{address}?xsd={name}")}/>'
        for namespace, name in SCHEMAS.items()
    )
    return f"<xs:schema>{''.join(imports)}</xs:schema>"


def _inline(name: str) -> str:
    """A schema without XML declaration, its imports satisfied by its neighbours."""
    return _LOCATION.sub("", _schema(name).partition("?>")[2])


def _messages(name: str, exchange: Exchange[Any, Any]) -> str:
    response = _RESPONSES[exchange.root]
    answer = _message(f"{name}Response_Message", response) if response else ""
    return _message(f"{name}_Message", exchange.root) + answer


def _message(name: str, element: str) -> str:
    qname = etree.QName(element)
    return (
        f'<wsdl:message name="{name}"><wsdl:part name="body" xmlns:body="{qname.namespace}" '
        f'element="body:{qname.localname}"/></wsdl:message>'
    )


def _abstract(name: str, exchange: Exchange[Any, Any]) -> str:
    answer = exchange.response_action
    output = f'<wsdl:output message="tns:{name}Response_Message" {_actions(answer)}/>'
    return (
        f'<wsdl:operation name="{name}">'
        f'<wsdl:input message="tns:{name}_Message" {_actions(exchange.action)}/>'
        f"{output if answer else ''}</wsdl:operation>"
    )


def _actions(action: str) -> str:
    """The action by the submission's attribute and by the standard's: toolkits know either."""
    return f"wsaw:Action={quoteattr(action)} wsam:Action={quoteattr(action)}"


def _concrete(name: str, exchange: Exchange[Any, Any]) -> str:
    output = '<wsdl:output><soap12:body use="literal"/></wsdl:output>'
    return (
        f'<wsdl:operation name="{name}">'
        f'<soap12:operation soapAction={quoteattr(exchange.action)} soapActionRequired="false"/>'
        '<wsdl:input><soap12:body use="literal"/></wsdl:input>'
        f"{output if exchange.response_action else ''}</wsdl:operation>"
    )
