"""Verbs of the person who sets a node up: init, serve, config, check, version."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from node.cli import output
from node.cli.exits import Exit, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr, use


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=tr("Folder of the new node."))],
    plain: Annotated[
        bool,
        typer.Option("--plain", help=tr("No TLS, this machine only: for tests and first steps.")),
    ] = False,
    port_base: Annotated[
        int | None,
        typer.Option(
            min=0, max=65531, help=tr("HTTP N, admin N+1, MLLP N+2, MLLP over TLS N+3, DICOM N+4.")
        ),
    ] = None,
    assigning_authority: Annotated[
        str | None,
        typer.Option(metavar="OID", help=tr("OID that issues the domain's patient identifiers.")),
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help=tr("PostgreSQL instead of SQLite files."))
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help=tr("Code sets (TOML or codes.xml).")
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a node's folder; a file that cannot be used is not left behind."""
    from node.config_file import ConfigError, load
    from node.init import NewNode, create
    from node.wiring.common import affinity_domain

    made = None
    try:
        made = create(NewNode(folder, plain, port_base, assigning_authority, database, codes))
        affinity_domain(load(made))
    except ConfigError as error:
        if made is not None:
            made.unlink()
        raise UsageError(str(error)) from None
    if json:
        output.show_json({"config": str(made)})
        return
    output.console().print(tr("A node in {folder}. Next:", folder=folder))
    output.console().print(f"  kosmos serve --config {made}")


def serve(config: Config = DEFAULT_CONFIG) -> None:
    """Run every actor of the node until SIGTERM or Ctrl-C."""
    import asyncio

    from node import logs, migrate
    from node.config_file import load
    from node.preflight import refuse_mistakes
    from node.safe_versions import refuse_outdated
    from node.supervisor import StartFailed, Supervisor
    from node.wiring.keys import open_keys

    settings = load(config)
    if settings.node.language:
        use(settings.node.language)
    logs.configure("supervisor", settings.node.log_format, settings.node.log_level)
    refuse_outdated()
    open_keys(settings)  # wrong ones are refused before anything starts
    refuse_mistakes(settings)
    migrate.migrate(settings)
    supervisor = Supervisor(settings, config)
    try:
        asyncio.run(supervisor.run(lambda endpoints: typer.echo(endpoints.line())))
    except StartFailed as failed:
        typer.echo(tr("kosmos: {name} did not start, see its log", name=failed.name), err=True)
        raise typer.Exit(failed.code) from None


def show(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Print every value as the node understands it."""
    from node.config_file import load
    from node.show import effective

    values = effective(load(config), config)
    if json:
        output.show_json(values)
        return
    settings = values.pop("settings")
    rows = [(name, value) for name, value in _flat({**values, **settings}) if value is not None]
    output.console().print(output.table([tr("key"), tr("value")], rows))


def check(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Try the configuration, databases, folders, certificates and peers."""
    from node.check import check_all
    from node.config_file import load

    findings = check_all(load(config))
    if json:
        output.show_json([asdict(finding) for finding in findings])
    else:
        rows = [(_mark(finding.ok), finding.subject, finding.text) for finding in findings]
        output.console().print(output.table(["", tr("what"), tr("result")], rows))
    failed = [finding for finding in findings if not finding.ok]
    if failed:
        unreachable = all(finding.peer for finding in failed)
        raise typer.Exit(Exit.UNREACHABLE if unreachable else Exit.FAILED)


def version(json: Json = False) -> None:
    """Print the version of Kosmos and of what it stands on."""
    from node.version import versions

    found = versions()
    if json:
        output.show_json(found)
        return
    for name, number in found.items():
        typer.echo(f"{name} {number}")


def _flat(values: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _mark(ok: bool) -> str:
    return "[green]✓[/green]" if ok else "[red]✗[/red]"
