"""The tables of an imaging source: what has been stored, and what is to be published.

One database of its own (``imaging.db``). Rows of a study are reached by its UID, series and
instances by study first, so a study stays together however the tables are spread.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"}
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


# ``revision`` counts the instances that changed the study; ``published_revision`` is the
# count at the time of the manifest that the registry has, whose entry is
# ``published_entry``. Times are seconds since the epoch.
STUDY = Table(
    "study",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    _text("patient_id"),
    _text("issuer"),
    _text("issuer_oid"),
    _text("patient_name"),
    _text("birth_date"),
    _text("sex"),
    _text("date"),
    _text("time"),
    _text("timezone_offset"),
    _text("description"),
    _text("study_id"),
    _text("accession_number"),
    _text("accession_issuer_oid"),
    _text("placer_order_number"),
    _text("placer_issuer_oid"),
    _text("requested_procedure_id"),
    _text("referring_physician"),
    _text("institution"),
    _text("manufacturer"),
    Column("changed_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("published_revision", Integer, nullable=False),
    Column("published_entry", Text),
)
Index("ix_study_patient", STUDY.c.patient_id, STUDY.c.issuer_oid)
# The studies that wait to be published, the longest quiet first.
Index(
    "ix_study_unpublished",
    STUDY.c.changed_at,
    sqlite_where=STUDY.c.revision > STUDY.c.published_revision,
    postgresql_where=STUDY.c.revision > STUDY.c.published_revision,
)

# What studies are looked for by (PS3.18 10.6.1.2.3), and the order in which they are listed.
Index("ix_study_listed", STUDY.c.date, STUDY.c.time, STUDY.c.study_instance_uid)
Index("ix_study_accession", STUDY.c.accession_number)
Index("ix_study_study_id", STUDY.c.study_id)

# Compared byte by byte, so that an index serves a name that is known by its beginning.
_FOLDED = Text().with_variant(Text(collation="C"), "postgresql")

# Names of a study as they are compared: see ``imaging_source.names``.
STUDY_NAME = Table(
    "study_name",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("patient_name", _FOLDED, nullable=False),
    Column("referring_physician", _FOLDED, nullable=False),
)
Index("ix_study_name_patient", STUDY_NAME.c.patient_name)
Index("ix_study_name_physician", STUDY_NAME.c.referring_physician)

# ``date`` and ``time`` are null for series stored before they were kept.
SERIES = Table(
    "series",
    METADATA,
    Column("series_instance_uid", Text, primary_key=True),
    _text("study_instance_uid"),
    _text("modality"),
    Column("series_number", Integer),
    _text("description"),
    _text("body_part"),
    Column("date", Text),
    Column("time", Text),
)
Index("ix_series_study", SERIES.c.study_instance_uid, SERIES.c.modality)
Index("ix_series_modality", SERIES.c.modality, SERIES.c.series_instance_uid)

# Requests that a study answers beside the one that its own row names: further pairs of accession
# and order.
REQUEST = Table(
    "request",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("accession_number", Text, primary_key=True),
    Column("placer_order_number", Text, primary_key=True),
    _text("accession_issuer_oid"),
    _text("placer_issuer_oid"),
    _text("requested_procedure_id"),
)

# ``sha256`` is the address of the Part 10 file in the blob store. ``rejection`` is the code of
# the rejection note (IOCM) that names the instance: no door shows it and no manifest lists it any
# more.
INSTANCE = Table(
    "instance",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("sop_class_uid"),
    _text("transfer_syntax_uid"),
    _text("sha256"),
    Column("size", BigInteger, nullable=False),
    Column("instance_number", Integer),
    Column("number_of_frames", Integer, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("rejection", Text),
)
# With the rejection, so that what is shown of a study is counted without reading its rows.
Index(
    "ix_instance_study",
    INSTANCE.c.study_instance_uid,
    INSTANCE.c.series_instance_uid,
    INSTANCE.c.rejection,
)
Index("ix_instance_sha256", INSTANCE.c.sha256)

# What an instance says of itself (``imaging_source.description``), made after it was stored:
# compressed JSON, and the columns that answers to queries have of an image.
DESCRIPTION = Table(
    "description",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("attributes", LargeBinary, nullable=False),
    Column("places", LargeBinary, nullable=False),
    Column("pixel_rows", Integer),
    Column("pixel_columns", Integer),
    Column("bits_allocated", Integer),
)

# What a series is looked for by beside its row, told by the first of its instances described:
# the start of its performed procedure step, and an entry for each request it was made for.
SERIES_STEP = Table(
    "series_step",
    METADATA,
    Column("series_instance_uid", Text, primary_key=True),
    _text("start_date"),
    _text("start_time"),
)
Index("ix_series_step_start", SERIES_STEP.c.start_date, SERIES_STEP.c.start_time)
SERIES_REQUEST = Table(
    "series_request",
    METADATA,
    Column("series_instance_uid", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    _text("scheduled_step_id"),
    _text("requested_procedure_id"),
)
Index("ix_series_request_step", SERIES_REQUEST.c.scheduled_step_id)
Index("ix_series_request_procedure", SERIES_REQUEST.c.requested_procedure_id)
# What the rejection notes have named, whether it has arrived or not: an instance that comes after
# its note is born rejected. One row for an instance, of the code that weighs most. ``note_uid`` is
# the SOP Instance UID of the note, empty where the site's own retention spoke.
REJECTION = Table(
    "rejection",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("code"),
    _text("note_uid"),
    Column("received_at", Float, nullable=False),
)

# What was told of a study's completeness, by signal (``imaging_source.completeness``).
COMPLETION = Table(
    "completion",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("signal", Text, primary_key=True),
    Column("told_at", Float, nullable=False),
    Column("instances", Integer),
)

# Studies that cannot be published because nobody can tell now who their patient is in the affinity
# domain. ``reason`` quotes no patient.
UNIDENTIFIED = Table(
    "unidentified",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("since", Float, nullable=False),
    _text("reason"),
)

# Identifiers that stand for another since a merge (ADT^A40), as images spell them: studies that
# arrive under one are the survivor's.
MERGED_PATIENT = Table(
    "merged_patient",
    METADATA,
    Column("patient_id", Text, primary_key=True),
    Column("issuer_oid", Text, primary_key=True),
    _text("surviving_id"),
    Column("merged_at", Float, nullable=False),
)
Index("ix_merged_patient_survivor", MERGED_PATIENT.c.surviving_id)

# What a hospital has corrected of a study's patient since its images were made: they are coerced
# to these values on every way out. A column that is NULL is as in the images. ``source`` is who
# said so.
CORRECTION = Table(
    "correction",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("patient_id", Text),
    Column("patient_name", Text),
    Column("birth_date", Text),
    Column("sex", Text),
    Column("corrected_at", Float, nullable=False),
    _text("source"),
)

# What was received and kept but not taken into the index, for a person to look at.
QUARANTINE = Table(
    "quarantine",
    METADATA,
    _text("sop_instance_uid"),
    _text("sha256"),
    Column("size", BigInteger, nullable=False),
    _text("reason"),
    _text("sender"),
    Column("received_at", Float, nullable=False),
)
Index("ix_quarantine_instance", QUARANTINE.c.sop_instance_uid, QUARANTINE.c.sha256, unique=True)
Index("ix_quarantine_sha256", QUARANTINE.c.sha256)

# What is on its way to the registry. ``kind`` says what: a manifest, a report, or the withdrawal of
# one. A publication of a report stands under the report's own UID in ``study_instance_uid``.
# ``manifest`` and ``metadata`` are the very bytes to send, fixed before the first attempt so that
# every later one is the same. ``content_hash`` is what the manifests say (``manifest.engine``).
# ``kind`` and ``state`` are those of ``imaging_source.outbox``.
PUBLICATION = Table(
    "publication",
    METADATA,
    Column("submission_set_unique_id", Text, primary_key=True),
    _text("study_instance_uid"),
    Column("kind", Text, nullable=False, server_default="manifest"),
    Column("revision", Integer, nullable=False),
    _text("entry_uuid"),
    _text("manifest_uid"),
    Column("manifest", LargeBinary, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("error", Text),
    Column("content_hash", Text),
)
Index("ix_publication_study", PUBLICATION.c.study_instance_uid)
# One publication of a study at a time, whoever publishes: the next one replaces its entry.
Index(
    "ix_publication_open",
    PUBLICATION.c.study_instance_uid,
    unique=True,
    sqlite_where=PUBLICATION.c.state == "pending",
    postgresql_where=PUBLICATION.c.state == "pending",
)
Index("ix_publication_due", PUBLICATION.c.state, PUBLICATION.c.next_attempt_at)

# Storage commitments that were asked for: ``named`` are the instances, as JSON, and ``state`` is
# one of those of ``imaging_source.commitment``. A report is sent until the peer has taken it.
COMMITMENT = Table(
    "commitment",
    METADATA,
    Column("peer", Text, primary_key=True),
    Column("transaction_uid", Text, primary_key=True),
    Column("named", LargeBinary, nullable=False),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("requested_at", Float, nullable=False),
)
Index("ix_commitment_due", COMMITMENT.c.state, COMMITMENT.c.next_attempt_at)

# What archives were asked to commit to, and what they say of each instance: ``state`` is one of
# those of ``imaging_source.archive_commitment``, ``reason`` why one is refused (PS3.3 C.14.1.1).
# ``sha256`` is the address that the instance had here when it was asked for.
ARCHIVE_COMMITMENT = Table(
    "archive_commitment",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("archive", Text, primary_key=True),
    _text("study_instance_uid"),
    _text("sha256"),
    _text("transaction_uid"),
    _text("state"),
    Column("reason", Integer),
    Column("changed_at", Float, nullable=False),
)
Index("ix_archive_commitment_transaction", ARCHIVE_COMMITMENT.c.transaction_uid)
Index("ix_archive_commitment_state", ARCHIVE_COMMITMENT.c.archive, ARCHIVE_COMMITMENT.c.state)

# What modalities and archives tell of studies: a performed procedure step (MPPS), a row for each
# study it belongs to, and that instances are available somewhere (IAN).
PERFORMED_STEP = Table(
    "performed_step",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("study_instance_uid", Text, primary_key=True),
    _text("status"),
    _text("sender"),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)
Index("ix_performed_step_study", PERFORMED_STEP.c.study_instance_uid)
AVAILABILITY = Table(
    "availability",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("sender", Text, primary_key=True),
    _text("retrieve_ae_title"),
    Column("instances", Integer, nullable=False),
    Column("told_at", Float, nullable=False),
)
Index("ix_availability_told", AVAILABILITY.c.told_at)
# The instances that the notices of a sender have named as available, all together.
AVAILABLE_INSTANCE = Table(
    "available_instance",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
)

# Which revision of a published study a peer has been told of (IAN), or is to be told again.
PEER_TOLD = Table(
    "peer_told",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("peer", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
)

# The manifests of other families that go with a publication, in the same submission.
FURTHER_MANIFEST = Table(
    "further_manifest",
    METADATA,
    Column("submission_set_unique_id", Text, primary_key=True),
    Column("flavour", Text, primary_key=True),
    _text("entry_uuid"),
    Column("manifest", LargeBinary, nullable=False),
)

# Reports about studies, each as its sender has it now; ``status`` is one of those of
# ``imaging_source.reports``, ``issued_at`` when the sender said so. ``content`` is what it says of
# itself, as JSON; ``sha256`` is the address of the document in the blob store. The study is the one
# that it names, or the one that was found by ``accession_number``; empty while there is none.
# ``next_attempt_at`` is null where nothing is to be done; a ``reason`` beside that is why a person
# is needed. Revisions count as those of a study do.
REPORT = Table(
    "report",
    METADATA,
    Column("report_uid", Text, primary_key=True),
    _text("sender"),
    _text("status"),
    _text("issued_at"),
    Column("content", LargeBinary, nullable=False),
    _text("sha256"),
    Column("size", BigInteger, nullable=False),
    _text("study_instance_uid"),
    _text("accession_number"),
    Column("received_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("published_revision", Integer, nullable=False),
    Column("published_entry", Text),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float),
    Column("reason", Text),
)
Index("ix_report_due", REPORT.c.next_attempt_at)
Index("ix_report_study", REPORT.c.study_instance_uid)
Index("ix_report_accession", REPORT.c.accession_number)
Index("ix_report_sha256", REPORT.c.sha256)

# What its sender calls a report; a version that replaces another has a name of its own.
REPORT_NAME = Table(
    "report_name",
    METADATA,
    Column("sender", Text, primary_key=True),
    Column("number", Text, primary_key=True),
    _text("report_uid"),
)
Index("ix_report_name_report", REPORT_NAME.c.report_uid)

# Instances that hold a document, or held one until they were rejected: still to be looked at.
ENCAPSULATED = Table(
    "encapsulated",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
)

# Instances whose bytes are with their archive alone (``imaging_source.eviction``); ``reason`` is
# why the last attempt to fetch one did not bring it back.
EVICTED = Table(
    "evicted",
    METADATA,
    Column("sop_instance_uid", Text, primary_key=True),
    _text("study_instance_uid"),
    Column("evicted_at", Float, nullable=False),
    Column("reason", Text),
)
Index("ix_evicted_study", EVICTED.c.study_instance_uid)

# When a study was last asked for, to the hour, and when all of it was evicted.
STUDY_USE = Table(
    "study_use",
    METADATA,
    Column("study_instance_uid", Text, primary_key=True),
    Column("used_at", Float, nullable=False),
    Column("evicted_at", Float),
)
