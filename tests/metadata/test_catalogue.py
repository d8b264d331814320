from __future__ import annotations

import pytest

from metadata import catalogue
from metadata.catalogue import RULES, Fault, RegistryError, Rule
from metadata.identifiers import ERROR, WARNING

TRANSACTIONS = {
    "ITI-18",
    "ITI-41",
    "ITI-42",
    "ITI-43",
    "ITI-51",
    "ITI-57",
    "ITI-62",
    "ITI-86",
    "ITI-92",
    "RAD-69",
}
# ITI TF-3 Table 4.2.4.1-2, the rows of the transactions above; XDSReplaceFailed is deprecated.
# Updates and removals use the codes of a registration beside those listed for them.
CODES_OF_THE_STANDARD = {
    "ITI-41": """DocumentQueued InvalidDocumentContent PartialAppendContentNotProcessed
        PartialFolderContentNotProcessed PartialRelationshipContentNotProcessed
        PartialReplaceContentNotProcessed PartialTransformNotProcessed
        PartialTransformReplaceNotProcessed UnresolvedReferenceException
        XDSDuplicateUniqueIdInRegistry XDSExtraMetadataNotSaved XDSMissingDocument
        XDSMissingDocumentMetadata XDSNonIdenticalHash XDSNonIdenticalSize
        XDSPatientIdDoesNotMatch XDSRepositoryBusy XDSRepositoryDuplicateUniqueIdInMessage
        XDSRepositoryError XDSRepositoryMetadataError XDSRegistryNotAvailable
        XDSRepositoryOutOfResources XDSUnknownPatientId""",
    "ITI-42": """UnresolvedReferenceException XDSDuplicateUniqueIdInRegistry
        XDSExtraMetadataNotSaved XDSNonIdenticalHash XDSNonIdenticalSize XDSPatientIdDoesNotMatch
        XDSRegistryBusy XDSRegistryDeprecatedDocumentError
        XDSRegistryDuplicateUniqueIdInMessage XDSRegistryError XDSRegistryMetadataError
        XDSRegistryOutOfResources XDSUnknownPatientId""",
    "ITI-18": """XDSMissingHomeCommunityId XDSRegistryBusy XDSRegistryError
        XDSRegistryOutOfResources XDSResultNotSinglePatient XDSStoredQueryMissingParam
        XDSStoredQueryParamNumber XDSTooManyResults XDSUnavailableCommunity XDSUnknownCommunity
        XDSUnknownPatientId XDSUnknownStoredQuery""",
    "ITI-51": """XDSRegistryBusy XDSRegistryError XDSRegistryOutOfResources
        XDSStoredQueryMissingParam XDSStoredQueryParamNumber XDSTooManyResults
        XDSUnknownPatientId XDSUnknownStoredQuery""",
    "ITI-43": """XDSDocumentUniqueIdError XDSMissingHomeCommunityId XDSRepositoryBusy
        XDSRepositoryError XDSRepositoryOutOfResources XDSResultNotSinglePatient
        XDSTooManyResults XDSUnavailableCommunity XDSUnknownCommunity XDSUnknownRepositoryId""",
    "ITI-86": """XDSDocumentUniqueIdError XDSRemoveDocumentsError XDSRepositoryError
        XDSUnknownRepositoryId""",
    "RAD-69": """XDSDocumentUniqueIdError XDSIRequestError XDSRepositoryError
        XDSUnknownRepositoryId""",
    "ITI-57": """XDSMetadataUpdateError XDSMetadataUpdateOperationError
        XDSPatientIDReconciliationError XDSMetadataVersionError""",
    "ITI-62": """UnresolvedReferenceException ReferencesExistException
        XDSUnreferencedObjectException XDSRegistryError""",
    "ITI-92": """XDSMetadataVersionError XDSPatientIDReconciliationError XDSObjectTypeError
        XDSMetadataIdentifierError XDSInvalidRequestException UnmodifiableMetadataError
        LocalPolicyRestrictionError XDSMetadataAnnotationError""",
}


def fault_of(rule: Rule, object_id: str = "the object") -> Fault:
    return Fault(rule, object_id, **{name: f"<{name}>" for name in rule.details()})


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_says_where_it_is_written_and_what_it_becomes_on_the_wire(rule: Rule) -> None:
    assert rule.spec
    assert rule.codes
    assert rule.codes.keys() <= TRANSACTIONS
    assert rule.severity in (ERROR, WARNING)
    for transaction in rule.codes:
        error = fault_of(rule).error(transaction)
        assert error.code == rule.codes[transaction]
        assert error.severity == rule.severity
        assert rule.id in error.context
        for name in rule.details():
            assert f"<{name}>" in error.context


def test_rules_are_found_under_their_own_id_and_name() -> None:
    for rule_id, rule in RULES.items():
        assert rule.id == rule_id
        assert getattr(catalogue, rule_id.upper().replace("-", "_")) is rule


@pytest.mark.parametrize("transaction", CODES_OF_THE_STANDARD)
def test_every_code_of_the_standard_can_be_sent(transaction: str) -> None:
    known = {rule.codes[transaction] for rule in RULES.values() if transaction in rule.codes}
    assert set(CODES_OF_THE_STANDARD[transaction].split()) <= known


def test_no_code_is_invented() -> None:
    standard = {code for codes in CODES_OF_THE_STANDARD.values() for code in codes.split()}
    assert {code for rule in RULES.values() for code in rule.codes.values()} <= standard


def test_the_prefix_of_a_code_tells_the_detecting_actor() -> None:
    fault = fault_of(catalogue.ATTRIBUTE_REQUIRED)
    assert fault.error("ITI-42").code == "XDSRegistryMetadataError"
    assert fault.error("ITI-41").code == "XDSRepositoryMetadataError"
    assert fault.error("RAD-68").code == "XDSRepositoryMetadataError"


def test_an_update_uses_the_codes_of_a_registration_where_it_has_none_of_its_own() -> None:
    fault = fault_of(catalogue.ATTRIBUTE_REQUIRED)
    for transaction in ("ITI-57", "ITI-62", "ITI-92"):
        assert fault.error(transaction).code == "XDSRegistryMetadataError"
    fault = fault_of(catalogue.OPERATION)
    assert fault.error("ITI-92").code == fault.error("ITI-57").code
    with pytest.raises(KeyError):
        fault.error("ITI-42")


def test_the_fault_of_an_update_is_located_at_its_object() -> None:
    assert fault_of(catalogue.OPERATION, "D").error("ITI-57").location == "D"
    assert fault_of(catalogue.ATTRIBUTE_FROZEN, "D").error("ITI-92").location == "D"


def test_a_rule_has_no_code_where_it_is_never_applied() -> None:
    with pytest.raises(KeyError):
        fault_of(catalogue.UNKNOWN_STORED_QUERY).error("ITI-42")


def test_a_retrieve_fault_is_located_at_its_document() -> None:
    error = Fault(catalogue.UNKNOWN_DOCUMENT, "1.2.3").error("ITI-43")
    assert error == RegistryError(
        "XDSDocumentUniqueIdError",
        "document 1.2.3 is not known here [unknown-document; "
        "ITI TF-2 3.43.4.1.3; RAD TF-2 4.69.4.1.3]",
        ERROR,
        "1.2.3",
    )
    assert Fault(catalogue.UNKNOWN_DOCUMENT, "1.2.3").error("RAD-69").location == "1.2.3"
    assert fault_of(catalogue.UNKNOWN_PATIENT).error("ITI-18").location == ""


def test_a_fault_without_a_detail_of_its_message_is_refused() -> None:
    with pytest.raises(TypeError, match="value"):
        Fault(catalogue.UNKNOWN_PATIENT, "x")


def test_an_object_without_an_id_is_still_named() -> None:
    assert "(no id)" in fault_of(catalogue.ID_MISSING, "").message()


def test_a_very_long_value_is_quoted_in_part() -> None:
    fault = Fault(catalogue.MIME_TYPE_NOT_ALLOWED, "D", value="x" * 5000, remedy="")
    assert len(fault.message()) < 600


def test_braces_in_a_value_are_only_text() -> None:
    fault = Fault(catalogue.UNKNOWN_PATIENT, "{object}", value="{value} {0}")
    assert "patientId {value} {0} of {object} is" in fault.message()
