"""A registration and a manifest, small, with something of everything."""

from datetime import UTC, datetime

from manifest.model import Manifest, ManifestInstance, ManifestSeries, Patient, Study
from metadata import identifiers as ids
from metadata.datatypes import CX, DTM, OID, XCN, XON, CXi, LocalizedString
from metadata.model import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)

_CODE = Code("31", "1.2.3.4", LocalizedString("Imaging", "en"))
_PATIENT = CX.of("PAT-1", "1.2.3")
_SET, _DOCUMENT, _FOLDER = (f"urn:uuid:{n}1111111-1111-4111-8111-111111111111" for n in "123")
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def submission() -> Submission:
    """A document in a folder."""
    document = DocumentEntry(
        entry_uuid=_DOCUMENT,
        unique_id="1.2.4",
        patient_id=_PATIENT,
        title=LocalizedString("Thorax & abdomen", "fr"),
        object_type=ids.STABLE,
        mime_type=ids.DICOM_MIME_TYPE,
        author=[Author(person=XCN("801^Martin^Anne"), institution=[XON("Hospital")])],
        class_code=_CODE,
        confidentiality_code=[_CODE],
        creation_time=DTM("20260101120000"),
        reference_id_list=[CXi.of("1.2.8", ids.STUDY_INSTANCE_UID_REFERENCE)],
        repository_unique_id=OID("1.2.7"),
        hash="da39a3ee5e6b4b0d3255bfef95601890afd80709",
        size="0",
    )
    return Submission(
        [
            SubmissionSet(
                entry_uuid=_SET,
                unique_id=OID("1.2.5"),
                patient_id=_PATIENT,
                content_type_code=_CODE,
                source_id=OID("1.2.9"),
                submission_time=DTM("20260101121500"),
            )
        ],
        [document],
        [Folder(entry_uuid=_FOLDER, unique_id=OID("1.2.6"), patient_id=_PATIENT)],
        [_link("a", _SET, _DOCUMENT), _link("b", _SET, _FOLDER), _link("c", _FOLDER, _DOCUMENT)],
    )


def _link(name: str, source: str, target: str) -> Association:
    return Association(
        entry_uuid=name, association_type=ids.HAS_MEMBER, source=source, target=target
    )


def manifest() -> Manifest:
    """Two images of one series."""
    study = Study(
        study_instance_uid="1.2.3.1",
        patient=Patient(patient_id="1", issuer="H", issuer_oid="1.2.3", name="A^Bé", sex="F"),
        date="20240704",
        time="003000.123",
        timezone_offset="+0200",
        accession_number="ACC-1",
        accession_issuer_oid="1.2.9.2",
    )
    series = ManifestSeries(
        series_instance_uid="1.2.3.2",
        retrieve_location_uid="1.2.3.9",
        retrieve_ae_title="KOSMOS",
        retrieve_url="https://images.example/dicomweb",
        instances=tuple(ManifestInstance(CT_IMAGE, f"1.2.3.3.{number}") for number in range(2)),
        modality="CT",
        body_part="HEAD",
    )
    return Manifest(
        sop_instance_uid="2.25.11",
        series_instance_uid="2.25.12",
        study=study,
        series=(series,),
        created=datetime(2024, 7, 4, tzinfo=UTC),
    )
