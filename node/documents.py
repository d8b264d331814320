"""Submitting a file as a document: the ITI-41 request of ``kosmos publish``.

Writes the metadata that ITI TF-3 4.3.1 requires of a source, from what the caller says, the
file itself and the codes of the affinity domain. Imaging studies do not come this way:
``imaging_source`` publishes their manifests.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, DTM, OID, XON, LocalizedString, escape, new_oid, new_uuid_urn
from metadata.identifiers import HAS_MEMBER, ORIGINAL, STABLE
from metadata.model import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Submission,
    SubmissionSet,
)
from node.config import Settings
from node.texts import tr
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest

CHUNK_BYTES = 1024 * 1024
UNKNOWN_TYPE = "application/octet-stream"


# How files of these types begin, and where: whoever opens one that does not sees nothing.
_BEGINNINGS: Mapping[str, tuple[int, tuple[bytes, ...]]] = {
    "application/dicom": (128, (b"DICM",)),
    "application/pdf": (0, (b"%PDF-",)),
    "application/zip": (0, (b"PK",)),
    "image/jpeg": (0, (b"\xff\xd8\xff",)),
    "image/png": (0, (b"\x89PNG\r\n\x1a\n",)),
    "image/tiff": (0, (b"II*\0", b"MM\0*")),
}
_BEGINNING_BYTES = 256


class WrongType(Exception):
    """A file that is not of the type it is said to be; the text names both."""


class UnknownCode(Exception):
    """A code that the affinity domain does not have; the text names the set."""


class FileContent:
    """The bytes of a file (``soap.message.Content``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = os.stat(path).st_size

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start, in pieces."""
        with self._path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece


@dataclass(frozen=True, slots=True)
class Description:
    """What a person says of a document; codes are looked up in the affinity domain."""

    patient_id: CX
    title: str
    class_code: str
    type_code: str
    format_code: str
    mime_type: str | None = None


def provide(
    path: Path, description: Description, settings: Settings, domain: AffinityDomain
) -> tuple[str, ProvideAndRegisterRequest]:
    """The uniqueId given to the document, and the request that submits it.

    Raises UnknownCode, WrongType, and OSError when the file cannot be read.
    """
    entry = _entry(path, description, settings, domain)
    entry_id, unique_id = entry.entry_uuid, str(entry.unique_id)
    submission_set = _submission_set(entry, settings)
    membership = Association(
        entry_uuid=new_uuid_urn(),
        association_type=HAS_MEMBER,
        source=submission_set.entry_uuid,
        target=entry_id,
        submission_set_status=ORIGINAL,
    )
    submission = Submission([submission_set], [entry], [], [membership])
    submit = SubmitObjectsRequest.of(submission)
    return unique_id, ProvideAndRegisterRequest(submit, {entry_id: FileContent(path)})


def _entry(
    path: Path, given: Description, settings: Settings, domain: AffinityDomain
) -> DocumentEntry:
    policy = settings.imaging_source.document
    return DocumentEntry(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        object_type=STABLE,
        patient_id=given.patient_id,
        source_patient_id=given.patient_id,
        title=LocalizedString(given.title, policy.language_code),
        mime_type=_type_of(path, given.mime_type),
        author=[_author(settings)],
        class_code=_find(domain, "classCode", given.class_code),
        type_code=_find(domain, "typeCode", given.type_code),
        format_code=_find(domain, "formatCode", given.format_code),
        healthcare_facility_type_code=policy.healthcare_facility_type_code.coded,
        practice_setting_code=policy.practice_setting_code.coded,
        confidentiality_code=[policy.confidentiality_code.coded],
        creation_time=DTM.of(datetime.fromtimestamp(path.stat().st_mtime, UTC)),
        language_code=policy.language_code,
    )


def _type_of(path: Path, said: str | None) -> str:
    """The MIME type that is said, or that the name says; raises WrongType where the first bytes
    say that the file is not of it."""
    found = said or mimetypes.guess_type(path.name)[0] or UNKNOWN_TYPE
    place, beginnings = _BEGINNINGS.get(found, (0, (b"",)))
    with path.open("rb") as file:
        if not file.read(_BEGINNING_BYTES)[place:].startswith(beginnings):
            text = tr(
                "{file} does not begin as {type} does; --mime-type says what it is",
                file=path,
                type=found,
            )
            raise WrongType(text)
    return found


def _submission_set(entry: DocumentEntry, settings: Settings) -> SubmissionSet:
    return SubmissionSet(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        patient_id=entry.patient_id,
        title=entry.title,
        author=entry.author,
        content_type_code=settings.imaging_source.document.content_type_code.coded,
        # Nothing but this node's own identifiers names the one who submits here.
        source_id=OID(settings.node.home_community_id),
        submission_time=DTM.of(datetime.now(UTC)),
    )


def _author(settings: Settings) -> Author:
    return Author(institution=[XON(escape(settings.imaging_source.document.institution))])


def _find(domain: AffinityDomain, name: str, code: str) -> Code:
    codes = domain.code_sets.get(name)
    found = codes.find(code) if codes is not None else None
    if found is None:
        text = tr("{code} is no {set} of the affinity domain's code sets", code=code, set=name)
        raise UnknownCode(text)
    return found
