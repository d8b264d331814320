"""What the repository of a node assembles when it is asked for, and whom it tells."""

from __future__ import annotations

from metadata.model import DocumentEntry
from node.config import Settings
from node.config_values import zone_of
from node.wiring.common import Asked
from node.wiring.sights import Sights
from repository.imaging_summary import ImagingSummary
from repository.on_demand import Source
from repository.snapshots import Snapshots, Versions
from transactions.stored_query import find_documents, get_documents


def on_demand(settings: Settings, asked: Asked, sights: Sights | None) -> Source | None:
    """The source of assembled documents; None where the section says so.

    One summary is for everybody who may see it, so it tells what a node without user may see.
    """
    section, document = settings.repository.on_demand, settings.imaging_source.document
    if not section.enabled:
        return None
    source_id, content_type_code = settings.repository.unique_id, document.content_type_code.coded
    snapshots = Snapshots(
        register=asked.register,
        ask=asked.ask,
        source_id=source_id,
        content_type_code=content_type_code,
        replace_previous=section.replace_previous,
    )
    return Source(
        entries=lambda unique_id: asked.ask(get_documents(unique_id=[unique_id])).documents,
        providers=[_imaging_summary(settings, asked, sights)],
        snapshots=snapshots if section.persist else None,
        versions=Versions(asked.update, source_id, content_type_code),
    )


def _seen(asked: Asked, sights: Sights | None, entries: list[DocumentEntry]) -> list[DocumentEntry]:
    if sights is None:
        return entries
    hidden = asked.unseen(sights.of(), [one.entry_uuid for one in entries], ())
    return [one for one in entries if one.entry_uuid not in hidden]


def _imaging_summary(settings: Settings, asked: Asked, sights: Sights | None) -> ImagingSummary:
    section, document = settings.repository.on_demand, settings.imaging_source.document
    return ImagingSummary(
        find=lambda patient: _seen(asked, sights, asked.ask(find_documents(patient)).documents),
        type_code=section.type_code.coded,
        report_types=frozenset(one.coded for one in section.report_types),
        institution=document.institution,
        institution_oid=document.institution_oid or settings.node.home_community_id,
        time_zone=zone_of(settings.node.time_zone),
    )
