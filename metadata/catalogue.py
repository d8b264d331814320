"""The catalogue of rules: one place for rule -> message -> error code -> severity -> spec.

Covers the codes of ITI TF-3 Table 4.2.4.1-2 for ITI-18, ITI-51, ITI-41, ITI-42, ITI-43, for
RAD-69, and those of the administrators' ITI-57, ITI-62, ITI-86 and ITI-92. Stateless rules are
applied by ``metadata.ebrim`` and ``metadata.validation``, the others by the actor whose store
decides. Every code a sender may receive is made here, those that an XDR recipient or a gateway
sends to these transactions included; ``XDSReplaceFailed`` is deprecated by the standard and never
sent.

Messages help the sender mend the message: they name the object, the attribute, the value
and what is expected. Deviations from the standard's letter are our choice where it names
no code; then the code is the most specific one that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from metadata.identifiers import ERROR, WARNING
from metadata.rule import Fault, RegistryError, Rule

__all__ = ["RULES", "Fault", "RegistryError", "Rule"]

RULES: Final[dict[str, Rule]] = {}

_QUERY = ("ITI-18", "ITI-51")
_SUBMIT = ("ITI-41", "ITI-42")
_RETRIEVE = ("ITI-43", "RAD-69")
_REMOVE = "ITI-86"
# The prefix of a code tells the detecting actor: ITI-41 is judged by a repository.
_METADATA = {"ITI-41": "XDSRepositoryMetadataError", "ITI-42": "XDSRegistryMetadataError"}


def _rule(
    rule_id: str, message: str, codes: Mapping[str, str], spec: str, severity: str = ERROR
) -> Rule:
    rule = RULES[rule_id] = Rule(rule_id, message, codes, spec, severity)
    return rule


def _metadata(rule_id: str, message: str, spec: str) -> Rule:
    return _rule(rule_id, message, _METADATA, spec)


def _one(code: str, *transactions: str) -> dict[str, str]:
    return dict.fromkeys(transactions, code)


# --- What can be seen only while reading ebRIM (metadata.ebrim) ------------------------------

UNEXPECTED_ELEMENT = _metadata(
    "unexpected-element",
    "element {element} is not allowed in {object}",
    "ITI TF-3 4.2.1",
)
SLOT_UNNAMED = _metadata(
    "slot-unnamed", "a Slot of {object} has no name", "ITI TF-3 4.2.3.1.6; ebRIM 2.8"
)
SLOT_REPEATED = _metadata(
    "slot-repeated",
    "Slot {slot} appears more than once in {object}; put all its values in one ValueList",
    "ITI TF-3 4.2.3.1.6; ebRIM 2.8",
)
SLOT_VALUES = _metadata(
    "slot-values",
    "{attribute} of {object} has {count} values ({value}); exactly one is allowed",
    "ITI TF-3 4.2.3.1",
)
ATTRIBUTE_REPEATED = _metadata(
    "attribute-repeated",
    "{attribute} of {object} is given more than once; at most one is allowed",
    "ITI TF-3 4.2.3.1.1",
)
CLASSIFIED_OBJECT = _metadata(
    "classified-object",
    "the Classification for {attribute} inside {object} has classifiedObject={value}; "
    "it must name the object it is inside",
    "ITI TF-3 4.2.3.1.2",
)
CLASSIFICATION_NOT_EMBEDDED = _metadata(
    "classification-not-embedded",
    "the Classification with scheme {scheme} for {object} must be inside the object it classifies",
    "ITI TF-3 4.2.3.1.2",
)
CLASSIFICATION_TARGET = _metadata(
    "classification-target",
    "a Classification (node {value}) names classifiedObject={object}, "
    "which is no object of this kind in the message",
    "ITI TF-3 4.2.1.1",
)
CODE_MISSING = _metadata(
    "code-missing",
    "{attribute} of {object} has no nodeRepresentation, which holds the code",
    "ITI TF-3 4.2.3.1.2",
)
CODING_SCHEME_MISSING = _metadata(
    "coding-scheme-missing",
    "{attribute} of {object} has {count} codingScheme values for code {value}; "
    "exactly one is required",
    "ITI TF-3 4.2.3.1.2",
)
CODE_NAME_MISSING = _metadata(
    "code-name-missing",
    "{attribute} of {object} has no display name (rim:Name) for code {value}",
    "ITI TF-3 4.2.3.1.2",
)
IDENTIFIER_OBJECT = _metadata(
    "identifier-object",
    "the ExternalIdentifier for {attribute} inside {object} has registryObject={value}; "
    "it must name the object it is inside",
    "ITI TF-3 4.2.3.1.3",
)
IDENTIFIER_NAME = _metadata(
    "identifier-name",
    "the ExternalIdentifier for {attribute} of {object} has Name {value!r}; it must be {expected}",
    "ITI TF-3 4.2.3.1.3",
)
PACKAGE_UNCLASSIFIED = _metadata(
    "package-unclassified",
    "RegistryPackage {object} is classified neither as SubmissionSet nor as Folder",
    "ITI TF-3 4.2.1.1",
)
PACKAGE_AMBIGUOUS = _metadata(
    "package-ambiguous",
    "RegistryPackage {object} is classified both as SubmissionSet and as Folder",
    "ITI TF-3 4.2.1.1",
)
EXTRA_METADATA_NOT_SAVED = _rule(
    "extra-metadata-not-saved",
    "{what} of {object} is not known to XDS and has not been saved",
    _one("XDSExtraMetadataNotSaved", *_SUBMIT),
    "ITI TF-3 4.2.3.1.6",
    WARNING,
)

# --- Identifiers and attributes (metadata.validation) ------------------------------------------

ID_MISSING = _metadata(
    "id-missing",
    "{kind} {object} has no id; use a urn:uuid or a symbolic name",
    "ITI TF-3 4.2.3.2.7",
)
ID_REPEATED = _metadata(
    "id-repeated", "id {object} is used by more than one object", "ITI TF-3 4.2.3.2.7"
)
LOGICAL_ID = _metadata(
    "logical-id",
    "{kind} {object} has lid {value}; a first version has no lid, or its own id",
    "ITI TF-3 4.2.3.2.12; ITI TF-2 3.42.4.1.3.3",
)
ATTRIBUTE_REQUIRED = _metadata(
    "attribute-required", "{attribute} of {object} is missing; it is required", "ITI TF-3 4.3.1"
)
ATTRIBUTE_FORBIDDEN = _metadata(
    "attribute-forbidden", "{attribute} of {object} must not be sent here", "ITI TF-3 4.3.1"
)
ATTRIBUTE_TYPE = _metadata(
    "attribute-type",
    "{attribute} of {object} is {value!r}: {problem}",
    "ITI TF-3 4.2.3.1.7",
)
ATTRIBUTE_LENGTH = _metadata(
    "attribute-length",
    "{attribute} of {object} has {length} characters, at most {limit} are allowed: {value!r}",
    "ITI TF-3 4.2.3.2, 4.2.3.3, 4.2.3.4; ebRIM 3.0 schema",
)
AUTHOR_EMPTY = _metadata(
    "author-empty",
    "an author of {object} has none of authorPerson, authorInstitution, authorTelecommunication",
    "ITI TF-3 4.2.3.2.1",
)
SERVICE_TIMES = _metadata(
    "service-times",
    "DocumentEntry {object} has serviceStartTime {start} after serviceStopTime {stop}",
    "ITI TF-3 4.2.3.2.19; ITI TF-2 3.42.4.1.3.3",
)
SOURCE_PATIENT_INFO = _metadata(
    "source-patient-info",
    "sourcePatientInfo of {object} is {value!r}: {problem}",
    "ITI TF-3 4.2.3.2.23",
)
SLOT_NAME = _metadata(
    "slot-name",
    "Slot {slot} of {object} is not an attribute of XDS; an extra slot's name must be a URN "
    "that does not start with urn:ihe:",
    "ITI TF-3 4.2.3.1.6",
)

# --- Vocabulary (metadata.validation, with the affinity domain) --------------------------------

CODE_NOT_ALLOWED = _metadata(
    "code-not-allowed",
    "{attribute} of {object} is code {value!r} of scheme {scheme}, "
    "which this affinity domain does not use: {remedy}",
    "ITI TF-2 3.42.4.1.3.3; ITI TF-3 4.2.3.1.2",
)
MIME_TYPE_NOT_ALLOWED = _metadata(
    "mime-type-not-allowed",
    "DocumentEntry {object} has mimeType {value!r}, which this affinity domain does not use: "
    "{remedy}",
    "ITI TF-3 4.2.3.2.13",
)
LANGUAGE_NOT_ALLOWED = _metadata(
    "language-not-allowed",
    "DocumentEntry {object} has languageCode {value!r}, which this affinity domain does not use: "
    "{remedy}",
    "ITI TF-3 4.2.3.2.10",
)
SOURCE_NOT_PERMITTED = _rule(
    "source-not-permitted",
    "SubmissionSet {object} comes from sourceId {value}, which may not submit here: "
    "ask the affinity domain to permit it",
    {**_METADATA, "ITI-92": "LocalPolicyRestrictionError"},
    "ITI TF-3 4.2.3.3.9; ITI TF-2 3.41.4.1.3",
)

# --- Structure of a submission (metadata.validation) -------------------------------------------

SUBMISSION_SET_COUNT = _metadata(
    "submission-set-count",
    "the message holds {count} SubmissionSets ({object}); exactly one is required",
    "ITI TF-3 4.2.1.1; ITI TF-2 3.42.4.1.2",
)
SUBMISSION_EMPTY = _metadata(
    "submission-empty",
    "SubmissionSet {object} contains no DocumentEntry, Folder or Association",
    "ITI TF-3 4.2.1.1",
)
NOT_IN_SUBMISSION_SET = _metadata(
    "not-in-submission-set",
    "{kind} {object} is not linked to the SubmissionSet by a HasMember association",
    "ITI TF-3 4.2.1.1, 4.2.1.3",
)
SUBMISSION_SET_STATUS = _metadata(
    "submission-set-status",
    "HasMember {object} has SubmissionSetStatus {value!r}; {expected} is required",
    "ITI TF-3 4.2.2.1.1",
)
ASSOCIATION_TYPE = _metadata(
    "association-type",
    "Association {object} has associationType {value!r}, which is not allowed here",
    "ITI TF-3 4.2.2",
)
ASSOCIATION_TO_ITSELF = _metadata(
    "association-to-itself", "Association {object} links {value} to itself", "ITI TF-3 4.2.2"
)
ASSOCIATION_ENDS = _metadata(
    "association-ends",
    "Association {object} ({type}) links a {source} to a {target}, which has no meaning",
    "ITI TF-3 4.2.2, Table 4.2.2-1",
)
DOCUMENTATION_NOT_ALLOWED = _metadata(
    "documentation-not-allowed",
    "Association {object} has a documentation code; only relationships between documents may",
    "ITI TF-3 4.2.2.2.6",
)
UNRESOLVED_SYMBOL = _rule(
    "unresolved-symbol",
    "{attribute} of Association {object} is {value!r}, which is no object of this message "
    "and no urn:uuid in lower case",
    _one("UnresolvedReferenceException", *_SUBMIT),
    "ITI TF-2 3.42.4.1.3.3; ITI TF-3 4.2.3.1.5",
)
RELATIONSHIP_SOURCE = _rule(
    "relationship-source",
    "sourceObject {value} of Association {object} ({type}) is not a DocumentEntry of this message",
    _one("UnresolvedReferenceException", *_SUBMIT),
    "ITI TF-3 4.2.2.2; ITI TF-2 3.42.4.1.3.5",
)
RELATIONSHIP_TARGET_NEW = _rule(
    "relationship-target-new",
    "targetObject {value} of Association {object} ({type}) is part of this message; "
    "it must be registered already",
    _one("UnresolvedReferenceException", *_SUBMIT),
    "ITI TF-2 3.42.4.1.3.5",
)
MEMBERSHIP_NOT_IN_SUBMISSION_SET = _metadata(
    "membership-not-in-submission-set",
    "HasMember {object} of a Folder is not itself a member (HasMember) of the SubmissionSet",
    "ITI TF-3 4.2.1.3, 4.2.2.1",
)
APPEND_TO_TRANSFORMATION = _metadata(
    "append-to-transformation",
    "Association {object} appends to {value}, which is a transformation; "
    "append to the original document",
    "ITI TF-3 4.2.2.2.1",
)
UNIQUE_ID_REPEATED = _rule(
    "unique-id-repeated",
    "uniqueId {value} is used by several objects of the message ({object})",
    {
        "ITI-41": "XDSRepositoryDuplicateUniqueIdInMessage",
        "ITI-42": "XDSRegistryDuplicateUniqueIdInMessage",
    },
    "ITI TF-3 4.2.4.1; ITI TF-2 3.42.4.1.3.3",
)

# --- Patient (metadata.validation, registry) ---------------------------------------------------

PATIENT_DIFFERS = _rule(
    "patient-differs",
    "{kind} {object} has patientId {value}, the SubmissionSet has {expected}; they must be equal",
    {
        **_one("XDSPatientIdDoesNotMatch", *_SUBMIT),
        "ITI-57": "XDSPatientIDReconciliationError",
    },
    "ITI TF-2 3.42.4.1.3.3.2; Metadata Update 3.57.4.1.3.4",
)
PATIENT_AUTHORITY = _rule(
    "patient-authority",
    "patientId {value} of {object} is not of this affinity domain, whose assigning authority "
    "is {expected}",
    _one("XDSUnknownPatientId", *_QUERY, *_SUBMIT),
    "ITI TF-3 4.2.3.2.16; ITI TF-2 3.42.4.1.3.3.2",
)
UNKNOWN_PATIENT = _rule(
    "unknown-patient",
    "patientId {value} of {object} is not known here: no identity feed has announced it",
    _one("XDSUnknownPatientId", *_QUERY, *_SUBMIT),
    "ITI TF-2 3.42.4.1.3.3.2, 3.18.4.1.3",
)
MERGED_PATIENT = _rule(
    "merged-patient",
    "patientId {value} of {object} has been merged into another patient",
    _one("XDSUnknownPatientId", *_QUERY, *_SUBMIT),
    "ITI TF-2 3.8.4.2.4, 3.42.4.1.3.3.2",
)
RELATED_PATIENT_DIFFERS = _rule(
    "related-patient-differs",
    "Association {object} links documents of different patients (patientId {value})",
    _one("XDSPatientIdDoesNotMatch", "ITI-42"),
    "ITI TF-2 3.42.4.1.3.3.2, 3.42.4.1.3.5",
)
FOLDER_PATIENT_DIFFERS = _rule(
    "folder-patient-differs",
    "document {value} and Folder {object} belong to different patients",
    _one("XDSPatientIdDoesNotMatch", "ITI-42"),
    "ITI TF-2 3.42.4.1.3.3.2, 3.42.4.1.3.4",
)

# --- What only the registry's store can tell ---------------------------------------------------

ENTRY_UUID_REGISTERED = _metadata(
    "entry-uuid-registered",
    "entryUUID {object} is already registered; use a fresh urn:uuid or a symbolic name",
    "ITI TF-2 3.42.4.1.3.3",
)
DUPLICATE_UNIQUE_ID = _rule(
    "duplicate-unique-id",
    "{kind} {object} has uniqueId {value}, which is already registered",
    _one("XDSDuplicateUniqueIdInRegistry", *_SUBMIT),
    "ITI TF-2 3.42.4.1.3.3.7",
)
HASH_DIFFERS = _rule(
    "hash-differs",
    "document {value} ({object}) is already known with another hash",
    _one("XDSNonIdenticalHash", *_SUBMIT),
    "ITI TF-3 4.2.4.1; ITI TF-2 3.42.4.1.3.3",
)
SIZE_DIFFERS = _rule(
    "size-differs",
    "document {value} ({object}) is already known with another size",
    _one("XDSNonIdenticalSize", *_SUBMIT),
    "ITI TF-3 4.2.4.1; ITI TF-2 3.42.4.1.3.3",
)
UNRESOLVED_REFERENCE = _rule(
    "unresolved-reference",
    "{attribute} of Association {object} is {value}, which is not registered",
    _one("UnresolvedReferenceException", "ITI-42"),
    "ITI TF-2 3.42.4.1.3.3, 3.42.4.1.3.5",
)
DEPRECATED_DOCUMENT = _rule(
    "deprecated-document",
    "Association {object} targets document {value}, which is deprecated",
    _one("XDSRegistryDeprecatedDocumentError", "ITI-42"),
    "ITI TF-2 3.42.4.1.3.4, 3.42.4.1.3.5",
)
DEPRECATED_FOLDER = _metadata(
    "deprecated-folder",
    "Association {object} adds to Folder {value}, which is deprecated",
    "ITI TF-2 3.42.4.1.3.4",
)
FOREIGN_SUBMISSION_SET = _metadata(
    "foreign-submission-set",
    "Association {object} names SubmissionSet {value}, which was submitted before "
    "and can no longer change",
    "ITI TF-3 4.2.1.1; ITI TF-2 3.42.4.1.3",
)
SNAPSHOT_TARGET = _metadata(
    "snapshot-target",
    "Association {object} (IsSnapshotOf) must lead from a Stable to an On-Demand DocumentEntry; "
    "{value} is not",
    "ITI TF-3 4.2.2.2.7",
)
OBJECT_TYPE_NOT_ALLOWED = _metadata(
    "object-type-not-allowed",
    "DocumentEntry {object} has objectType {value!r}; this transaction registers entries of "
    "type {expected} only: ITI-42 Stable ones, ITI-61 On-Demand ones",
    "ITI TF-2 3.42.4.1.2, 3.61.4.1.2",
)

# --- On-Demand entries and limited metadata ------------------------------------------------------

NO_ON_DEMAND_ENTRY = _metadata(
    "no-on-demand-entry",
    "{object} holds no DocumentEntry; at least one, On-Demand, is required",
    "ITI TF-2 3.61.4.1.2",
)
UNIQUE_ID_OF_OTHER_TYPE = _metadata(
    "unique-id-of-other-type",
    "DocumentEntry {object} has uniqueId {value}, which is registered for {known}; "
    "choose another uniqueId",
    "ITI TF-2 3.61.4.1.3, 3.42.4.1.3.3.1",
)
LIMITED_METADATA = _metadata(
    "limited-metadata",
    "{kind} {object} says that its metadata is limited, which only XDR and XDM know; "
    "send all that is required, without that classification",
    "ITI TF-3 4.2.3.2, 4.3.1, Table 4.3.1-3",
)

# --- Documents beside their metadata (repository) ----------------------------------------------

DOCUMENT_MISSING = _rule(
    "document-missing",
    "DocumentEntry {object} has no Document with its id in the message",
    _one("XDSMissingDocument", "ITI-41"),
    "ITI TF-2 3.41.4.1.3; ITI TF-3 4.2.4.1",
)
DOCUMENT_METADATA_MISSING = _rule(
    "document-metadata-missing",
    "Document or MIME part {object} belongs to no DocumentEntry of the message",
    _one("XDSMissingDocumentMetadata", "ITI-41"),
    "ITI TF-2 3.41.4.1.3; ITI TF-3 4.2.4.1",
)
DOCUMENT_EMPTY = _rule(
    "document-empty",
    "Document {object} has no bytes",
    _one("XDSMissingDocument", "ITI-41"),
    "ITI TF-2 3.41.4.1.2",
)
DOCUMENT_UNIQUE_ID_MISSING = _metadata(
    "document-unique-id-missing",
    "DocumentEntry {object} has no uniqueId to keep its document under",
    "ITI TF-2 3.41.4.1.3; ITI TF-3 4.2.3.2.26",
)
HASH_WRONG = _metadata(
    "hash-wrong",
    "DocumentEntry {object} says hash {value}, its document has {expected}",
    "ITI TF-2 3.41.4.1.3.2",
)
SIZE_WRONG = _metadata(
    "size-wrong",
    "DocumentEntry {object} says size {value}, its document has {expected} bytes",
    "ITI TF-2 3.41.4.1.3.2",
)
CONTENT_INVALID = _rule(
    "content-invalid",
    "document {object} does not agree with its metadata: {problem}",
    _one("InvalidDocumentContent", "ITI-41"),
    "ITI TF-3 4.2.4.1",
)
REGISTRY_NOT_AVAILABLE = _rule(
    "registry-not-available",
    "the registry cannot be reached; nothing of {object} was registered as far as is known, "
    "and the same message may be sent again",
    _one("XDSRegistryNotAvailable", "ITI-41"),
    "ITI TF-3 4.2.4.1",
)

# --- Semantics that an XDR Document Recipient may leave aside ------------------------------------

DOCUMENT_QUEUED = _rule(
    "document-queued",
    "{object} was received and waits to be matched by a person",
    _one("DocumentQueued", "ITI-41"),
    "ITI TF-3 4.2.4.1",
    WARNING,
)


def _partial(rule_id: str, what: str, code: str) -> Rule:
    message = f"{what} of {{object}} was received, but its meaning was not processed"
    return _rule(rule_id, message, _one(code, "ITI-41"), "ITI TF-3 4.2.4.1", WARNING)


PARTIAL_APPEND = _partial("partial-append", "association APND", "PartialAppendContentNotProcessed")
PARTIAL_FOLDER = _partial("partial-folder", "Folder", "PartialFolderContentNotProcessed")
PARTIAL_RELATIONSHIP = _partial(
    "partial-relationship", "the relationship", "PartialRelationshipContentNotProcessed"
)
PARTIAL_REPLACE = _partial(
    "partial-replace", "association RPLC", "PartialReplaceContentNotProcessed"
)
PARTIAL_TRANSFORM = _partial(
    "partial-transform", "association XFRM", "PartialTransformNotProcessed"
)
PARTIAL_TRANSFORM_REPLACE = _partial(
    "partial-transform-replace", "association XFRM_RPLC", "PartialTransformReplaceNotProcessed"
)

# --- Stored queries (registry) -------------------------------------------------------------------

UNKNOWN_STORED_QUERY = _rule(
    "unknown-stored-query",
    "query {object} is not one of the stored queries of this registry",
    _one("XDSUnknownStoredQuery", *_QUERY),
    "ITI TF-2 3.18.4.1.3",
)
RETURN_TYPE = _rule(
    "return-type",
    "returnType {value!r} of query {object} is neither LeafClass nor ObjectRef",
    _one("XDSRegistryError", *_QUERY),
    "ITI TF-2 3.18.4.1.2.2",
)
PARAMETER_MISSING = _rule(
    "parameter-missing",
    "query {object} needs the parameter {parameter}",
    _one("XDSStoredQueryMissingParam", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.6, 3.18.4.1.2.3.7",
)
ALTERNATIVE_MISSING = _rule(
    "alternative-missing",
    "query {object} needs one of the parameters {parameters}",
    _one("XDSStoredQueryMissingParam", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.7, 3.51.4.1.2.3",
)
STATUS_UNKNOWN = _rule(
    "status-unknown",
    "parameter {parameter} of query {object} holds no known status ({value})",
    _one("XDSStoredQueryMissingParam", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.6",
)
PARAMETER_VALUES = _rule(
    "parameter-values",
    "parameter {parameter} of query {object} has {count} values; one is allowed",
    _one("XDSStoredQueryParamNumber", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.7",
)
PARAMETER_REPEATED = _rule(
    "parameter-repeated",
    "parameter {parameter} of query {object} stands in several Slots, "
    "which only multi-valued attributes allow",
    _one("XDSStoredQueryParamNumber", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.5",
)
ALTERNATIVES_BOTH = _rule(
    "alternatives-both",
    "query {object} has several of the parameters {parameters}; one of them is allowed",
    _one("XDSStoredQueryParamNumber", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.7",
)
PARAMETER_CODING = _rule(
    "parameter-coding",
    "parameter {parameter} of query {object} is {value!r}: {problem}",
    _one("XDSRegistryError", *_QUERY),
    "ITI TF-2 3.18.4.1.2.3.5",
)
NOT_SINGLE_PATIENT = _rule(
    "not-single-patient",
    "the result of query {object} belongs to several patients; ask for ObjectRef",
    _one("XDSResultNotSinglePatient", *_QUERY, "ITI-43"),
    "ITI TF-2 3.18.4.1.2.3.7.5; ITI TF-3 4.2.4.1",
)
TOO_MANY_RESULTS = _rule(
    "too-many-results",
    "request {object} has more than {limit} results; ask more narrowly",
    _one("XDSTooManyResults", *_QUERY, "ITI-43", "RAD-69"),
    "ITI TF-3 4.2.4.1",
)
HOME_MISSING = _rule(
    "home-missing",
    "request {object} needs a homeCommunityId",
    _one("XDSMissingHomeCommunityId", *_QUERY, *_RETRIEVE),
    "ITI TF-2 3.18.4.1.3, 3.43.4.1.3",
)
UNKNOWN_COMMUNITY = _rule(
    "unknown-community",
    "homeCommunityId {value} of request {object} is not known here",
    _one("XDSUnknownCommunity", *_QUERY, *_RETRIEVE),
    "ITI TF-3 4.2.4.1",
)
COMMUNITY_UNAVAILABLE = _rule(
    "community-unavailable",
    "community {value} cannot be reached for request {object}",
    _one("XDSUnavailableCommunity", *_QUERY, *_RETRIEVE),
    "ITI TF-3 4.2.4.1",
)

# --- Retrieves (repository, imaging source) ------------------------------------------------------

UNKNOWN_REPOSITORY = _rule(
    "unknown-repository",
    "document {object} was asked of repositoryUniqueId {value}, which is not served here",
    _one("XDSUnknownRepositoryId", *_RETRIEVE, _REMOVE),
    "ITI TF-2 3.43.4.1.3; RAD TF-2 4.69.4.1.3",
)
UNKNOWN_DOCUMENT = _rule(
    "unknown-document",
    "document {object} is not known here",
    _one("XDSDocumentUniqueIdError", *_RETRIEVE, _REMOVE),
    "ITI TF-2 3.43.4.1.3; RAD TF-2 4.69.4.1.3",
)
DOCUMENT_UNAVAILABLE = _rule(
    "document-unavailable",
    "document {object} is known but its bytes cannot be delivered",
    _one("XDSDocumentUniqueIdError", *_RETRIEVE),
    "ITI TF-3 4.2.4.1",
)
NOT_ASSEMBLED = _rule(
    "not-assembled",
    "document {object} is to be assembled when it is asked for, and could not be: {problem}",
    _one("XDSRepositoryError", "ITI-43"),
    "ITI TF-2 3.43.4.2.2; ITI TF-3 4.2.4.1",
)
PLACE_UNNAMED = _rule(
    "place-unnamed",
    "instance {object} is asked for with an empty {attribute}",
    # No profile names a code for it: this one is that of NIST's XDS Toolkit.
    _one("XDSIRequestError", "RAD-69"),
    "RAD TF-2 4.69.4.1.2",
)
INSTANCE_ELSEWHERE = _rule(
    "instance-elsewhere",
    "instance {object} is not part of series {series} of study {study}",
    _one("XDSDocumentUniqueIdError", "RAD-69"),
    "RAD TF-2 4.69.4.1.3",
)
TRANSFER_SYNTAX_UNAVAILABLE = _rule(
    "transfer-syntax-unavailable",
    "instance {object} is kept in transfer syntax {value} and cannot be had in any asked for",
    _one("XDSRepositoryError", "RAD-69"),
    "RAD TF-2 4.69.4.1.3",
)

# --- Changes by administrators (registry): Metadata Update, its restricted form, removal ---------

_UPDATE_ERROR = _one("XDSMetadataUpdateError", "ITI-57")
_OPERATION = "XDSMetadataUpdateOperationError"
_RECONCILIATION = _one("XDSPatientIDReconciliationError", "ITI-57")
_FROZEN = _one("UnmodifiableMetadataError", "ITI-92")
_IDENTIFIER = {**_UPDATE_ERROR, "ITI-92": "XDSMetadataIdentifierError"}
_ANNOTATION = {**_UPDATE_ERROR, "ITI-92": "XDSMetadataAnnotationError"}

INITIAL_VERSION = _rule(
    "initial-version",
    "{kind} {object} is a first version (lid {value}); an update needs the logicalID of what it "
    "changes, first versions are registered by ITI-42",
    {**_UPDATE_ERROR, "ITI-92": "XDSInvalidRequestException"},
    "Metadata Update 3.57.4.1.3.1; Restricted Metadata Update 3.92.4.1.3",
)
OPERATION = _rule(
    "operation",
    "{object} must ask for exactly one operation: {problem}",
    _one(_OPERATION, "ITI-57"),
    "Metadata Update 3.57.4.1.3.2",
)
PREVIOUS_VERSION_MISSING = _rule(
    "previous-version-missing",
    "the HasMember of {object} has no PreviousVersion, which names the version it follows",
    {"ITI-57": _OPERATION, "ITI-92": "XDSMetadataVersionError"},
    "Metadata Update 3.57.4.1.3.3.1",
)
PREVIOUS_VERSION = _rule(
    "previous-version",
    "{object} follows version {value}, the latest one is {expected}; fetch that and change it",
    _one("XDSMetadataVersionError", "ITI-57"),
    "Metadata Update 3.57.4.1.3.3.1.3",
)
PROPAGATION_VALUE = _rule(
    "propagation-value",
    "AssociationPropagation of {object} is {value!r}; expected yes or no",
    _ANNOTATION,
    "Metadata Update 3.57.4.1.3.3.1",
)
MEMBER_STATUS = _rule(
    "member-status",
    "HasMember {object} has SubmissionSetStatus {value!r}; a new version is Original",
    _ANNOTATION,
    "ITI TF-3 4.2.2.1.1; Metadata Update 3.57.4.1.3.3.1",
)
PROPAGATION_DIFFERS = _rule(
    "propagation-differs",
    "{object} and {value} are linked and updated together with different AssociationPropagation",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.3.1",
)
UPDATED_TWICE = _rule(
    "updated-twice",
    "{object}: the request holds another operation of this kind for {value}; one is allowed",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.1",
)
LOGICAL_ID_UNKNOWN = _rule(
    "logical-id-unknown",
    "{kind} {object} has lid {value}, which is no registered {kind}",
    _IDENTIFIER,
    "Metadata Update 3.57.4.1.3.3.1",
)
UNIQUE_ID_CHANGED = _rule(
    "unique-id-changed",
    "{object} has uniqueId {value}, its versions have {expected}, which never changes",
    _IDENTIFIER,
    "Metadata Update 3.57.4.1.3.3.1; Restricted Metadata Update 3.92.4.1.3",
)
OBJECT_TYPE_CHANGED = _rule(
    "object-type-changed",
    "DocumentEntry {object} has objectType {value}, its versions have {expected}, "
    "which never changes",
    {**_UPDATE_ERROR, "ITI-92": "XDSObjectTypeError"},
    "Metadata Update 3.57.4.1.3.3.1; Restricted Metadata Update 3.92.4.1.3",
)
ATTRIBUTE_FROZEN = _rule(
    "attribute-frozen",
    "{attribute} of {object} is {value!r}, registered is {expected!r}; it may not be changed here",
    _FROZEN,
    "Restricted Metadata Update 3.92.4.1.3",
)
PATIENT_CHANGED = _rule(
    "patient-changed",
    "{object} has patientId {value}, registered is {expected}; it may not be changed here",
    _one("XDSPatientIDReconciliationError", "ITI-92"),
    "Restricted Metadata Update 3.92.4.1.3",
)
DEPRECATED_FOLDER_UPDATED = _rule(
    "deprecated-folder-updated",
    "Folder {object} is to follow {value}, which is deprecated; restore its status first",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.3.3",
)
STATUS_VALUE = _rule(
    "status-value",
    "{attribute} of {object} is {value!r}; expected the URN of Approved or Deprecated",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.3.2",
)
STATUS_TARGET = _rule(
    "status-target",
    "{object} changes the status of {value}, {problem}",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.3.2, 3.57.4.1.3.3.4, 3.57.4.1.3.3.5",
)
ORIGINAL_STATUS = _rule(
    "original-status",
    "{object} expects {target} to be {value}, but it is {expected}",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.3.2",
)
LINK_END_DEPRECATED = _rule(
    "link-end-deprecated",
    "Association {object} links {value}, which is deprecated when the update is done",
    _UPDATE_ERROR,
    "Metadata Update 3.57.4.1.3.3.6",
)
PATIENTS_LINKED = _rule(
    "patients-linked",
    "after the update, Association {object} would link {source} and {target}, which belong to "
    "different patients; update both, or use AssociationPropagation no",
    _RECONCILIATION,
    "Metadata Update 3.57.4.1.3.4",
)
REMOVED_UNKNOWN = _rule(
    "removed-unknown",
    "object {object} is not registered",
    _one("UnresolvedReferenceException", "ITI-62"),
    "Remove Metadata and Documents 3.62.4.1.3",
)
REFERENCE_EXISTS = _rule(
    "reference-exists",
    "object {object} is still referred to by {value}; remove that with it",
    _one("ReferencesExistException", "ITI-62"),
    "Remove Metadata and Documents 3.62.4.1.3",
)
LEFT_UNREFERENCED = _rule(
    "left-unreferenced",
    "object {object} would be left in no SubmissionSet; remove it too",
    _one("XDSUnreferencedObjectException", "ITI-62"),
    "Remove Metadata and Documents 3.62.4.1.3",
)

REMOVAL_NOT_ALLOWED = _rule(
    "removal-not-allowed",
    "document {object} cannot be removed: this repository takes no administrative transactions",
    _one("XDSRemoveDocumentsError", _REMOVE),
    "RMD 3.86.4.1.3",
)
REMOVAL_FAILED = _rule(
    "removal-failed",
    "document {object} cannot be removed at the moment; send the request again later",
    _one("XDSRemoveDocumentsError", _REMOVE),
    "RMD 3.86.4.1.3",
)

# --- The state of the actor itself ---------------------------------------------------------------

_ALL = (*_QUERY, *_SUBMIT, *_RETRIEVE)
_REGISTRY = (*_QUERY, "ITI-42")


def _by_actor(suffix: str) -> dict[str, str]:
    """``XDSRegistry…`` where a registry answers, ``XDSRepository…`` everywhere else."""
    actors = {name: "Registry" if name in _REGISTRY else "Repository" for name in _ALL}
    return {name: f"XDS{actor}{suffix}" for name, actor in actors.items()}


BUSY = _rule(
    "busy",
    "{object}: too many requests at the moment; send it again later",
    _by_actor("Busy"),
    "ITI TF-3 4.2.4.1",
)
OUT_OF_RESOURCES = _rule(
    "out-of-resources",
    "{object}: resources are low ({problem}); nothing was stored",
    _by_actor("OutOfResources"),
    "ITI TF-3 4.2.4.1",
)
BODY_UNREADABLE = _rule(
    "body-unreadable",
    "{object}: the message does not follow its schema: {problem}",
    {
        **_METADATA,
        **_one("XDSRegistryError", *_QUERY, "ITI-62"),
        **_one("XDSRepositoryError", *_RETRIEVE, _REMOVE),
    },
    "ITI TF-2 3.18.4.1.2, 3.41.4.1.2, 3.42.4.1.2, 3.43.4.1.2; RAD TF-2 4.69.4.1.2",
)
INTERNAL = _rule(
    "internal",
    "{object}: the request failed for a reason inside this system; quote reference {reference}",
    {**_by_actor("Error"), _REMOVE: "XDSRepositoryError"},
    "ITI TF-3 4.2.4.1",
)
