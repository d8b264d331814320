"""Announcing a manifest in XDS metadata: from a study and a policy to a submission.

Covers RAD TF-3 4.68.4.1.2.3 (how DICOM attributes map to the DocumentEntry) with the
attribute rules of ITI TF-3 4.2.3. A pure function of its arguments: identifiers and the time
come from outside, so that a submission made twice is the same submission. The repository
adds hash, size and repositoryUniqueId.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from uuid import UUID, uuid5

from manifest.fhir import Release
from manifest.flavours import Flavour
from manifest.modalities import ACQUISITION_MODALITIES
from manifest.model import Manifest, ManifestError, ManifestSeries, Study
from manifest.moments import local_time, time_zone_of
from manifest.profile import Profile
from metadata.datatypes import CX, DTM, HD, OID, XON, CXi, LocalizedString, escape
from metadata.identifiers import (
    ACCESSION_REFERENCE,
    ACQUISITION_MODALITY_SCHEME,
    HAS_MEMBER,
    ORDER_REFERENCE,
    ORIGINAL,
    RPLC,
    STABLE,
    STUDY_INSTANCE_UID_REFERENCE,
)
from metadata.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet

# ITI TF-3 4.2.3.2.24: a title has fewer than 128 characters.
_TITLE_LIMIT = 127
# ITI TF-3 4.2.3.1.3: a slot value has at most 256 characters.
_VALUE_LIMIT = 256
# What DICOM allows for the name of an institution or one writing of a patient's (PS3.5 6.2). Cut
# before it is escaped, it fits in a slot with every character of it escaped.
_NAME_LIMIT = 64
# Administrative sex of DICOM (PS3.3 C.7.1.1) in HL7 table 0001; the other values agree.
_SEX = {"M": "M", "F": "F", "O": "O"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationPolicy:
    """What a site decides about the entries of its studies, from its configuration.

    ``assigning_authority`` is the OID of the affinity domain's patient identifiers.
    ``source_authority`` is the OID that departmental identifiers (patient IDs, accession
    and order numbers) belong to when an image names no issuer. ``same_authorities`` are
    further issuer OIDs whose patient IDs are the affinity domain's own. ``time_zone`` is the
    clock of images that name none. ``flavours`` are the families to publish side by side, the
    first of them the one that speaks for the study; ``profile`` is the national form and
    ``fhir_release`` that of the FHIR form. ``modalities`` maps acquisition modalities to display
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
    flavours: tuple[Flavour, ...] = (Flavour.XDS_I,)
    profile: Profile | None = None
    fhir_release: Release = "R4"
    modalities: Mapping[str, str] = field(default_factory=lambda: ACQUISITION_MODALITIES)
    body_parts: Mapping[str, Code] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """The names of a submission set, chosen once per publication."""

    submission_set_uuid: str
    submission_set_unique_id: str


def build_submission(
    study: Study,
    entries: Sequence[DocumentEntry],
    policy: PublicationPolicy,
    identifiers: Identifiers,
    replaced: Mapping[str, Sequence[str]] | None = None,
) -> Submission:
    """The submission of the ``entries`` that announce manifests of a study or a report about it.

    There is at least one. ``replaced`` are the entryUUIDs of earlier documents that an entry takes
    the place of, which get deprecated (ITI TF-3 4.2.2.2.1), by its own entryUUID.
    """
    members = [_membership(entry, identifiers) for entry in entries]
    return Submission(
        submission_sets=[_submission_set(study, entries[0], policy, identifiers)],
        documents=list(entries),
        associations=[
            *members,
            *(
                _replacement(entry_uuid, target)
                for entry_uuid, targets in (replaced or {}).items()
                for target in targets
            ),
        ],
    )


def document_entry(
    manifest: Manifest, policy: PublicationPolicy, flavour: Flavour, entry_uuid: str
) -> DocumentEntry:
    """The entry that announces ``manifest``, written in the family ``flavour``.

    Raises ManifestError if the study cannot be published: no patient ID, one of a foreign
    authority, or no time of creation.
    """
    study = manifest.study
    return DocumentEntry(
        entry_uuid=entry_uuid,
        unique_id=manifest.sop_instance_uid,
        object_type=STABLE,
        mime_type=flavour.mime_type,
        patient_id=domain_patient_id(study, policy),
        source_patient_id=source_patient_id(study, policy),
        source_patient_info=patient_info(study, policy),
        author=[author_of(study, policy)],
        title=_title(manifest, policy),
        class_code=policy.class_code,
        type_code=policy.type_code,
        format_code=flavour.format_code,
        healthcare_facility_type_code=policy.healthcare_facility_type_code,
        practice_setting_code=policy.practice_setting_code,
        confidentiality_code=[policy.confidentiality_code],
        event_code_list=event_codes_of(manifest.series, policy),
        language_code=policy.language_code,
        creation_time=_creation_time(manifest),
        service_start_time=service_time(study, policy),
        reference_id_list=references_of(study, policy),
    )


def _submission_set(
    study: Study, entry: DocumentEntry, policy: PublicationPolicy, identifiers: Identifiers
) -> SubmissionSet:
    return SubmissionSet(
        entry_uuid=identifiers.submission_set_uuid,
        unique_id=identifiers.submission_set_unique_id,
        patient_id=entry.patient_id,
        author=[author_of(study, policy)],
        content_type_code=policy.content_type_code,
        source_id=OID(policy.source_id),
        submission_time=entry.creation_time,
        title=entry.title,
    )


def _membership(entry: DocumentEntry, identifiers: Identifiers) -> Association:
    source, target = identifiers.submission_set_uuid, entry.entry_uuid
    return Association(
        entry_uuid=_link(source, target),
        association_type=HAS_MEMBER,
        source=source,
        target=target,
        submission_set_status=ORIGINAL,
    )


def _replacement(entry_uuid: str, replaced: str) -> Association:
    return Association(
        entry_uuid=_link(entry_uuid, replaced),
        association_type=RPLC,
        source=entry_uuid,
        target=replaced,
    )


def _link(source: str, target: str) -> str:
    """The name of the association of two objects: one of them is new, so the name is too."""
    return uuid5(UUID(source), target).urn


def domain_patient_id(study: Study, policy: PublicationPolicy) -> CX:
    """The patient in the affinity domain: as was found out, or if the images' ID is its own.

    The same digits from another authority are another person: such a study waits for a
    cross-reference of identifiers rather than appear in a stranger's record. Raises
    ManifestError for one that cannot be told.
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


def source_patient_id(study: Study, policy: PublicationPolicy) -> CX:
    """The patient as the images name it, with the authority that is meant."""
    patient = study.patient
    issuer = patient.issuer_oid or policy.source_authority or policy.assigning_authority
    return CX.of(patient.patient_id, issuer)


def patient_info(study: Study, policy: PublicationPolicy) -> list[str]:
    """PID-3, 5, 7 and 8 from the images (ITI TF-3 4.2.3.2.23); what is not known is left out."""
    patient = study.patient
    components = patient.name.partition("=")[0][:_NAME_LIMIT].rstrip("^").split("^")
    fields = {
        "PID-3": str(source_patient_id(study, policy)),
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


def author_of(study: Study, policy: PublicationPolicy) -> Author:
    """The institution where the images were made (RAD TF-3 4.68), else the configured one."""
    named = escape(study.institution.strip()[:_NAME_LIMIT])
    return Author(institution=[XON(named) if named else policy.institution])


def _title(manifest: Manifest, policy: PublicationPolicy) -> LocalizedString | None:
    """Study Description, or the modalities where the images carry none."""
    text = manifest.study.description or " ".join(_modalities(manifest.series, policy))
    return LocalizedString(text[:_TITLE_LIMIT], policy.language_code) if text else None


def _modalities(series: Sequence[ManifestSeries], policy: PublicationPolicy) -> list[str]:
    return sorted({one.modality for one in series} & policy.modalities.keys())


def event_codes_of(series: Sequence[ManifestSeries], policy: PublicationPolicy) -> list[Code]:
    """One code per acquisition modality, then one per anatomic region."""
    modalities = [
        Code(code, ACQUISITION_MODALITY_SCHEME, LocalizedString(policy.modalities[code]))
        for code in _modalities(series, policy)
    ]
    parts = sorted({one.body_part for one in series} & policy.body_parts.keys())
    return modalities + list(dict.fromkeys(policy.body_parts[part] for part in parts))


def _creation_time(manifest: Manifest) -> DTM:
    if manifest.created is None:
        raise ManifestError("a manifest needs its time of creation")
    return DTM.of(manifest.created)


def service_time(study: Study, policy: PublicationPolicy) -> DTM | None:
    """serviceStartTime: Study Date and Time, in UTC, as precise as they are known.

    A date without time stays the local date: it names a day, and no hour to convert.
    """
    known = local_time(study.date, study.time)
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


def references_of(study: Study, policy: PublicationPolicy) -> list[CXi]:
    """What a consumer may search the study by (ITI TF-3 4.2.3.2.28): order, accession, study."""
    local = policy.source_authority or policy.assigning_authority
    numbers = (
        number
        for one in study.requests
        for number in (
            (one.accession_number, ACCESSION_REFERENCE, one.accession_issuer_oid),
            (one.placer_order_number, ORDER_REFERENCE, one.placer_issuer_oid),
        )
    )
    references = [
        CXi.of(number, kind, HD.of(issuer or local)) for number, kind, issuer in numbers if number
    ]
    itself = CXi.of(study.study_instance_uid, STUDY_INSTANCE_UID_REFERENCE)
    return [*dict.fromkeys(references), itself]
