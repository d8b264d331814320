from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from metadata.catalogue import RegistryError
from metadata.identifiers import ERROR, FAILURE, PARTIAL_SUCCESS, RS, SUCCESS, WARNING
from soap.message import Incoming, Outgoing
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    status_of,
    write_response,
)
from transactions.transaction import InvalidBody

AN_ERROR = RegistryError("XDSRegistryError", "context", ERROR, "place")
A_WARNING = RegistryError("XDSExtraMetadataNotSaved", "context", WARNING)

# What XML can carry, attributes included (line breaks are escaped by the writer).
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
errors = st.builds(
    RegistryError,
    code=st.sampled_from(["XDSRegistryError", "urn:dicom:wado:0007"]),
    context=texts.map(lambda text: "x" + text + "\n\t<&>\"'x"),
    severity=st.sampled_from([ERROR, WARNING]),
    location=st.sampled_from(["", "1.2.3"]),
)


def reading(xml: str) -> RegistryResponse:
    return read_response(Incoming(etree.fromstring(xml)))


@pytest.mark.parametrize(
    ("listed", "results", "status"),
    [
        ((), False, SUCCESS),
        ((), True, SUCCESS),
        ((A_WARNING,), False, SUCCESS),
        ((A_WARNING,), True, SUCCESS),
        ((A_WARNING, AN_ERROR), False, FAILURE),
        ((AN_ERROR, A_WARNING), True, PARTIAL_SUCCESS),
    ],
)
def test_status_follows_from_errors_and_results(
    listed: tuple[RegistryError, ...], results: bool, status: str
) -> None:
    assert status_of(listed, results) == status


@given(st.lists(errors, max_size=4))
def test_a_response_is_read_as_it_was_written(
    carry: Callable[[Outgoing], Incoming], listed: list[RegistryError]
) -> None:
    response = RegistryResponse.of(listed)
    assert read_response(carry(write_response(response))) == response


@pytest.mark.parametrize("listed", [[], [AN_ERROR], [A_WARNING], [A_WARNING, AN_ERROR]])
def test_a_response_is_valid(
    assert_valid: Callable[[Outgoing], None], listed: list[RegistryError]
) -> None:
    assert_valid(write_response(RegistryResponse.of(listed)))


@pytest.mark.parametrize(
    ("listed", "highest"), [([A_WARNING], WARNING), ([A_WARNING, AN_ERROR], ERROR)]
)
def test_the_list_names_its_worst_severity(listed: list[RegistryError], highest: str) -> None:
    body = etree.fromstring(b"".join(write_response(RegistryResponse.of(listed)).body))
    assert body[0].get("highestSeverity") == highest


def test_an_error_without_context_is_sent_with_its_code() -> None:
    body = b"".join(
        write_response(RegistryResponse.of([RegistryError("XDSRegistryBusy", "")])).body
    )
    assert b'codeContext="XDSRegistryBusy"' in body
    assert b"location" not in body


def test_characters_that_xml_cannot_carry_are_replaced(
    carry: Callable[[Outgoing], Incoming],
) -> None:
    response = RegistryResponse.of([RegistryError("XDSRegistryError", "a\x00b\ud800c")])
    assert read_response(carry(write_response(response))).errors[0].context == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success", SUCCESS),
        ("  urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success\n", SUCCESS),
        ("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Approved", SUCCESS),
        ("urn:ihe:iti:2007:ResponseStatusType:Success", SUCCESS),
        ("Failure", FAILURE),
        ("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Unavailable", FAILURE),
        ("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:PartialSuccess", PARTIAL_SUCCESS),
        ("urn:ihe:iti:2007:ResponseStatusType:PartialSuccess", PARTIAL_SUCCESS),
    ],
)
def test_odd_statuses_of_peers_are_understood(sent: str, meant: str) -> None:
    assert reading(f'<RegistryResponse xmlns="{RS}" status="{sent}"/>').status == meant


@pytest.mark.parametrize("attribute", ["", 'status=""', 'status="urn:x:Maybe"'])
def test_a_response_without_a_known_status_is_invalid(attribute: str) -> None:
    with pytest.raises(InvalidBody, match="status"):
        reading(f'<RegistryResponse xmlns="{RS}" {attribute}/>')


def test_an_error_needs_only_its_code() -> None:
    response = reading(
        f'<r:RegistryResponse xmlns:r="{RS}" status="{FAILURE}"><r:RegistryErrorList>'
        '<r:RegistryError errorCode="XDSRegistryBusy">later</r:RegistryError>'
        f'<r:RegistryError errorCode="A" codeContext="b" severity="Warning" location=" c "/>'
        "</r:RegistryErrorList></r:RegistryResponse>"
    )
    assert response.errors == (
        RegistryError("XDSRegistryBusy", "later", ERROR),
        RegistryError("A", "b", WARNING, "c"),
    )


def test_an_error_without_a_code_is_invalid() -> None:
    with pytest.raises(InvalidBody, match="<RegistryError> has no attribute errorCode"):
        reading(
            f'<r:RegistryResponse xmlns:r="{RS}" status="{FAILURE}"><r:RegistryErrorList>'
            "<r:RegistryError/></r:RegistryErrorList></r:RegistryResponse>"
        )


def test_another_root_is_invalid() -> None:
    with pytest.raises(InvalidBody, match="expected"):
        reading(f'<Other xmlns="{RS}"/>')


@pytest.mark.parametrize(
    ("transaction", "code"),
    [
        ("ITI-18", "XDSRegistryError"),
        ("ITI-41", "XDSRepositoryMetadataError"),
        ("ITI-42", "XDSRegistryMetadataError"),
        ("ITI-43", "XDSRepositoryError"),
        ("RAD-68", "XDSRepositoryMetadataError"),
        ("RAD-69", "XDSRepositoryError"),
    ],
)
def test_an_unreadable_body_fails_with_the_transactions_code(transaction: str, code: str) -> None:
    response = failure(transaction, "no <AdhocQuery>")
    assert response.status == FAILURE
    (error,) = response.errors
    assert error.code == code
    assert "no <AdhocQuery>" in error.context
    assert error.location == ""
