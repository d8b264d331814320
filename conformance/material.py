"""Made-up documents and metadata: right in every attribute unless a case changes one.

Ids are fresh UUIDs chosen here (a registry keeps them), so that cases know what to ask for.
Codes are those of the target's affinity domain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from conformance.targets import Targets
from metadata.datatypes import CX, DTM, OID, XCN, XON, LocalizedString, new_oid, new_uuid_urn
from metadata.identifiers import HAS_MEMBER, ORIGINAL, REFERENCE, STABLE
from metadata.model import Association, Author, DocumentEntry, Folder, Submission, SubmissionSet

Object = TypeVar("Object")

SOURCE_ID = OID("2.25.116518424098353498471384623424")
"""The kit as a document source."""

SOMEWHERE = OID("2.25.116518424098353498471384623425")
"""A repository that does not exist: for entries whose document nobody asks for."""

TEXT = b"Kosmos conformance kit: a test document.\n"
MIME_TYPE = "text/plain"


def document_entry(
    targets: Targets, patient: CX, content: bytes = TEXT, **changes: Any
) -> DocumentEntry:
    """A Stable DocumentEntry as a registry wants it; ``changes`` replace attributes."""
    entry = DocumentEntry(
        entry_uuid=new_uuid_urn(),
        object_type=STABLE,
        unique_id=new_oid(),
        patient_id=patient,
        title=LocalizedString("Conformance test document", "en"),
        mime_type=mime_type(targets),
        author=[Author(person=XCN("^WELBY^MARCUS"), institution=[XON("General Hospital")])],
        class_code=targets.codes("classCode")[0],
        type_code=targets.codes("typeCode")[0],
        format_code=targets.codes("formatCode")[0],
        healthcare_facility_type_code=targets.codes("healthcareFacilityTypeCode")[0],
        practice_setting_code=targets.codes("practiceSettingCode")[0],
        confidentiality_code=[targets.codes("confidentialityCode")[0]],
        creation_time=DTM("20260301120000"),
        language_code=language(targets),
        source_patient_id=CX.of("LOCAL-1", "2.25.7"),
        source_patient_info=["PID-5|TEST^PATIENT", "PID-7|19800101", "PID-8|F"],
        repository_unique_id=SOMEWHERE,
        hash=hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        size=str(len(content)),
    )
    return changed(entry, changes)


def provided(entry: DocumentEntry) -> DocumentEntry:
    """The entry as a document source sends it: the repository adds the rest."""
    return changed(entry, {"repository_unique_id": None, "hash": None, "size": None})


def folder(targets: Targets, patient: CX, **changes: Any) -> Folder:
    """A Folder."""
    new = Folder(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        patient_id=patient,
        title=LocalizedString("Conformance test folder", "en"),
        code_list=[targets.codes("codeList")[0]],
    )
    return changed(new, changes)


def submission(
    targets: Targets,
    patient: CX,
    *documents: DocumentEntry,
    folders: Iterable[Folder] = (),
    associations: Iterable[Association] = (),
    references: Iterable[str] = (),
    **changes: Any,
) -> Submission:
    """A submission of these objects; ``references`` are documents submitted by reference.

    ``changes`` replace attributes of the SubmissionSet.
    """
    submission_set = SubmissionSet(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        patient_id=patient,
        title=LocalizedString("Conformance test submission", "en"),
        author=[Author(person=XCN("^WELBY^MARCUS"))],
        content_type_code=targets.codes("contentTypeCode")[0],
        source_id=SOURCE_ID,
        submission_time=DTM("20260301120000"),
    )
    changed(submission_set, changes)
    source = submission_set.entry_uuid
    others = list(associations)
    # A folder's HasMember is itself a member of the submission (ITI TF-3 4.2.1.3).
    members = [one.entry_uuid for one in others if one.association_type == HAS_MEMBER]
    folders = list(folders)
    return Submission(
        submission_sets=[submission_set],
        documents=list(documents),
        folders=folders,
        associations=[
            *(has_member(source, entry.entry_uuid, ORIGINAL) for entry in documents),
            *(has_member(source, uuid, REFERENCE) for uuid in references),
            *(has_member(source, one.entry_uuid) for one in folders),
            *others,
            *(has_member(source, uuid) for uuid in members),
        ],
    )


def has_member(source: str, target: str, status: str | None = None) -> Association:
    """A HasMember; ``status`` is the SubmissionSetStatus of a SubmissionSet's document."""
    return Association(
        entry_uuid=new_uuid_urn(),
        association_type=HAS_MEMBER,
        source=source,
        target=target,
        submission_set_status=status,
    )


def related(kind: str, source: DocumentEntry, target: DocumentEntry | str) -> Association:
    """A relationship of ``kind`` between two documents."""
    target_id = target if isinstance(target, str) else target.entry_uuid
    return Association(
        entry_uuid=new_uuid_urn(),
        association_type=kind,
        source=source.entry_uuid,
        target=target_id,
    )


def changed(obj: Object, changes: Mapping[str, Any]) -> Object:
    """``obj`` with attributes replaced; raises AttributeError for one it does not have."""
    for name, value in changes.items():
        getattr(obj, name)
        setattr(obj, name, value)
    return obj


def mime_type(targets: Targets) -> str:
    """A mime type the affinity domain allows, plain text if it does."""
    return _preferred(targets.domain.mime_types, MIME_TYPE)


def language(targets: Targets) -> str:
    """A language the affinity domain allows, French of France if it does."""
    found = _preferred(targets.domain.languages, "fr-fr")
    primary, separator, region = found.partition("-")
    return f"{primary}{separator}{region.upper()}"


def _preferred(allowed: Collection[str] | None, wanted: str) -> str:
    if allowed is None or wanted in allowed:
        return wanted
    return min(allowed)
