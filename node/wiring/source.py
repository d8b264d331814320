"""The publisher of the process ``dicom``: where manifests go, and what they say of themselves."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from hl7.message import Limits
from hl7.mllp import MllpLimits, MllpServer
from imaging_source.completeness import Signal
from imaging_source.outbox import Kind
from imaging_source.publisher import Place, Publisher
from imaging_source.report_feed import ReportFeed, unwitnessed
from imaging_source.reporting import Reporting
from imaging_source.withdrawal import Withdrawal
from manifest.entry import PublicationPolicy
from manifest.flavours import Flavour
from manifest.modalities import ACQUISITION_MODALITIES
from manifest.model import ManifestError
from manifest.profile import Profile, default_profile, profile_of
from manifest.regions import ANATOMIC_REGIONS
from metadata.affinity_domain import CodeSet
from metadata.datatypes import XON, LocalizedString, escape
from metadata.identifiers import ACQUISITION_MODALITY_SCHEME
from metadata.model import Code
from node.config import Settings
from node.config_file import ConfigError, Problem
from node.config_imaging import DocumentSection
from node.config_values import zone_of
from node.report_listener import ReportListener
from node.texts import tr
from node.wiring.audit import Auditor
from node.wiring.blobs import open_images
from node.wiring.common import Asked, affinity_domain, server_tls, unrecorded
from node.wiring.hl7_records import Hl7Records
from node.wiring.identity import authorities, crossing
from node.wiring.nodes import NodeGuard
from soap.client import SoapClient
from storage.database import Database
from transactions.iti_62 import ITI_62
from transactions.rad_68 import RAD_68

# Framing around the largest message.
BLOCK_OVERHEAD = 1024


def publisher(
    settings: Settings,
    database: Database,
    web: str,
    client: SoapClient,
    auditor: Auditor | None = None,
) -> Publisher:
    """The publisher of the imaging source; ``web`` is the base URL of this node's endpoints."""
    section = settings.imaging_source
    repository = f"{web}/repository" if section.repository == "local" else section.repository
    registry = f"{web}/registry" if section.registry == "local" else section.registry
    audited = unrecorded if auditor is None else auditor.calling
    asked = Asked.remote(registry, client, audited)
    withdrawal = Withdrawal(
        kind=Kind.REMOVAL if section.withdrawal == "remove" else Kind.DEPRECATION,
        update=asked.update,
        remove=audited(ITI_62.number, registry, partial(client.call, registry, ITI_62)),
        around=asked.around,
    )
    return Publisher(
        database,
        publication_policy(settings),
        Place(
            repository_unique_id=section.unique_id,
            ae_title=section.ae_title,
            wado_url=(section.document.wado_url or "").rstrip("/"),
            viewer_url=section.document.viewer_url or "",
        ),
        audited(RAD_68.number, repository, partial(client.call, repository, RAD_68)),
        asked.knows_submission,
        withdrawal=withdrawal,
        crossing=crossing(settings, auditor),
        believed=[Signal(one) for one in section.complete_by],
        reporting=_reporting(settings, database, withdrawal, auditor),
        quiet_seconds=section.quiet_seconds,
    )


def _reporting(
    settings: Settings, database: Database, withdrawal: Withdrawal, auditor: Auditor | None
) -> Reporting | None:
    section = settings.imaging_source
    if not section.reports.enabled and section.reports.port is None:
        return None
    return Reporting(
        database,
        open_images(settings),
        report_policy(settings),
        authorities(settings),
        instances=section.reports.enabled,
        withdrawal=withdrawal,
        crossing=crossing(settings, auditor),
    )


def report_listener(
    settings: Settings,
    database: Database,
    reporting: Reporting | None,
    guard: NodeGuard,
    auditor: Auditor | None = None,
) -> ReportListener | None:
    """The listener for reports; None where no port is configured. Raises TlsError, ConfigError."""
    section, limits = settings.imaging_source, settings.limits
    if reporting is None or section.reports.port is None:
        return None
    feed = ReportFeed(
        database,
        open_images(settings),
        reporting,
        Limits(size=section.reports.message_bytes),
        witness=Hl7Records(auditor).reporting if auditor else unwitnessed,
    )
    most = MllpLimits(
        max_block=section.reports.message_bytes + BLOCK_OVERHEAD, connections=limits.connections
    )
    server = MllpServer(
        feed.answer,
        section.host or settings.node.host,
        section.reports.port,
        ssl_context=server_tls(settings, "mllp"),
        limits=most,
        by_node=guard.mllp(feed.answer) if settings.tls.enabled else None,
        refused=guard.refused,
        overlong=guard.overlong,
    )
    return ReportListener(server)


def report_policy(settings: Settings) -> PublicationPolicy:
    """What the entries of reports say: what manifests say, by codes of their own."""
    section = settings.imaging_source.reports
    return replace(
        publication_policy(settings),
        class_code=section.class_code.coded,
        type_code=section.type_code.coded,
    )


def publication_policy(settings: Settings) -> PublicationPolicy:
    """What the manifests of this node say of themselves. Raises ConfigError."""
    section, document = settings.imaging_source, settings.imaging_source.document
    announced = affinity_domain(settings).code_sets.get("eventCodeList")
    return PublicationPolicy(
        source_id=section.unique_id,
        assigning_authority=settings.affinity_domain.assigning_authority,
        source_authority=section.source_assigning_authority or "",
        same_authorities=frozenset(section.same_authorities),
        class_code=document.class_code.coded,
        type_code=document.type_code.coded,
        content_type_code=document.content_type_code.coded,
        healthcare_facility_type_code=document.healthcare_facility_type_code.coded,
        practice_setting_code=document.practice_setting_code.coded,
        confidentiality_code=document.confidentiality_code.coded,
        institution=_institution(document),
        language_code=document.language_code,
        flavours=tuple(Flavour(one) for one in document.flavours),
        profile=_profile(document),
        fhir_release=document.fhir_release,
        time_zone=zone_of(settings.node.time_zone),
        modalities=_modalities(announced),
        body_parts=_regions(announced),
    )


def _profile(document: DocumentSection) -> Profile | None:
    """The national profile, where manifests follow one."""
    if "national" not in document.flavours:
        return None
    if document.national_profile == "drim-m":
        return default_profile()
    file = Path(document.national_profile)
    try:
        return profile_of(tomllib.loads(file.read_text("utf-8")))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (ManifestError, ValueError) as error:
        reason = str(error)
    text = tr("a national manifest needs a profile that can be read: {reason}", reason=reason)
    raise ConfigError([Problem(str(file), "imaging_source.document.national_profile", text)])


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


def _institution(document: DocumentSection) -> XON:
    """The name alone, or with the OID as its identifier (XON.10, ITI TF-3 4.2.3.1.7)."""
    name = escape(document.institution)
    return XON(f"{name}^^^^^^^^^{document.institution_oid}" if document.institution_oid else name)
