"""ITI-92: corrections that leave identity and origin alone (Restricted Metadata Update 3.92)."""

from __future__ import annotations

from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import OID, LocalizedString, new_uuid_urn

TITLE = LocalizedString("Corrected")


def test_what_is_free_can_be_corrected(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.version(document, title=TITLE, class_code=office.house.code("other"))
    office.accept(change, restricted=True)
    new = office.latest(document.entry_uuid)
    assert (new.version, new.title, new.class_code.code) == ("2", TITLE, "other")
    assert office.pairs(new.entry_uuid) == {("HasMember", folder.entry_uuid, new.entry_uuid)}


def test_a_deprecated_document_can_be_corrected(office: Any) -> None:
    document = office.house.registered()
    change = office.change()
    change.deprecate(document.entry_uuid)
    office.accept(change)
    change = office.change()
    change.version(office.stored(document.entry_uuid), title=TITLE)
    office.accept(change, restricted=True)
    assert office.latest(document.entry_uuid).availability_status == xds.DEPRECATED


def test_what_says_nothing_of_status_and_availability_changes_neither(office: Any) -> None:
    document = office.house.registered(document_availability=xds.ONLINE)
    change = office.change()
    change.version(document, availability_status=None, document_availability=None)
    office.accept(change, restricted=True)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"availability_status": xds.DEPRECATED}, "UnmodifiableMetadataError"),
        ({"document_availability": xds.OFFLINE}, "UnmodifiableMetadataError"),
        ({"repository_unique_id": OID("1.2.3.9")}, "UnmodifiableMetadataError"),
        ({"source_patient_info": ["PID-8|M"]}, "UnmodifiableMetadataError"),
        ({"unique_id": "1.2.3.9"}, "XDSMetadataIdentifierError"),
        ({"logical_id": new_uuid_urn()}, "XDSMetadataIdentifierError"),
        ({"logical_id": None}, "XDSInvalidRequestException"),
        ({"previous": None}, "XDSMetadataVersionError"),
        ({"previous": "0"}, "XDSMetadataVersionError"),
        ({"propagation": "maybe"}, "XDSMetadataAnnotationError"),
        ({"member": {"submission_set_status": "Reference"}}, "XDSMetadataAnnotationError"),
        ({"class_code": None}, "XDSRegistryMetadataError"),
    ],
)
def test_each_frozen_attribute_has_its_error(
    office: Any, attributes: dict[str, Any], code: str
) -> None:
    change = office.change()
    change.version(office.house.registered(), **attributes)
    assert office.errors(change, restricted=True) == [code]


def test_the_type_of_a_document_is_frozen(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), object_type=xds.ON_DEMAND)
    assert "XDSObjectTypeError" in office.errors(change, restricted=True)


def test_the_patient_is_frozen(office: Any) -> None:
    change = office.change("P2")
    change.version(office.house.registered())
    assert office.errors(change, restricted=True) == ["XDSPatientIDReconciliationError"]


def test_an_older_version_is_a_conflict(office: Any) -> None:
    first = office.house.registered()
    office.updated(first)
    change = office.change()
    change.version(first)
    assert office.errors(change, restricted=True) == ["XDSMetadataVersionError"]


def test_only_documents_can_be_corrected(office: Any) -> None:
    document, folder = office.house.filed()
    changes = [office.change() for _ in range(3)]
    changes[0].version(folder)
    changes[1].deprecate(document.entry_uuid)
    changes[2].submit(xds.HAS_MEMBER, folder.entry_uuid, document.entry_uuid)
    for change in changes:
        assert set(office.errors(change, restricted=True)) == {"XDSMetadataUpdateOperationError"}


def test_a_source_that_may_not_submit_breaks_local_policy(office: Any, domain: Any) -> None:
    document = office.house.registered()
    object.__setattr__(domain, "source_ids", frozenset({"1.9"}))
    change = office.change()
    change.version(document)
    assert office.errors(change, restricted=True) == ["LocalPolicyRestrictionError"]
