"""Every fixed identifier of XDS: namespaces, scheme UUIDs, types, statuses, well-known codes.

Covers ITI TF-3 4.1.2, 4.2.2, 4.2.5.2 and the XDS-I.b format codes of RAD TF-2 4.68. Names
of schemes start with the object they describe: ``DE`` DocumentEntry, ``SS`` SubmissionSet,
``FD`` Folder. Error codes live in ``metadata.catalogue``, stored-query ids with their query.
"""

# Namespaces (ITI TF-3 4.2.1; RAD TF-2 4.69).
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDS = "urn:ihe:iti:xds-b:2007"
RMD = "urn:ihe:iti:rmd:2017"
RAD = "urn:ihe:rad:xdsi-b:2009"
XML = "http://www.w3.org/XML/1998/namespace"

# DocumentEntry (ITI TF-3 4.2.5.2).
DE_AUTHOR = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
DE_CLASS_CODE = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
DE_CONFIDENTIALITY_CODE = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
DE_EVENT_CODE = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
DE_FORMAT_CODE = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
DE_FACILITY_TYPE_CODE = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
DE_PRACTICE_SETTING_CODE = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
DE_TYPE_CODE = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
DE_LIMITED_METADATA = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85"
DE_PATIENT_ID = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
DE_UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"

# SubmissionSet.
SS_NODE = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
SS_AUTHOR = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
SS_CONTENT_TYPE_CODE = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
SS_LIMITED_METADATA = "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707"
SS_PATIENT_ID = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
SS_SOURCE_ID = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"
SS_UNIQUE_ID = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"

# Folder.
FD_NODE = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
FD_CODE = "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5"
FD_LIMITED_METADATA = "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03"
FD_PATIENT_ID = "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a"
FD_UNIQUE_ID = "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a"

# Association.
ASSOCIATION_DOCUMENTATION = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"

# DocumentEntry.objectType (ITI TF-3 4.2.5.2).
STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"

# rim objectType of everything else (ebRIM 3.0; ITI TF-3 4.2.3.1).
REGISTRY_OBJECT = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject"
_OBJECT = f"{REGISTRY_OBJECT}:"
CLASSIFICATION_OBJECT = _OBJECT + "Classification"
EXTERNAL_IDENTIFIER_OBJECT = _OBJECT + "ExternalIdentifier"
REGISTRY_PACKAGE_OBJECT = _OBJECT + "RegistryPackage"
ASSOCIATION_OBJECT = _OBJECT + "Association"

# availabilityStatus (ITI TF-3 4.2.3.2.2) and documentAvailability (Metadata Update).
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
ONLINE = "urn:ihe:iti:2010:DocumentAvailability:Online"
OFFLINE = "urn:ihe:iti:2010:DocumentAvailability:Offline"

# Response status and error severity (ITI TF-3 4.2.4); PartialSuccess has another prefix.
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL_SUCCESS = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
ERROR = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"

# Association types (ITI TF-3 4.2.2; the last two: Metadata Update). "signs" is lower case.
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
XFRM = "urn:ihe:iti:2007:AssociationType:XFRM"
APND = "urn:ihe:iti:2007:AssociationType:APND"
XFRM_RPLC = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"
SIGNS = "urn:ihe:iti:2007:AssociationType:signs"
IS_SNAPSHOT_OF = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"
UPDATE_AVAILABILITY_STATUS = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
SUBMIT_ASSOCIATION = "urn:ihe:iti:2010:AssociationType:SubmitAssociation"

# Types that link one DocumentEntry to another.
DOCUMENT_RELATIONSHIPS = frozenset({RPLC, XFRM, APND, XFRM_RPLC, SIGNS, IS_SNAPSHOT_OF})
# Types that deprecate their target (ITI TF-3 4.2.2.2).
REPLACEMENTS = frozenset({RPLC, XFRM_RPLC})

# Slot SubmissionSetStatus of a SubmissionSet-DocumentEntry HasMember (ITI TF-3 4.2.2.1.1).
ORIGINAL = "Original"
REFERENCE = "Reference"

# Slot AssociationPropagation of an update (Metadata Update 3.57.4.1.3.3.1); absent means yes.
PROPAGATE, DO_NOT_PROPAGATE = "yes", "no"

# Kinds of reference in referenceIdList (ITI TF-3 4.2.3.1.7, CXi.5).
UNIQUE_ID_REFERENCE = "urn:ihe:iti:xds:2013:uniqueId"
ACCESSION_REFERENCE = "urn:ihe:iti:xds:2013:accession"
REFERRAL_REFERENCE = "urn:ihe:iti:xds:2013:referral"
ORDER_REFERENCE = "urn:ihe:iti:xds:2013:order"
WORKFLOW_REFERENCE = "urn:ihe:iti:xdw:2013:workflowInstanceId"
STUDY_INSTANCE_UID_REFERENCE = "urn:ihe:iti:xds:2016:studyInstanceUID"
ENCOUNTER_REFERENCE = "urn:ihe:iti:xds:2015:encounterId"
REFERENCE_ID_LIST_SLOT = "urn:ihe:iti:xds:2013:referenceIdList"

# Format codes and their schemes (ITI TF-3 4.2.3.2.9; RAD TF-2 4.68.4.1.2.3).
IHE_FORMAT_SCHEME = "1.3.6.1.4.1.19376.1.2.3"
MIME_TYPE_SUFFICIENT = "urn:ihe:iti:xds:2017:mimeTypeSufficient"
DICOM_UID_SCHEME = "1.2.840.10008.2.6.1"
KOS_FORMAT_CODE = "1.2.840.10008.5.1.4.1.1.88.59"
DICOM_MIME_TYPE = "application/dicom"
# The FHIR form of a manifest (IHE RAD MADO).
MADO_FHIR_FORMAT_CODE = "urn:ihe:rad:MADO:fhir-manifest:2026"
MADO_FORMAT_SCHEME = "1.3.6.1.4.1.19376.1.2.7.1"
FHIR_JSON_MIME_TYPE = "application/fhir+json"
CONFIDENTIALITY_SCHEME = "2.16.840.1.113883.5.25"
ACQUISITION_MODALITY_SCHEME = "1.2.840.10008.2.16.4"

# SHA-1 and size of nothing: how Delayed Document Assembly registers an entry.
EMPTY_SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
