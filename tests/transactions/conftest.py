from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from metadata.datatypes import CX, DTM, OID, XCN, LocalizedString
from metadata.identifiers import APPROVED, HAS_MEMBER, STABLE
from metadata.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from soap.message import XOP_INCLUDE, Incoming, InMemory, Outgoing
from transactions.audit import Node, Scene, Side

STANDARDS = Path(__file__).parents[2].parent / "shared" / "standards"
_SCHEMAS = {
    "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": "ebRS/lcm.xsd",
    "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0": "ebRS/query.xsd",
    "urn:ihe:iti:xds-b:2007": "IHE/XDS.b_DocumentRepository.xsd",
    "urn:ihe:rad:xdsi-b:2009": "IHE/XDSI.b_ImagingDocumentSource.xsd",
}


@pytest.fixture(scope="session")
def standards() -> Path:
    """The folder of official schemas and samples."""
    if not STANDARDS.is_dir():
        pytest.skip("the folder of official schemas and samples is not beside this project")
    return STANDARDS


@pytest.fixture(scope="session")
def xds_schema(standards: Path) -> etree.XMLSchema:
    """Every schema of XDS.b and XDS-I.b in one."""
    folder = (standards / "xds-dcm4chee" / "schema").as_uri()
    imports = "".join(
        f'<xs:import namespace="{namespace}" schemaLocation="{folder}/{path}"/>'
        for namespace, path in _SCHEMAS.items()
    )
    xsd = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{imports}</xs:schema>'
    return etree.XMLSchema(etree.fromstring(xsd))


@pytest.fixture(scope="session")
def assert_valid(xds_schema: etree.XMLSchema) -> Callable[[Outgoing], None]:
    """Check a message's body against the schemas, its included parts taken as empty."""

    def check(message: Outgoing) -> None:
        body = etree.fromstring(b"".join(message.body))
        for include in list(body.iter(XOP_INCLUDE)):
            parent = include.getparent()
            assert parent is not None
            parent.remove(include)
        xds_schema.assertValid(body)

    return check


@pytest.fixture(scope="session")
def carry() -> Callable[[Outgoing], Incoming]:
    """Take a message from its writer to its reader, as a wire would."""

    def across(message: Outgoing) -> Incoming:
        attachments = {
            part.content_id: InMemory(b"".join(part.content.chunks())) for part in message.parts
        }
        return Incoming(etree.fromstring(b"".join(message.body)), attachments=attachments)

    return across


@pytest.fixture
def submission() -> Submission:
    """One document in one submission set."""
    patient = CX.of("MRN-1", "1.2.3.4")
    code = Code("1", "1.2.3", LocalizedString("one"))
    author = Author(person=XCN("^Curie^Marie"))
    document = DocumentEntry(
        entry_uuid="Document01",
        object_type=STABLE,
        availability_status=APPROVED,
        mime_type="application/dicom",
        unique_id="1.2.3.4.5",
        patient_id=patient,
        source_patient_id=CX.of("LOCAL-1", "1.2.3.5"),
        author=[author],
        class_code=code,
        type_code=code,
        format_code=code,
        healthcare_facility_type_code=code,
        practice_setting_code=code,
        confidentiality_code=[code],
        creation_time=DTM("20260101"),
        language_code="fr-FR",
        title=LocalizedString("Scanner thoracique — « étude »", "fr"),
    )
    submission_set = SubmissionSet(
        entry_uuid="SubmissionSet01",
        unique_id="1.2.3.4.6",
        patient_id=patient,
        source_id=OID("1.2.3.7"),
        submission_time=DTM("20260102"),
        content_type_code=code,
        author=[author],
    )
    member = Association(
        entry_uuid="Association01",
        association_type=HAS_MEMBER,
        source="SubmissionSet01",
        target="Document01",
        submission_set_status="Original",
    )
    return Submission([submission_set], [document], [], [member])


@pytest.fixture
def scene() -> Callable[[Side], Scene]:
    """The circumstances of an exchange, seen from one side."""

    def seen_from(side: Side) -> Scene:
        return Scene(
            side=side,
            when=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
            client=Node("consumer", "10.0.0.1", "4711"),
            server=Node("https://repository.example/repository", "repository.example"),
            source_id="kosmos",
        )

    return seen_from
