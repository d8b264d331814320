from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from metadata import identifiers as ids
from metadata.affinity_domain import AffinityDomain, CodeSet
from metadata.datatypes import (
    CX,
    DTM,
    HD,
    OID,
    XCN,
    XON,
    XTN,
    CXi,
    LocalizedString,
    Recipient,
)
from metadata.ebrim import read_objects, wrap, write_objects
from metadata.model import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)

STANDARDS = Path(__file__).parents[2].parent / "shared" / "standards"
AUTHORITY = "1.2.250.1.213.1.4.10"
DOCUMENT = "urn:uuid:11111111-1111-4111-8111-111111111111"
SUBMISSION_SET = "urn:uuid:22222222-2222-4222-8222-222222222222"
FOLDER = "urn:uuid:33333333-3333-4333-8333-333333333333"


@pytest.fixture(scope="session")
def standards() -> Path:
    """The official schemas and samples, where they are at hand."""
    if not STANDARDS.is_dir():
        pytest.skip(f"the official schemas and samples are not at {STANDARDS}")
    return STANDARDS


@pytest.fixture(scope="session")
def rim_schema(standards: Path) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(standards / "xds-dcm4chee" / "schema" / "ebRS" / "rim.xsd"))


@pytest.fixture(scope="session")
def domain() -> AffinityDomain:
    classes = CodeSet({("1.2.3.4", "31"): "Imaging", ("1.2.3.4", "10"): "Reports"})
    return AffinityDomain(
        HD.of(AUTHORITY),
        code_sets={"classCode": classes},
        mime_types=frozenset({"application/dicom", "application/pdf"}),
        languages=frozenset({"fr-fr", "fr-ch"}),
        source_ids=frozenset({"1.2.3.99"}),
    )


def _code(value: str) -> Code:
    return Code(value, "1.2.3.4", LocalizedString(f"name of {value}", "en"))


def _document() -> DocumentEntry:
    return DocumentEntry(
        entry_uuid=DOCUMENT,
        unique_id="1.2.3.4.5.1",
        patient_id=CX.of("PAT-1", AUTHORITY),
        title=LocalizedString("Thorax & abdomen", "fr"),
        comments=LocalizedString('says "hello"'),
        object_type=ids.STABLE,
        mime_type=ids.DICOM_MIME_TYPE,
        author=[
            Author(
                person=XCN("801^Martin^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO"),
                institution=[XON("Hospital A^^^^^&1.2.250.1.71.4.2.2&ISO^^^^1750")],
                role=["radiologist"],
                specialty=["imaging"],
                telecommunication=[XTN("^NET^Internet^anne@example.org")],
            ),
            Author(institution=[XON("Hospital B")]),
        ],
        class_code=_code("31"),
        type_code=_code("IMG-KOS"),
        format_code=_code(ids.KOS_FORMAT_CODE),
        healthcare_facility_type_code=_code("SA01"),
        practice_setting_code=_code("AMBULATOIRE"),
        confidentiality_code=[_code("N"), _code("R")],
        event_code_list=[_code("CT"), _code("774007")],
        creation_time=DTM("20260101120000"),
        service_start_time=DTM("202601011130"),
        service_stop_time=DTM("20260101"),
        language_code="fr-FR",
        legal_authenticator=XCN("801^Martin^Anne"),
        source_patient_id=CX.of("LOCAL-7", "1.2.3.55"),
        source_patient_info=["PID-3|LOCAL-7^^^&1.2.3.55&ISO", "PID-5|Doe^J", "PID-8|F"],
        reference_id_list=[CXi.of("1.2.840.1", ids.STUDY_INSTANCE_UID_REFERENCE)],
        repository_unique_id=OID("1.2.3.77"),
        hash="da39a3ee5e6b4b0d3255bfef95601890afd80709",
        size="1024",
        uri="study/kos.dcm",
        extra_slots={"urn:example:note": ["one", "two"]},
    )


def _submission_set() -> SubmissionSet:
    return SubmissionSet(
        entry_uuid=SUBMISSION_SET,
        unique_id=OID("1.2.3.4.5.2"),
        patient_id=CX.of("PAT-1", AUTHORITY),
        title=LocalizedString("Imaging study"),
        author=[Author(person=XCN("^Martin^Anne"))],
        content_type_code=_code("04"),
        intended_recipient=[Recipient("Hospital B|^Dupont^Jean")],
        source_id=OID("1.2.3.99"),
        submission_time=DTM("20260101121500"),
    )


def _folder() -> Folder:
    return Folder(
        entry_uuid=FOLDER,
        unique_id=OID("1.2.3.4.5.3"),
        patient_id=CX.of("PAT-1", AUTHORITY),
        title=LocalizedString("Knee, 2026"),
        code_list=[_code("KNEE")],
    )


def link(
    name: str, source: str, target: str, kind: str = ids.HAS_MEMBER, **attributes: Any
) -> Association:
    return Association(
        entry_uuid=name, association_type=kind, source=source, target=target, **attributes
    )


@pytest.fixture(name="link")
def link_fixture() -> Callable[..., Association]:
    """Makes an association: link(id, source, target, type=HasMember, **attributes)."""
    return link


@pytest.fixture
def one_document() -> Submission:
    """The commonest submission: one manifest, its SubmissionSet and the link between them."""
    original = link("as-doc", SUBMISSION_SET, DOCUMENT, submission_set_status=ids.ORIGINAL)
    return Submission([_submission_set()], [_document()], [], [original])


@pytest.fixture
def with_folder(one_document: Submission) -> Submission:
    """One document in a new folder."""
    one_document.folders = [_folder()]
    one_document.associations += [
        link("as-folder", SUBMISSION_SET, FOLDER),
        link("member", FOLDER, DOCUMENT),
        link("as-member", SUBMISSION_SET, "member"),
    ]
    return one_document


def reread(submission: Submission) -> Submission:
    return read_objects(etree.fromstring(wrap(write_objects(submission))))


@pytest.fixture(name="reread")
def reread_fixture() -> Callable[[Submission], Submission]:
    """Writes a submission and reads it back."""
    return reread


def exact(value: object) -> object:
    """``value`` with everything that equality leaves out: languages, display names, types."""
    if is_dataclass(value):
        return (
            type(value).__name__,
            [exact(getattr(value, field.name)) for field in fields(value)],
        )
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return (type(value).__name__, str(value), getattr(value, "lang", None))


@pytest.fixture(name="exact")
def exact_fixture() -> Callable[[object], object]:
    return exact
