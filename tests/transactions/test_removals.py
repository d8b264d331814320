"""ITI-86 on the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from metadata.identifiers import FAILURE, RMD, XDS
from soap.message import Incoming, Outgoing
from transactions.iti_43 import DocumentRequest
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.transaction import InvalidBody

Carry = Callable[[Outgoing], Incoming]
texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1)
requests = st.lists(
    st.builds(DocumentRequest, texts, texts, st.none() | texts), min_size=1, max_size=4
).map(lambda several: RemoveDocumentsRequest(tuple(several)))


@given(requests)
@settings(max_examples=50)
def test_a_removal_is_read_as_it_was_written(
    carry: Carry, request_: RemoveDocumentsRequest
) -> None:
    assert ITI_86.read_request(carry(ITI_86.write_request(request_))) == request_


def test_a_removal_follows_its_schema(standards: Path) -> None:
    """The schema as published admits one document; the profile's text, and we, several."""
    schema = etree.XMLSchema(etree.parse(standards / "rmd" / "rmd.xsd"))
    request = RemoveDocumentsRequest((DocumentRequest("1.2", "1.2.3", "urn:oid:1.9"),))
    schema.assertValid(etree.fromstring(b"".join(ITI_86.write_request(request).body)))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "has no <DocumentRequest>"),
        ("<x:DocumentRequest/>", "has no <RepositoryUniqueId>"),
        (
            "<x:DocumentRequest><x:RepositoryUniqueId>1</x:RepositoryUniqueId></x:DocumentRequest>",
            "has no <DocumentUniqueId>",
        ),
    ],
)
def test_an_incomplete_removal_is_invalid(body: str, problem: str) -> None:
    element = etree.fromstring(
        f'<r:RemoveDocumentsRequest xmlns:r="{RMD}" xmlns:x="{XDS}">{body}'
        "</r:RemoveDocumentsRequest>"
    )
    with pytest.raises(InvalidBody, match=problem):
        ITI_86.read_request(Incoming(element))


def test_a_body_that_cannot_be_read_is_refused() -> None:
    response = ITI_86.refuse("no")
    assert response.status == FAILURE
    assert [error.code for error in response.errors] == ["XDSRepositoryError"]
