from __future__ import annotations

from collections.abc import Callable

import pytest

from metadata.datatypes import CX, DTM, OID, LocalizedString, new_oid
from metadata.identifiers import HAS_MEMBER, STABLE
from metadata.model import Association, Code, DocumentEntry, Submission, SubmissionSet

SCHEME = "1.2.250.1.213.1.1.4.1"


def _code(code: str) -> Code:
    return Code(code, SCHEME, LocalizedString(code))


@pytest.fixture
def new_submission() -> Callable[[CX], Submission]:
    """Makes a submission of one document, fit for any registry that knows the patient."""

    def make(patient: CX) -> Submission:
        document = DocumentEntry(
            entry_uuid="document",
            unique_id=new_oid(),
            patient_id=patient,
            object_type=STABLE,
            mime_type="text/plain",
            class_code=_code("31"),
            type_code=_code("IMG-KOS"),
            format_code=_code("urn:ihe:iti:xds:2017:mimeTypeSufficient"),
            healthcare_facility_type_code=_code("SA01"),
            practice_setting_code=_code("AMBULATOIRE"),
            confidentiality_code=[_code("N")],
            creation_time=DTM("20261122"),
            language_code="fr-FR",
            source_patient_id=patient,
        )
        package = SubmissionSet(
            entry_uuid="package",
            unique_id=new_oid(),
            patient_id=patient,
            content_type_code=_code("04"),
            source_id=OID("1.2.250.1.999.1"),
            submission_time=DTM("20261122101500"),
        )
        link = Association(
            entry_uuid="link",
            association_type=HAS_MEMBER,
            source="package",
            target="document",
            submission_set_status="Original",
        )
        return Submission([package], [document], [], [link])

    return make
