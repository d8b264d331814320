"""How each attribute of the model travels in ebRIM, and what is asked of it: one table a kind.

Covers ITI TF-3 4.2.3.2 to 4.2.3.4 and the optionality of Table 4.3.1-3 for ITI-41 (Document
Source), ITI-42 (Document Registry) and ITI-61 (On-Demand Document Source). The reader, the
writer and the validation all work from these tables, so an attribute is described once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from metadata import identifiers as ids
from metadata.datatypes import (
    CX,
    DTM,
    OID,
    XCN,
    XON,
    XTN,
    CXi,
    LanguageCode,
    LocalizedString,
    Recipient,
    is_oid,
)
from metadata.model import Association, DocumentEntry, Folder, SubmissionSet

# rim LongName: slot values, identifiers, codes (ebRIM 3.0 schema; ITI TF-3 4.2.3.1.7).
LONG_NAME = 256
# rim FreeFormText: every LocalizedString (ebRIM 3.0 schema).
FREE_FORM_TEXT = 1024

Check = Callable[[str], str | None]


class Carrier(Enum):
    """What part of an ebRIM object holds an attribute."""

    XML = auto()  # an XML attribute of the object's element
    SLOT = auto()
    NAME = auto()
    DESCRIPTION = auto()
    VERSION = auto()  # VersionInfo/@versionName
    NODE = auto()  # a Classification by classificationNode: present or not
    AUTHOR = auto()  # a Classification holding slots
    CODE = auto()  # a Classification holding a coded value
    IDENTIFIER = auto()  # an ExternalIdentifier


SOURCE = "ITI-41"
REGISTRY = "ITI-42"
ON_DEMAND = "ITI-61"
ALL = frozenset({SOURCE, REGISTRY, ON_DEMAND})
# What only a document that exists can say of itself, and an On-Demand entry must not.
STABLE_ONLY = frozenset({SOURCE, REGISTRY})
NOT_ON_DEMAND = frozenset({ON_DEMAND})
# What the repository fills in on the way (ITI TF-2 3.41.4.1.3.2): of the bytes, of itself.
FROM_REPOSITORY = frozenset({REGISTRY})
OF_REPOSITORY = frozenset({REGISTRY, ON_DEMAND})


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: where the model keeps it, what carries it, what is asked of it.

    ``name`` is the standard's, qualified by its object ("DocumentEntry.classCode"); ``key``
    the slot name, scheme UUID or XML attribute; ``type`` makes the model's value from text;
    ``required`` holds the transactions that demand it, ``forbidden`` those that exclude it;
    ``check`` says what is wrong with a
    text; ``limit`` is the greatest length in characters. ``split`` marks a single value that
    may come in numbered pieces ("1|http://www", "2|.org/x"), the historic form of URI.
    """

    field: str
    name: str
    carrier: Carrier
    key: str = ""
    type: Callable[[str], Any] = str
    many: bool = False
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    check: Check | None = None
    limit: int = LONG_NAME
    split: bool = False

    @property
    def vocabulary(self) -> str:
        """The name of its code set in an affinity domain: "classCode", "codeList" ..."""
        return self.name.rpartition(".")[2]

    @property
    def identifier_name(self) -> str:
        """The fixed Name of its ExternalIdentifier: "XDSFolder.patientId" ..."""
        return f"XDS{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of registry object and its attributes, in the order they are written.

    ``element`` is the rim element; ``node`` the classificationNode that tells a
    SubmissionSet from a Folder; ``object_type`` the fixed rim objectType, if it is fixed.
    The dictionaries find an attribute by its ``key``.
    """

    name: str
    model: type[DocumentEntry | SubmissionSet | Folder | Association]
    element: str
    attributes: tuple[Attribute, ...]
    node: str = ""
    object_type: str = ""
    xml: dict[str, Attribute] = field(init=False, repr=False)
    slots: dict[str, Attribute] = field(init=False, repr=False)
    nodes: dict[str, Attribute] = field(init=False, repr=False)
    classifications: dict[str, Attribute] = field(init=False, repr=False)
    identifiers: dict[str, Attribute] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, carriers in (
            ("xml", (Carrier.XML,)),
            ("slots", (Carrier.SLOT,)),
            ("nodes", (Carrier.NODE,)),
            ("classifications", (Carrier.CODE, Carrier.AUTHOR)),
            ("identifiers", (Carrier.IDENTIFIER,)),
        ):
            found = {row.key: row for row in self.carried_by(*carriers)}
            object.__setattr__(self, name, found)

    def carried_by(self, *carriers: Carrier) -> tuple[Attribute, ...]:
        """The attributes that one of ``carriers`` holds."""
        return tuple(row for row in self.attributes if row.carrier in carriers)


def _check_hash(text: str) -> str | None:
    if re.fullmatch(r"[0-9a-fA-F]{40}", text):
        return None
    return "expected a SHA-1 in 40 hexadecimal digits"


# Digits of a size, leading zeros apart: what the 64-bit integers of databases surely hold.
_SIZE_DIGITS = 18


def check_size(text: str) -> str | None:
    """What is wrong with a DocumentEntry.size."""
    if re.fullmatch(rf"0*[0-9]{{1,{_SIZE_DIGITS}}}", text):
        return None
    return f"expected a number of bytes, at most {_SIZE_DIGITS} digits"


def _check_home(text: str) -> str | None:
    if text.startswith("urn:oid:") and is_oid(text[len("urn:oid:") :]):
        return None
    return "expected urn:oid: and an OID"


def _check_availability(text: str) -> str | None:
    if text in (ids.ONLINE, ids.OFFLINE):
        return None
    return f"expected {ids.ONLINE} or {ids.OFFLINE}"


def _check_language(text: str) -> str | None:
    return LanguageCode(text).problem()


def _check_mime_type(text: str) -> str | None:
    # RFC 6838 4.2: restricted names on both sides; parameters may follow.
    if re.match(r"[A-Za-z0-9][\w!#$&^.+-]*/[A-Za-z0-9][\w!#$&^.+-]*\s*(?:;|$)", text, re.ASCII):
        return None
    return "expected a MIME type such as application/pdf"


def _xml(name: str, field_name: str, key: str, check: Check | None = None) -> Attribute:
    return Attribute(field_name, name, Carrier.XML, key, check=check)


def _slot(
    name: str,
    field_name: str,
    kind: type[str] = str,
    *,
    key: str = "",
    many: bool = False,
    required: frozenset[str] = frozenset(),
    forbidden: frozenset[str] = frozenset(),
    check: Check | None = None,
    split: bool = False,
) -> Attribute:
    key = key or name.rpartition(".")[2]
    return Attribute(
        field_name,
        name,
        Carrier.SLOT,
        key,
        kind,
        many,
        required,
        forbidden,
        check=check,
        split=split,
    )


def _code(
    name: str, field_name: str, scheme: str, *, required: bool = False, many: bool = False
) -> Attribute:
    demanded = ALL if required else frozenset()
    return Attribute(field_name, name, Carrier.CODE, scheme, many=many, required=demanded)


def _identifier(name: str, field_name: str, scheme: str, kind: type[str]) -> Attribute:
    return Attribute(field_name, name, Carrier.IDENTIFIER, scheme, kind, required=ALL)


def _title(name: str, limit: int, *, required: bool = False) -> Attribute:
    demanded = ALL if required else frozenset()
    return Attribute(
        "title", name, Carrier.NAME, type=LocalizedString, required=demanded, limit=limit
    )


def _common(kind: str) -> tuple[Attribute, ...]:
    return (
        _xml(f"{kind}.entryUUID", "entry_uuid", "id"),
        _xml(f"{kind}.homeCommunityId", "home_community_id", "home", _check_home),
        _xml(f"{kind}.availabilityStatus", "availability_status", "status"),
    )


def _described(kind: str, limited_metadata: str) -> tuple[Attribute, ...]:
    return (
        *_common(kind),
        _xml(f"{kind}.logicalID", "logical_id", "lid"),
        Attribute(
            "comments",
            f"{kind}.comments",
            Carrier.DESCRIPTION,
            type=LocalizedString,
            limit=FREE_FORM_TEXT,
        ),
        Attribute("version", f"{kind}.version", Carrier.VERSION),
        Attribute(
            "limited_metadata",
            f"{kind}.limitedMetadata",
            Carrier.NODE,
            limited_metadata,
        ),
    )


DOCUMENT_ENTRY = Kind(
    "DocumentEntry",
    DocumentEntry,
    "ExtrinsicObject",
    (
        *_described("DocumentEntry", ids.DE_LIMITED_METADATA),
        Attribute(
            "object_type", "DocumentEntry.objectType", Carrier.XML, "objectType", required=ALL
        ),
        Attribute(
            "mime_type",
            "DocumentEntry.mimeType",
            Carrier.XML,
            "mimeType",
            required=ALL,
            check=_check_mime_type,
        ),
        _slot(
            "DocumentEntry.creationTime",
            "creation_time",
            DTM,
            required=STABLE_ONLY,
            forbidden=NOT_ON_DEMAND,
        ),
        _slot(
            "DocumentEntry.documentAvailability",
            "document_availability",
            check=_check_availability,
        ),
        _slot(
            "DocumentEntry.hash",
            "hash",
            required=FROM_REPOSITORY,
            forbidden=NOT_ON_DEMAND,
            check=_check_hash,
        ),
        _slot("DocumentEntry.languageCode", "language_code", required=ALL, check=_check_language),
        _slot("DocumentEntry.legalAuthenticator", "legal_authenticator", XCN),
        _slot(
            "DocumentEntry.referenceIdList",
            "reference_id_list",
            CXi,
            key=ids.REFERENCE_ID_LIST_SLOT,
            many=True,
        ),
        _slot(
            "DocumentEntry.repositoryUniqueId",
            "repository_unique_id",
            OID,
            required=OF_REPOSITORY,
        ),
        _slot("DocumentEntry.serviceStartTime", "service_start_time", DTM),
        _slot("DocumentEntry.serviceStopTime", "service_stop_time", DTM),
        _slot(
            "DocumentEntry.size",
            "size",
            required=FROM_REPOSITORY,
            forbidden=NOT_ON_DEMAND,
            check=check_size,
        ),
        _slot("DocumentEntry.sourcePatientId", "source_patient_id", CX, required=ALL),
        _slot("DocumentEntry.sourcePatientInfo", "source_patient_info", many=True),
        _slot("DocumentEntry.URI", "uri", split=True),
        # ITI TF-3 4.2.3.2.25: fewer than 128 characters.
        _title("DocumentEntry.title", 127),
        Attribute("author", "DocumentEntry.author", Carrier.AUTHOR, ids.DE_AUTHOR, many=True),
        _code("DocumentEntry.classCode", "class_code", ids.DE_CLASS_CODE, required=True),
        _code(
            "DocumentEntry.confidentialityCode",
            "confidentiality_code",
            ids.DE_CONFIDENTIALITY_CODE,
            required=True,
            many=True,
        ),
        _code("DocumentEntry.eventCodeList", "event_code_list", ids.DE_EVENT_CODE, many=True),
        _code("DocumentEntry.formatCode", "format_code", ids.DE_FORMAT_CODE, required=True),
        _code(
            "DocumentEntry.healthcareFacilityTypeCode",
            "healthcare_facility_type_code",
            ids.DE_FACILITY_TYPE_CODE,
            required=True,
        ),
        _code(
            "DocumentEntry.practiceSettingCode",
            "practice_setting_code",
            ids.DE_PRACTICE_SETTING_CODE,
            required=True,
        ),
        _code("DocumentEntry.typeCode", "type_code", ids.DE_TYPE_CODE, required=True),
        _identifier("DocumentEntry.patientId", "patient_id", ids.DE_PATIENT_ID, CX),
        _identifier("DocumentEntry.uniqueId", "unique_id", ids.DE_UNIQUE_ID, str),
    ),
)

SUBMISSION_SET = Kind(
    "SubmissionSet",
    SubmissionSet,
    "RegistryPackage",
    (
        *_described("SubmissionSet", ids.SS_LIMITED_METADATA),
        _slot("SubmissionSet.intendedRecipient", "intended_recipient", Recipient, many=True),
        _slot("SubmissionSet.submissionTime", "submission_time", DTM, required=ALL),
        # ITI TF-3 4.2.3.3.11: fewer than 256 characters.
        _title("SubmissionSet.title", 255),
        Attribute("author", "SubmissionSet.author", Carrier.AUTHOR, ids.SS_AUTHOR, many=True),
        _code(
            "SubmissionSet.contentTypeCode",
            "content_type_code",
            ids.SS_CONTENT_TYPE_CODE,
            required=True,
        ),
        _identifier("SubmissionSet.patientId", "patient_id", ids.SS_PATIENT_ID, CX),
        _identifier("SubmissionSet.sourceId", "source_id", ids.SS_SOURCE_ID, OID),
        _identifier("SubmissionSet.uniqueId", "unique_id", ids.SS_UNIQUE_ID, OID),
    ),
    node=ids.SS_NODE,
    object_type=ids.REGISTRY_PACKAGE_OBJECT,
)

FOLDER = Kind(
    "Folder",
    Folder,
    "RegistryPackage",
    (
        *_described("Folder", ids.FD_LIMITED_METADATA),
        _slot("Folder.lastUpdateTime", "last_update_time", DTM),
        _title("Folder.title", LONG_NAME, required=True),
        _code("Folder.codeList", "code_list", ids.FD_CODE, required=True, many=True),
        _identifier("Folder.patientId", "patient_id", ids.FD_PATIENT_ID, CX),
        _identifier("Folder.uniqueId", "unique_id", ids.FD_UNIQUE_ID, OID),
    ),
    node=ids.FD_NODE,
    object_type=ids.REGISTRY_PACKAGE_OBJECT,
)

ASSOCIATION = Kind(
    "Association",
    Association,
    "Association",
    (
        *_common("Association"),
        _xml("Association.associationType", "association_type", "associationType"),
        _xml("Association.sourceObject", "source", "sourceObject"),
        _xml("Association.targetObject", "target", "targetObject"),
        _slot("Association.SubmissionSetStatus", "submission_set_status"),
        _slot("Association.PreviousVersion", "previous_version"),
        _slot("Association.AssociationPropagation", "association_propagation"),
        _slot("Association.OriginalStatus", "original_status"),
        _slot("Association.NewStatus", "new_status"),
        _code("Association.documentation", "documentation", ids.ASSOCIATION_DOCUMENTATION),
    ),
    object_type=ids.ASSOCIATION_OBJECT,
)

KINDS: dict[type, Kind] = {
    kind.model: kind for kind in (DOCUMENT_ENTRY, SUBMISSION_SET, FOLDER, ASSOCIATION)
}

# The slots of an author's Classification (ITI TF-3 4.2.3.1.4); names are the same for both kinds.
AUTHOR_SLOTS: dict[str, Attribute] = {
    row.key: row
    for row in (
        _slot("author.authorPerson", "person", XCN),
        _slot("author.authorInstitution", "institution", XON, many=True),
        _slot("author.authorRole", "role", many=True),
        _slot("author.authorSpecialty", "specialty", many=True),
        _slot("author.authorTelecommunication", "telecommunication", XTN, many=True),
    )
}
