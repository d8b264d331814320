"""The tables of the Document Registry.

What lies where, and why:

- Every patient-scoped table leads its primary key and its indexes with the patient, so that a
  patient's rows lie together and a distributed database can place them by that column. The
  patient of a row is the one its sender named: a merge adds alias rows to ``patient`` and leaves
  the evidence alone (ITI TF-2 3.18.4.1.2.3.9). Only a link change (ITI-64) moves rows, and
  ``link_change_object`` keeps whose they were.
- Five tables are global and narrow: ``identity`` holds a uniqueId to one content for ever and
  tells where it lives; ``namesake`` lists the further DocumentEntries that ITI TF-2
  3.42.4.1.3.3.1 lets share it, and the further versions of an object; ``object`` tells where an
  entryUUID lives; ``reach`` tells which other patients' associations touch an object;
  ``revision`` lists the versions of the few objects that have more than one.
- ``ebrim`` is the object's canonical XML, rendered when the object changes and copied into
  answers as it is. It stands last in its row: SQLite need not walk it to judge a filter.
- ``level`` is the lowest $MetadataLevel at which an object is shown: 1, or 2 for a version that
  is not the latest and for a DocumentEntry that is Offline (Metadata Update 3.18.4.1.2.3.5.1).
- Attributes with several values that queries ask for stand in ``attribute_value``, which serves
  DocumentEntries, SubmissionSets and Folders alike.
- Three indexes do not lead with the patient: they serve the queries across patients (ITI-51),
  which name none. Two indexes hold the rows of some attributes only, and serve the statements
  that name these attributes as constants.

On SQLite all but ``patient`` are WITHOUT ROWID: the row lies in its primary key, so a patient's
objects are read in one walk, and a registration writes 27 pages instead of 34.

Codes are kept as queries spell them (``code^^scheme``), times padded to 14 digits of UTC, so
that every comparison is one of plain text and means the same on SQLite and PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Kinds of ``object`` and ``identity`` rows.
DOCUMENT = "document"
SUBMISSION_SET = "submission set"
FOLDER = "folder"
ASSOCIATION = "association"

# Attributes kept in ``attribute_value``.
AUTHOR = "author"
AVAILABILITY = "availability"  # documentAvailability, of Offline documents alone
CODE = "code"
CONFIDENTIALITY = "confidentiality"
EVENT = "event"
REFERENCE = "reference"

# Values of ``status`` and ``object_type``: the last word of the URI, or its meaning.
APPROVED = "Approved"
DEPRECATED = "Deprecated"
STABLE = "Stable"
ON_DEMAND = "On-Demand"

# Values of ``level``.
SHOWN = 1
HIDDEN = 2


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _optional(name: str) -> Column[str]:
    return Column(name, Text, nullable=True)


def _level() -> Column[int]:
    return Column("level", Integer, nullable=False, server_default=str(SHOWN))


def _ebrim() -> Column[bytes]:
    return Column("ebrim", LargeBinary, nullable=False)


patient = Table(
    "patient",
    METADATA,
    _key("id"),
    # The patient that ``id`` stands for today: itself while active, the end of its merge chain
    # once subsumed. One step resolves any chain.
    _text("survivor"),
    Index(None, "survivor"),
)

patient_merge = Table(
    "patient_merge",
    METADATA,
    _key("subsumed"),
    _text("surviving"),
    _text("merged_at"),
    _text("sender"),
    _text("control_id"),
    sqlite_with_rowid=False,
)

# What an operator undid: the merge as it stood in ``patient_merge``, and who undid it, when, why.
patient_unmerge = Table(
    "patient_unmerge",
    METADATA,
    _key("id"),
    _text("subsumed"),
    _text("surviving"),
    _text("merged_at"),
    _text("sender"),
    _text("control_id"),
    _text("unmerged_at"),
    _text("operator"),
    _text("reason"),
    Index(None, "subsumed"),
    Index(None, "surviving"),
    sqlite_with_rowid=False,
)

# A local identifier that went from one XAD-PID to another (ITI-64), and each object that went
# with it, with the patient under whom it was kept before.
link_change = Table(
    "link_change",
    METADATA,
    _key("id"),
    _key("local"),
    _text("previous"),
    _text("current"),
    _text("changed_at"),
    _text("sender"),
    _text("control_id"),
    Index(None, "previous"),
    Index(None, "current"),
    sqlite_with_rowid=False,
)

link_change_object = Table(
    "link_change_object",
    METADATA,
    _key("change"),
    _key("entry_uuid"),
    _text("previous"),
    sqlite_with_rowid=False,
)

# What was answered to each identity message that had an effect, so that a redelivery gets the
# same answer. ``received_at`` lets an operator drop rows beyond every sender's retry horizon.
identity_message = Table(
    "identity_message",
    METADATA,
    _key("sender"),
    _key("control_id"),
    _key("digest"),
    _text("received_at"),
    _text("ack_code"),
    _text("error_code"),
    _text("text"),
    Index(None, "received_at"),
    sqlite_with_rowid=False,
)

object_ = Table(
    "object",
    METADATA,
    _key("entry_uuid"),
    _text("kind"),
    _text("patient"),
    sqlite_with_rowid=False,
)

identity = Table(
    "identity",
    METADATA,
    _key("unique_id"),
    _text("kind"),
    _text("patient"),
    _text("entry_uuid"),
    _optional("hash"),
    Column("size", BigInteger, nullable=True),
    sqlite_with_rowid=False,
)

namesake = Table(
    "namesake",
    METADATA,
    _key("unique_id"),
    _key("entry_uuid"),
    _text("patient"),
    sqlite_with_rowid=False,
)

# ``patient`` holds associations that touch ``entry_uuid``, an object of another patient: a
# document by reference, or one registered before a merge.
reach = Table(
    "reach",
    METADATA,
    _key("entry_uuid"),
    _key("patient"),
    sqlite_with_rowid=False,
)

# Written when an object gets its second version: from then on every version of it has a row. An
# object without rows here is its own only version, and its logicalID is its entryUUID.
revision = Table(
    "revision",
    METADATA,
    _key("logical_id"),
    Column("version", Integer, primary_key=True),
    _text("entry_uuid"),
    _text("patient"),
    Index(None, "entry_uuid"),
    sqlite_with_rowid=False,
)

document_entry = Table(
    "document_entry",
    METADATA,
    _key("patient"),
    _key("entry_uuid"),
    _text("status"),
    _text("object_type"),
    _optional("class_code"),
    _optional("type_code"),
    _optional("format_code"),
    _optional("healthcare_facility_type_code"),
    _optional("practice_setting_code"),
    _optional("creation_time"),
    _optional("service_start_time"),
    _optional("service_stop_time"),
    _level(),
    _ebrim(),
    Index(None, "class_code", "creation_time"),
    Index(None, "healthcare_facility_type_code", "creation_time"),
    sqlite_with_rowid=False,
)

submission_set = Table(
    "submission_set",
    METADATA,
    _key("patient"),
    _key("entry_uuid"),
    _text("status"),
    _text("source_id"),
    _optional("content_type_code"),
    _text("submission_time"),
    _ebrim(),
    sqlite_with_rowid=False,
)

folder = Table(
    "folder",
    METADATA,
    _key("patient"),
    _key("entry_uuid"),
    _text("status"),
    _text("last_update_time"),
    _level(),
    _ebrim(),
    sqlite_with_rowid=False,
)

association = Table(
    "association",
    METADATA,
    _key("patient"),
    _key("entry_uuid"),
    _text("type"),
    _text("source"),
    _text("target"),
    Column("status", Text, nullable=False, server_default=APPROVED),
    _ebrim(),
    Index(None, "patient", "source"),
    Index(None, "patient", "target"),
    sqlite_with_rowid=False,
)

# The attributes that queries across patients ask for: codes of Folders, event codes. A constant
# text: the index serves statements that say the very same.
ACROSS_PATIENTS = text(f"attribute IN ('{CODE}', '{EVENT}')")
_REFERENCES = text(f"attribute = '{REFERENCE}'")

attribute_value = Table(
    "attribute_value",
    METADATA,
    _key("patient"),
    _key("entry_uuid"),
    _key("attribute"),
    _key("value"),
    Index(
        "ix_attribute_value_code",
        "value",
        sqlite_where=ACROSS_PATIENTS,
        postgresql_where=ACROSS_PATIENTS,
    ),
    # What a patient's documents refer to: of 5,000 documents one is found in 0.1 ms, not in 5.
    # It costs registrations that refer to something 3 pages of 35 and 2 % of their time, all
    # others nothing.
    Index(
        "ix_attribute_value_reference",
        "patient",
        "value",
        sqlite_where=_REFERENCES,
        postgresql_where=_REFERENCES,
    ),
    sqlite_with_rowid=False,
)
