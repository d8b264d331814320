"""The manifest engine: from what the index knows of a study and a policy to bytes and entry.

A pure function for each family (``Flavour``): the same arguments give the same bytes and the
same DocumentEntry. ``content_hash`` is that of all families together whatever the identifiers
and the time, so that a study whose manifests would say nothing new is not published again.
What MADO requires and images may leave out is filled in here (IHE RAD MADO: issuers, an
accession number made up where there is none, the institution, the manufacturer).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import NAMESPACE_OID, UUID, uuid5

from manifest.entry import PublicationPolicy, document_entry, domain_patient_id
from manifest.fhir import write_fhir
from manifest.flavours import Flavour
from manifest.kos import write_kos
from manifest.mado import write_mado
from manifest.model import (
    Concept,
    Manifest,
    ManifestError,
    ManifestSeries,
    PatientIdentifier,
    Study,
)
from manifest.profile import write_national
from metadata import ebrim
from metadata.model import DocumentEntry, Submission

# The manufacturer of a manifest whose images do not name theirs (type R+ in MADO).
_MANUFACTURER = "Kosmos"

# Names and time of a manifest that is made only to be compared.
_NO_UID, _NO_UUID = "2.25.0", "urn:uuid:00000000-0000-4000-8000-000000000000"
_NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)

# Digits of a made-up accession number: with its letter, the 16 characters of VR SH.
_ACCESSION_DIGITS = 15


_MADO = (Flavour.MADO_KOS, Flavour.MADO_FHIR)


@dataclass(frozen=True, slots=True)
class Edition:
    """A manifest in one family: its entry and its bytes."""

    flavour: Flavour
    entry: DocumentEntry
    content: bytes


def edition(
    manifest: Manifest, policy: PublicationPolicy, flavour: Flavour, entry_uuid: str
) -> Edition:
    """``manifest`` in one family. Raises ManifestError if it cannot be written or published."""
    if flavour in _MADO:
        manifest = replace(manifest, study=_numbered(manifest.study, policy))
    entry = document_entry(manifest, policy, flavour, entry_uuid)
    return Edition(flavour, entry, _write(manifest, policy, flavour))


def editions(manifest: Manifest, policy: PublicationPolicy, entry_uuid: str) -> list[Edition]:
    """``manifest`` in every family of the policy; the first is called as it says itself.

    The names of the others are made from it and ``entry_uuid``.
    """
    first, *others = policy.flavours
    made = [edition(manifest, policy, first, entry_uuid)]
    for flavour in others:
        named = replace(
            manifest,
            sop_instance_uid=_derived_uid(manifest.sop_instance_uid, flavour),
            series_instance_uid=_derived_uid(manifest.series_instance_uid, flavour),
        )
        made.append(edition(named, policy, flavour, uuid5(UUID(entry_uuid), flavour).urn))
    return made


def content_hash(manifest: Manifest, policy: PublicationPolicy) -> str:
    """SHA-256 of what all editions say, whatever they are called and when they are made."""
    zone = None if manifest.created is None else manifest.created.tzinfo
    timeless = replace(
        manifest,
        sop_instance_uid=_NO_UID,
        series_instance_uid=_NO_UID,
        created=_NO_TIME.astimezone(zone),
    )
    digest = hashlib.sha256()
    for flavour in policy.flavours:
        one = edition(timeless, policy, flavour, _NO_UUID)
        digest.update(flavour.encode() + one.content)
        for fragment in ebrim.write_objects(Submission(documents=[one.entry])):
            digest.update(fragment)
    return digest.hexdigest()


def made_up_accession(study_instance_uid: str) -> str:
    """The accession number of a study that has none: always the same, for reports use it too."""
    digest = hashlib.sha256(study_instance_uid.encode()).digest()
    return f"K{int.from_bytes(digest, 'big') % 10**_ACCESSION_DIGITS:0{_ACCESSION_DIGITS}}"


def _derived_uid(uid: str, flavour: Flavour) -> str:
    """A UID for another family's document, by way of a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, f'{uid} {flavour}').int}"


def _write(manifest: Manifest, policy: PublicationPolicy, flavour: Flavour) -> bytes:
    match flavour:
        case Flavour.XDS_I:
            return write_kos(manifest)
        case Flavour.MADO_KOS:
            return write_mado(_described(manifest, policy))
        case Flavour.MADO_FHIR:
            return write_fhir(_described(manifest, policy), policy.fhir_release)
        case Flavour.NATIONAL:
            if policy.profile is None:
                raise ManifestError("no national profile is configured")
            return write_national(manifest, policy.profile)


def as_announced(study: Study, policy: PublicationPolicy) -> Study:
    """``study`` with the numbers that its manifests have, for what else refers to it."""
    return _numbered(study, policy) if set(policy.flavours) & set(_MADO) else study


def _numbered(study: Study, policy: PublicationPolicy) -> Study:
    """``study`` with an accession number, and who issued the numbers of each request."""
    local = policy.source_authority or policy.assigning_authority
    return replace(
        study,
        accession_number=study.accession_number or made_up_accession(study.study_instance_uid),
        accession_issuer_oid=study.accession_issuer_oid or local,
        placer_issuer_oid=study.placer_order_number and (study.placer_issuer_oid or local),
        further_requests=tuple(
            replace(
                one,
                accession_issuer_oid=one.accession_number and (one.accession_issuer_oid or local),
                placer_issuer_oid=one.placer_order_number and (one.placer_issuer_oid or local),
            )
            for one in study.further_requests
        ),
    )


def _described(manifest: Manifest, policy: PublicationPolicy) -> Manifest:
    """``manifest`` with patient, institution, manufacturer and regions as MADO requires them."""
    study, patient = manifest.study, manifest.patient
    local = policy.source_authority or policy.assigning_authority
    known_as = domain_patient_id(study, policy)
    return replace(
        manifest,
        study=replace(
            study,
            patient=replace(patient, issuer_oid=patient.issuer_oid or local),
            institution=study.institution or policy.institution.name,
            manufacturer=study.manufacturer or _MANUFACTURER,
        ),
        series=tuple(_with_region(one, policy) for one in manifest.series),
        other_patient_ids=(
            PatientIdentifier(known_as.id, known_as.assigning_authority.universal_id),
            *manifest.other_patient_ids,
        ),
    )


def _with_region(series: ManifestSeries, policy: PublicationPolicy) -> ManifestSeries:
    code = policy.body_parts.get(series.body_part)
    if code is None:
        return series
    return replace(series, region=Concept(code.code, "SCT", str(code.display_name or code.code)))
