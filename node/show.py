"""What ``kosmos config show`` prints: every effective value, secrets masked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from node.config import Settings
from node.endpoints import Endpoints

DATABASES = ("registry", "repository", "imaging_source")


def effective(settings: Settings, file: Path) -> dict[str, Any]:
    """Endpoints and identifiers under the names that scripts hold on to, then all settings."""
    endpoints = asdict(Endpoints.of(settings))
    values = settings.model_dump(mode="json")
    for name in DATABASES:
        values[name]["database"] = _without_password(values[name]["database"])
    return {
        "config": str(file.resolve()),
        "endpoints": {name: where for name, where in endpoints.items() if name != "ae_title"},
        "aeTitle": settings.imaging_source.ae_title,
        "repositoryUniqueId": settings.repository.unique_id or None,
        "imagingRepositoryUniqueId": settings.imaging_source.unique_id or None,
        "homeCommunityId": f"urn:oid:{settings.node.home_community_id}",
        "assigningAuthority": settings.affinity_domain.assigning_authority,
        "settings": values,
    }


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "***" if "@" in url else url  # nobody knows what of it is the password
