"""Options that several verbs share, declared once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.exits import UsageError
from node.texts import tr

if TYPE_CHECKING:
    from metadata.datatypes import CX
    from node.config import Settings

Config = Annotated[
    Path,
    typer.Option("--config", envvar="KOSMOS_CONFIG", help=tr("Configuration file of the node.")),
]
Json = Annotated[bool, typer.Option("--json", help=tr("Print data as JSON."))]
DEFAULT_CONFIG = Path("kosmos.toml")


def address(place: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises UsageError."""
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(tr("{place} is not HOST:PORT", place=place))
    return host.strip("[]"), int(port)


def moment(text: str) -> datetime | None:
    """A time (ISO 8601), in the zone of this machine where it has none; None for an empty text.

    Raises UsageError.
    """
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UsageError(tr("{text} is no time, as 2026-11-26T08:00 is", text=text)) from None


def patient_id(text: str, settings: Settings) -> CX:
    """``ID`` in the node's own domain, or ``ID^^^&OID&ISO`` as it stands."""
    from metadata.datatypes import CX

    if "^" in text:
        return CX(text)
    return CX.of(text, settings.affinity_domain.assigning_authority)
