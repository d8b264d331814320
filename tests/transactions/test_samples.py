"""Messages published by others: each is read, or refused for the reason its publisher gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from soap.message import Incoming
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43
from transactions.query_decoding import DecodedQuery, decode
from transactions.transaction import InvalidBody

SOAP_BODY = "{http://www.w3.org/2003/05/soap-envelope}Body"
READERS: dict[str, Callable[[Incoming], Any]] = {
    "AdhocQueryRequest": ITI_18.read_request,
    "AdhocQueryResponse": ITI_18.read_response,
    "ProvideAndRegisterDocumentSetRequest": ITI_41.read_request,
    "RegistryResponse": ITI_42.read_response,
    "RetrieveDocumentSetRequest": ITI_43.read_request,
    "RetrieveDocumentSetResponse": ITI_43.read_response,
    "SubmitObjectsRequest": ITI_42.read_request,
}
REFUSED = {
    "xds-bodies/ProvideAndRegisterDocumentSet-bRequest_2.xml": "the body is",  # no namespace
    "xds-bodies/RetrieveDocumentSetResponse.xml": "not base64",  # one character too many
    # ebXML 2.1, which that test kit converts before it sends
    "testkit-metadata/11990/submit/single_doc.xml": "registry:xsd:2.1",
    "testkit-metadata/11992/rplc/metadata.xml": "registry:xsd:2.1",
}
READ = [
    "xds-bodies/CrossGatewayQueryRequest.xml",
    "xds-bodies/CrossGatewayQueryResponse.xml",
    "xds-bodies/InitiatingGatewayRequest.xml",
    "xds-bodies/InitiatingGatewayResponse.xml",
    "xds-bodies/ProvideAndRegisterDocumentSet-bRequest.xml",
    "xds-bodies/ProvideAndRegisterDocumentSet-bResponse.xml",
    "xds-bodies/RegistryStoredQueryFindDocs.xml",
    "xds-bodies/RegistryStoredQueryFindDocsResponse.xml",
    "xds-bodies/RetrieveDocumentSetRequest.xml",
    "xds-bodies/ipf_SubmitObjectsRequest_ebrs30.xml",
    "xds-bodies/ipf_SubmitObjectsRequest_ebrs30_update.xml",
    "xds-bodies/ipf_SubmitObjectsRequest_ebrs3_extra_metadata.xml",
    "soap/soap-noaction-pnr.xml",
    "soap/soap-pnr-resp.xml",
    "soap/soap-pnr.xml",
    "soap/soap-r-resp.xml",
    "soap/soap-ret-req.xml",
    "soap/soap-ret-resp.xml",
    "soap/soap-sq-req.xml",
    "soap/soap-xcq-req.xml",
    "soap/soap-xcq-resp-error.xml",
    "soap/soap-xcq-resp.xml",
    "soap/soap-xcr-req.xml",
    "soap/soap-xret-resp-error.xml",
    "soap/soap-xret-resp-homeless.xml",
    "soap/soap-xret-resp.xml",
    "testkit-metadata/15800/original/single_doc.xml",
    "xca-deferred/03_Sample_XCA_Query_Deferred_Results_message.xml",
    "xca-deferred/07_Sample_XCA_Retrieve_Deferred_Results_message.xml",
]
# Sample, and the query it asks; None for one that is not among ours.
QUERIES = {
    "xds-bodies/RegistryStoredQueryFindDocs.xml": "FindDocuments",
    "soap/soap-sq-req.xml": "FindDocuments",
    "testkit-metadata/11990/eval/query.xml": "GetSubmissionSetAndContents",
    "testkit-metadata/15800/query_by_uniqueid/query.xml": "GetDocuments",
    "xds-bodies/ipf_iti51request.xml": None,
}


def body_of(sample: Path) -> Incoming:
    root = etree.parse(sample).getroot()
    soap = root.find(SOAP_BODY)
    return Incoming(root if soap is None else soap[0])


def read(sample: Path) -> Any:
    message = body_of(sample)
    return READERS[message.body.tag.rpartition("}")[2]](message)


@pytest.mark.parametrize("name", READ)
def test_a_published_message_is_read(standards: Path, name: str) -> None:
    assert read(standards / "samples" / name) is not None


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_a_broken_published_message_is_refused(standards: Path, name: str, reason: str) -> None:
    with pytest.raises(InvalidBody, match=reason):
        read(standards / "samples" / name)


@pytest.mark.parametrize(("name", "query"), QUERIES.items())
def test_a_published_query_is_understood(standards: Path, name: str, query: str | None) -> None:
    meaning = decode(ITI_18.read_request(body_of(standards / "samples" / name)))
    if query is None:
        assert isinstance(meaning, list)
        assert meaning[0].error("ITI-18").code == "XDSUnknownStoredQuery"
    else:
        assert isinstance(meaning, DecodedQuery)
        assert meaning.query.name == query
