"""The verb ``summary``: a patient's imaging summary, to be had from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from node.config import Settings


def summary(
    patient: Annotated[
        str, typer.Argument(help=tr("Patient identifier: ID, or ID^^^&OID&ISO of another domain."))
    ],
    language: Annotated[
        str | None,
        typer.Option(metavar="fr-FR|en", help=tr("Language of the summary (languageCode).")),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Register the On-Demand entries of a patient's imaging summary, CDA and PDF (ITI-61)."""
    from node.config_file import load

    settings = load(config)
    if not settings.repository.enabled or not settings.repository.on_demand.enabled:
        raise UsageError(tr("this node has no repository that assembles documents"))
    made = _offer(patient, language or settings.imaging_source.document.language_code, settings)
    if json:
        output.show_json(made)
    elif not made:
        output.console().print(tr("registered before; nothing was changed"))
    else:
        lines = (f"{name}: {tr('registered: {unique_id}', unique_id=made[name])}" for name in made)
        output.console().print("\n".join(lines))


def _offer(patient: str, language: str, settings: Settings) -> dict[str, str]:
    """Register the entries that are missing; their uniqueIds by MIME type."""
    from metadata.datatypes import CX
    from metadata.identifiers import SUCCESS
    from node import summaries
    from node.wiring.commands import consuming
    from transactions.iti_61 import ITI_61

    authority = settings.affinity_domain.assigning_authority
    patient_id = CX(patient) if "^" in patient else CX.of(patient, authority)
    with consuming(settings, operator_name()) as finder:
        known = summaries.promised(finder, patient_id, settings)
        wanted = summaries.missing(known, language, settings)
        if not wanted:
            return {}
        request = summaries.promise(patient_id, wanted, language, settings)
        response = finder.client.call(finder.registry_url, ITI_61, request)
    if response.status != SUCCESS:
        lines = [f"{error.code}: {error.context}" for error in response.errors]
        raise CommandError("\n".join([tr("refused"), *lines]))
    return {str(entry.mime_type): str(entry.unique_id) for entry in request.submission.documents}
