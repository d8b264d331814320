"""The publisher of the process ``dicom``: where manifests go, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from imaging_source.completeness import Signal
from imaging_source.outbox import Kind
from imaging_source.publisher import Place, Publisher
from imaging_source.withdrawal import Withdrawal
from manifest.entry import PublicationPolicy
from manifest.modalities import ACQUISITION_MODALITIES
from manifest.regions import ANATOMIC_REGIONS
from metadata.affinity_domain import CodeSet
from metadata.datatypes import XON, LocalizedString, escape
from metadata.identifiers import ACQUISITION_MODALITY_SCHEME
from metadata.model import Code
from node.config import CodeValue, DocumentSection, Settings, zone_of
from node.wiring.common import Asked, affinity_domain
from node.wiring.identity import crossing
from soap.client import SoapClient
from storage.database import Database
from transactions.iti_62 import ITI_62
from transactions.rad_68 import RAD_68


def publisher(settings: Settings, database: Database, web: str, client: SoapClient) -> Publisher:
    """The publisher of the imaging source; ``web`` is the base URL of this node's endpoints."""
    section = settings.imaging_source
    repository = f"{web}/repository" if section.repository == "local" else section.repository
    registry = f"{web}/registry" if section.registry == "local" else section.registry
    asked = Asked.remote(registry, client)
    return Publisher(
        database,
        publication_policy(settings),
        Place(repository_unique_id=section.unique_id, ae_title=section.ae_title),
        lambda request: client.call(repository, RAD_68, request),
        asked.knows_submission,
        withdrawal=Withdrawal(
            kind=Kind.REMOVAL if section.withdrawal == "remove" else Kind.DEPRECATION,
            update=asked.update,
            remove=lambda request: client.call(registry, ITI_62, request),
            around=asked.around,
        ),
        crossing=crossing(settings),
        believed=[Signal(one) for one in section.complete_by],
        quiet_seconds=section.quiet_seconds,
    )


def publication_policy(settings: Settings) -> PublicationPolicy:
    """What the manifests of this node say of themselves."""
    section, document = settings.imaging_source, settings.imaging_source.document
    announced = affinity_domain(settings).code_sets.get("eventCodeList")
    return PublicationPolicy(
        source_id=section.unique_id,
        assigning_authority=settings.affinity_domain.assigning_authority,
        source_authority=section.source_assigning_authority or "",
        same_authorities=frozenset(section.same_authorities),
        class_code=_code(document.class_code),
        type_code=_code(document.type_code),
        content_type_code=_code(document.content_type_code),
        healthcare_facility_type_code=_code(document.healthcare_facility_type_code),
        practice_setting_code=_code(document.practice_setting_code),
        confidentiality_code=_code(document.confidentiality_code),
        institution=_institution(document),
        language_code=document.language_code,
        time_zone=zone_of(settings.node.time_zone),
        modalities=_modalities(announced),
        body_parts=_regions(announced),
    )


def _modalities(announced: CodeSet | None) -> Mapping[str, str]:
    """The modalities that the domain has codes for, by the names it gives them.

    A code that it does not have would cost the study its publication.
    """
    if announced is None:
        return ACQUISITION_MODALITIES
    return {
        code: name or ACQUISITION_MODALITIES.get(code, code)
        for (scheme, code), name in announced.names.items()
        if scheme == ACQUISITION_MODALITY_SCHEME
    }


def _regions(announced: CodeSet | None) -> Mapping[str, Code]:
    """The anatomic regions that the domain has codes for, by the names it gives them."""
    if announced is None:
        return ANATOMIC_REGIONS
    return {
        term: replace(code, display_name=LocalizedString(name or code.display_name))
        for term, code in ANATOMIC_REGIONS.items()
        if (name := announced.names.get((code.scheme, code.code))) is not None
    }


def _code(value: CodeValue) -> Code:
    return Code(value.code, value.scheme, LocalizedString(value.display_name))


def _institution(document: DocumentSection) -> XON:
    """The name alone, or with the OID as its identifier (XON.10, ITI TF-3 4.2.3.1.7)."""
    name = escape(document.institution)
    return XON(f"{name}^^^^^^^^^{document.institution_oid}" if document.institution_oid else name)
