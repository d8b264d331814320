"""Announcing a manifest in XDS metadata: from a study and a policy to a submission.

Covers RAD TF-3 4.68.4.1.2.3 (how DICOM attributes map to the DocumentEntry) with the
attribute rules of ITI TF-3 4.2.3. A pure function of its arguments: identifiers and the time
come from outside, so that a submission made twice is the same submission. The repository
adds hash, size and repositoryUniqueId.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from manifest.modalities import ACQUISITION_MODALITIES
from manifest.model import Manifest, ManifestError, Study
from metadata.datatypes import CX, DTM, HD, OID, XON, CXi, LocalizedString, escape
from metadata.identifiers import (
    ACCESSION_REFERENCE,
    ACQUISITION_MODALITY_SCHEME,
    DICOM_MIME_TYPE,
    DICOM_UID_SCHEME,
    HAS_MEMBER,
    KOS_FORMAT_CODE,
    ORDER_REFERENCE,
    ORIGINAL,
    RPLC,
    STABLE,
    STUDY_INSTANCE_UID_REFERENCE,
)
from metadata.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet

FORMAT_CODE = Code(
    KOS_FORMAT_CODE, DICOM_UID_SCHEME, LocalizedString("Key Object Selection Document", "en")
)
"""formatCode of every XDS-I.b manifest (RAD TF-3 4.68.4.1.2.3.2)."""

# ITI TF-3 4.2.3.2.24: a title has fewer than 128 characters.
_TITLE_LIMIT = 127
# ITI TF-3 4.2.3.1.3: a slot value has at most 256 characters.
_VALUE_LIMIT = 256
# What DICOM allows for the name of an institution or one writing of a patient's (PS3.5 6.2). Cut
# before it is escaped, it fits in a slot with every character of it escaped.
_NAME_LIMIT = 64
# How Study Date and Time are written, by number of digits (PS3.5 6.2).
_FORMS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# Administrative sex of DICOM (PS3.3 C.7.1.1) in HL7 table 0001; the other values agree.
_SEX = {"M": "M", "F": "F", "O": "O"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationPolicy:
    """What a site decides about the entries of its studies, from its configuration.

    ``assigning_authority`` is the OID of the affinity domain's patient identifiers.
    ``source_authority`` is the OID that departmental identifiers (patient IDs, accession
    and order numbers) belong to when an image names no issuer. ``same_authorities`` are
    further issuer OIDs whose patient IDs are the affinity domain's own. ``time_zone`` is the
    clock of images that name none. ``modalities`` maps acquisition modalities to display
    names: others are not announced. ``body_parts`` maps Body Part Examined (0018,0015) to
    anatomic regions.
    """

    source_id: str
    assigning_authority: str
    class_code: Code
    type_code: Code
    content_type_code: Code
    healthcare_facility_type_code: Code
    practice_setting_code: Code
    confidentiality_code: Code
    institution: XON
    language_code: str = "en"
    source_authority: str = ""
    same_authorities: frozenset[str] = frozenset()
    time_zone: tzinfo = UTC
    modalities: Mapping[str, str] = field(default_factory=lambda: ACQUISITION_MODALITIES)
    body_parts: Mapping[str, Code] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """The names that a submission gives to what it submits, chosen once per publication."""

    entry_uuid: str
    submission_set_uuid: str
    submission_set_unique_id: str
    member_uuid: str
    replacement_uuid: str


def build_submission(
    manifest: Manifest,
    policy: PublicationPolicy,
    identifiers: Identifiers,
    replaces: str | None = None,
) -> Submission:
    """The submission that announces ``manifest``.

    ``replaces`` is the entryUUID of the entry of an earlier manifest of the same study,
    which gets deprecated (ITI TF-3 4.2.2.2.1). Raises ManifestError if the study cannot be
    published: no patient ID, one of a foreign authority, or no time of creation.
    """
    entry = _entry(manifest, policy, identifiers)
    submission = Submission(
        submission_sets=[_submission_set(manifest, entry, policy, identifiers)],
        documents=[entry],
        associations=[_membership(identifiers)],
    )
    if replaces is not None:
        submission.associations.append(_replacement(identifiers, replaces))
    return submission


def time_zone_of(study: Study, default: tzinfo) -> tzinfo:
    """The zone of the study's dates and times: its own offset (0008,0201), else ``default``."""
    try:
        zone = datetime.strptime(study.timezone_offset, "%z").tzinfo
    except ValueError:
        zone = None
    if zone is None:
        known = _local_time(study)
        offset = known[0].replace(tzinfo=default).utcoffset() if known else None
        # One fixed offset: a manifest made in winter must not move the times of a summer study.
        zone = timezone(offset or timedelta(0))
    return zone


def _entry(
    manifest: Manifest, policy: PublicationPolicy, identifiers: Identifiers
) -> DocumentEntry:
    study = manifest.study
    return DocumentEntry(
        entry_uuid=identifiers.entry_uuid,
        unique_id=manifest.sop_instance_uid,
        object_type=STABLE,
        mime_type=DICOM_MIME_TYPE,
        patient_id=_patient_id(study, policy),
        source_patient_id=_source_patient_id(study, policy),
        source_patient_info=_patient_info(study, policy),
        author=[_author(study, policy)],
        title=_title(manifest, policy),
        class_code=policy.class_code,
        type_code=policy.type_code,
        format_code=FORMAT_CODE,
        healthcare_facility_type_code=policy.healthcare_facility_type_code,
        practice_setting_code=policy.practice_setting_code,
        confidentiality_code=[policy.confidentiality_code],
        event_code_list=_event_codes(manifest, policy),
        language_code=policy.language_code,
        creation_time=_creation_time(manifest),
        service_start_time=_service_time(study, policy),
        reference_id_list=_references(study, policy),
    )


def _submission_set(
    manifest: Manifest, entry: DocumentEntry, policy: PublicationPolicy, identifiers: Identifiers
) -> SubmissionSet:
    return SubmissionSet(
        entry_uuid=identifiers.submission_set_uuid,
        unique_id=identifiers.submission_set_unique_id,
        patient_id=entry.patient_id,
        author=[_author(manifest.study, policy)],
        content_type_code=policy.content_type_code,
        source_id=OID(policy.source_id),
        submission_time=entry.creation_time,
        title=entry.title,
    )


def _membership(identifiers: Identifiers) -> Association:
    return Association(
        entry_uuid=identifiers.member_uuid,
        association_type=HAS_MEMBER,
        source=identifiers.submission_set_uuid,
        target=identifiers.entry_uuid,
        submission_set_status=ORIGINAL,
    )


def _replacement(identifiers: Identifiers, replaced: str) -> Association:
    return Association(
        entry_uuid=identifiers.replacement_uuid,
        association_type=RPLC,
        source=identifiers.entry_uuid,
        target=replaced,
    )


def _patient_id(study: Study, policy: PublicationPolicy) -> CX:
    """The patient in the affinity domain: as was found out, or if the images' ID is its own.

    The same digits from another authority are another person: such a study waits for a
    cross-reference of identifiers rather than appear in a stranger's record.
    """
    patient = study.patient
    if not patient.patient_id:
        raise ManifestError("the study has no Patient ID")
    if patient.domain_id:
        return CX.of(patient.domain_id, policy.assigning_authority)
    own = {"", policy.assigning_authority} | policy.same_authorities
    if patient.issuer_oid not in own:
        raise ManifestError(
            f"the study's Patient ID was issued by {patient.issuer_oid},"
            f" not by the affinity domain's authority {policy.assigning_authority}"
        )
    return CX.of(patient.patient_id, policy.assigning_authority)


def _source_patient_id(study: Study, policy: PublicationPolicy) -> CX:
    patient = study.patient
    issuer = patient.issuer_oid or policy.source_authority or policy.assigning_authority
    return CX.of(patient.patient_id, issuer)


def _patient_info(study: Study, policy: PublicationPolicy) -> list[str]:
    """PID-3, 5, 7 and 8 from the images (ITI TF-3 4.2.3.2.23); what is not known is left out."""
    patient = study.patient
    components = patient.name.partition("=")[0][:_NAME_LIMIT].rstrip("^").split("^")
    fields = {
        "PID-3": str(_source_patient_id(study, policy)),
        "PID-5": "^".join(map(escape, _as_xpn(components))),
        "PID-7": patient.birth_date if patient.birth_date.isdigit() else "",
        "PID-8": _SEX.get(patient.sex, "U") if patient.sex else "",
    }
    return [f"{name}|{value}"[:_VALUE_LIMIT] for name, value in fields.items() if value]


def _as_xpn(components: list[str]) -> list[str]:
    """DICOM's family^given^middle^prefix^suffix in HL7's order: suffix before prefix."""
    family, given, middle, prefix, suffix = (components + [""] * 5)[:5]
    ordered = [family, given, middle, suffix, prefix]
    while ordered and not ordered[-1]:
        ordered.pop()
    return ordered


def _author(study: Study, policy: PublicationPolicy) -> Author:
    """The institution where the images were made (RAD TF-3 4.68), else the configured one."""
    named = escape(study.institution.strip()[:_NAME_LIMIT])
    return Author(institution=[XON(named) if named else policy.institution])


def _title(manifest: Manifest, policy: PublicationPolicy) -> LocalizedString | None:
    """Study Description, or the modalities where the images carry none."""
    text = manifest.study.description or " ".join(_modalities(manifest, policy))
    return LocalizedString(text[:_TITLE_LIMIT], policy.language_code) if text else None


def _modalities(manifest: Manifest, policy: PublicationPolicy) -> list[str]:
    return sorted({series.modality for series in manifest.series} & policy.modalities.keys())


def _event_codes(manifest: Manifest, policy: PublicationPolicy) -> list[Code]:
    """One code per acquisition modality, then one per anatomic region."""
    modalities = [
        Code(code, ACQUISITION_MODALITY_SCHEME, LocalizedString(policy.modalities[code]))
        for code in _modalities(manifest, policy)
    ]
    parts = sorted({series.body_part for series in manifest.series} & policy.body_parts.keys())
    return modalities + list(dict.fromkeys(policy.body_parts[part] for part in parts))


def _creation_time(manifest: Manifest) -> DTM:
    if manifest.created is None:
        raise ManifestError("a manifest needs its time of creation")
    return DTM.of(manifest.created)


def _local_time(study: Study) -> tuple[datetime, int] | None:
    """Study Date and Time without zone, and the digits that are known of it."""
    date, time = study.date.replace(".", ""), study.time.replace(":", "").partition(".")[0]
    known = min(len(time), 6) // 2 * 2
    for digits in (date + time[:known], date):  # a time that is none must not lose the date
        with suppress(KeyError, ValueError):
            return datetime.strptime(digits, _FORMS[len(digits)]), len(digits)
    return None


def _service_time(study: Study, policy: PublicationPolicy) -> DTM | None:
    """serviceStartTime: Study Date and Time, in UTC, as precise as they are known.

    A date without time stays the local date: it names a day, and no hour to convert.
    """
    known = _local_time(study)
    if known is None:
        return None
    moment, digits = known
    day = DTM(moment.date().isoformat().replace("-", ""))
    if digits == 8:
        return day
    local = moment.replace(tzinfo=time_zone_of(study, policy.time_zone))
    try:
        utc = DTM.of(local)
    except OverflowError:  # a made-up date at the edge of the calendar
        return day
    # A half-hour zone turns a whole hour into a minute: nothing coarser than that is cut.
    return DTM(utc[: max(digits, 12)])


def _references(study: Study, policy: PublicationPolicy) -> list[CXi]:
    """What a consumer may search the study by (ITI TF-3 4.2.3.2.28): order, accession, study."""
    local = policy.source_authority or policy.assigning_authority
    numbers = (
        (study.accession_number, ACCESSION_REFERENCE, study.accession_issuer_oid),
        (study.placer_order_number, ORDER_REFERENCE, study.placer_issuer_oid),
    )
    references = [
        CXi.of(number, kind, HD.of(issuer or local)) for number, kind, issuer in numbers if number
    ]
    return [*references, CXi.of(study.study_instance_uid, STUDY_INSTANCE_UID_REFERENCE)]
