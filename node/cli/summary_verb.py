"""The verb ``summary``: a patient's imaging summary, to be had from now on."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr


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
    from metadata.datatypes import CX
    from metadata.identifiers import SUCCESS
    from node import summaries
    from node.config_file import load
    from node.endpoints import Endpoints
    from node.wiring.common import Asked, soap_client
    from transactions.iti_61 import ITI_61
    from transactions.registry_response import RegistryUnavailable

    settings = load(config)
    if not settings.repository.enabled or not settings.repository.on_demand.enabled:
        raise UsageError(tr("this node has no repository that assembles documents"))
    authority = settings.affinity_domain.assigning_authority
    patient_id = CX(patient) if "^" in patient else CX.of(patient, authority)
    chosen = language or settings.imaging_source.document.language_code
    url = Endpoints.of(settings).registry or settings.repository.registry
    client = soap_client(settings)
    try:
        known = Asked.remote(url, client).ask(summaries.promised(patient_id, settings)).documents
    except RegistryUnavailable as error:
        raise CommandError(tr("the registry does not answer: {reason}", reason=error)) from None
    wanted = summaries.missing(known, chosen, settings)
    if not wanted:
        output.console().print(tr("registered before; nothing was changed"))
        return
    request = summaries.promise(patient_id, wanted, chosen, settings)
    response = client.call(url, ITI_61, request)
    if response.status != SUCCESS:
        lines = [f"{error.code}: {error.context}" for error in response.errors]
        raise CommandError("\n".join([tr("refused"), *lines]))
    made = {str(entry.mime_type): str(entry.unique_id) for entry in request.submission.documents}
    if json:
        output.show_json(made)
        return
    for mime_type, unique_id in made.items():
        output.console().print(f"{mime_type}: {tr('registered: {unique_id}', unique_id=unique_id)}")
