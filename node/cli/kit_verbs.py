"""Verbs of the conformance kit: list its cases, run them against any vendor's actors."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import kit_identity, output
from node.cli.exits import Exit, UsageError
from node.cli.options import Json
from node.texts import language, tr

if TYPE_CHECKING:
    from conformance.case import Case
    from conformance.results import Result
    from conformance.targets import Targets
    from conformance.text import Language
    from metadata.model import Code
    from node.config import Settings

MIB = 1024 * 1024
PATIENCE = 60.0
"""Seconds for one exchange, where nothing else was said."""

CaseIds = Annotated[
    list[str] | None,
    typer.Option(
        "--case",
        metavar="ID",
        help=tr("Only this case, or the cases whose ids begin so; may be repeated."),
    ),
]
Url = Annotated[str | None, typer.Option(metavar="URL", help=tr("Endpoint under test."))]
Oid = Annotated[str | None, typer.Option(metavar="OID", help=tr("Identifier of that actor."))]


def list_cases(case: CaseIds = None, json: Json = False) -> None:
    """Print the cases of the kit, and what each expects."""
    from conformance.consumers import consumer_cases
    from conformance.manifests import manifest_cases
    from conformance.run import all_cases

    everything = [*all_cases(), *consumer_cases(), *manifest_cases()]
    told = [_told(one) for one in _selected(everything, case or [])]
    if json:
        output.show_json(told)
        return
    headings = ["id", tr("actor"), tr("title"), tr("expected"), tr("specification")]
    rows = [
        (one["id"], one["actor"], one["title"], "\n".join(one["expected"]), one["spec"])
        for one in told
    ]
    output.console().print(output.table(headings, rows))
    output.console().print(tr("{count} cases", count=len(told)))


def run(
    registry: Url = None,
    repository: Url = None,
    imaging: Url = None,
    mllp: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=tr("Endpoint under test."))
    ] = None,
    identity_v3: Url = None,
    link_change: Annotated[
        bool, typer.Option("--link-change", help=tr("The feed takes link changes (ITI-64)."))
    ] = False,
    multi_patient: Annotated[
        bool, typer.Option("--multi-patient", help=tr("The registry answers ITI-51."))
    ] = False,
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help=tr("The registry takes On-Demand entries (ITI-61)."))
    ] = False,
    on_demand_type: Annotated[
        str | None,
        typer.Option(
            metavar="CODE^^SCHEME", help=tr("typeCode of documents the repository assembles.")
        ),
    ] = None,
    administration: Annotated[
        bool,
        typer.Option(
            "--administration",
            help=tr("Registry and repository take ITI-57, ITI-62, ITI-92 and ITI-86."),
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help=tr("Node whose endpoints, codes, certificate and issuer stand in for options.")
        ),
    ] = None,
    assigning_authority: Annotated[
        str | None,
        typer.Option(metavar="OID", help=tr("OID that issues the domain's patient identifiers.")),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help=tr("HL7 namespace of that authority."))
    ] = None,
    patient: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help=tr("A patient the registry knows, where MLLP is missing.")),
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help=tr("Code sets (TOML or codes.xml).")
        ),
    ] = None,
    subscriptions: Url = None,
    listener: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help=tr("Where the broker may notify this kit.")),
    ] = None,
    broker_restart: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help=tr("Kills and restarts the broker.")),
    ] = None,
    repository_id: Oid = None,
    imaging_id: Oid = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="STUDY/SERIES/INSTANCE", help=tr("An image the source holds.")),
    ] = None,
    dicomweb: Url = None,
    wado_uri: Url = None,
    dicom: Annotated[
        str | None, typer.Option(metavar="AE@HOST:PORT", help=tr("Endpoint under test."))
    ] = None,
    move_to: Annotated[
        str | None,
        typer.Option(
            metavar="AE@HOST:PORT", help=tr("Where the source may move images to: this machine.")
        ),
    ] = None,
    publishes: Annotated[
        bool,
        typer.Option(
            "--publishes", help=tr("The source publishes to that repository and registry.")
        ),
    ] = False,
    repository_facing_simulator: Url = None,
    simulator_port: Annotated[
        int, typer.Option(help=tr("Where that repository expects its registry."))
    ] = 0,
    crash: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help=tr("Kills and restarts that repository.")),
    ] = None,
    big_document: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help=tr("Size of the document of R17."))
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help=tr("Seconds for one exchange."))
    ] = None,
    mllp_tls: Annotated[
        bool, typer.Option("--mllp-tls", help=tr("Speak TLS to the MLLP endpoint."))
    ] = False,
    dicom_tls: Annotated[
        bool, typer.Option("--dicom-tls", help=tr("Speak TLS to the DICOM endpoint."))
    ] = False,
    tls_certificate: kit_identity.Certificate = None,
    tls_key: kit_identity.Key = None,
    tls_trust: kit_identity.Trust = None,
    tls_authority: kit_identity.Authority = None,
    tls_authority_key: kit_identity.AuthorityKey = None,
    direct_certificate: kit_identity.Direct = None,
    direct_key: kit_identity.DirectKey = None,
    policy: kit_identity.Policy = None,
    treat: kit_identity.Treat = None,
    audit_listener: kit_identity.AuditListener = None,
    issuer: kit_identity.IssuerName = None,
    issuer_certificate: kit_identity.IssuerCertificate = None,
    issuer_key: kit_identity.IssuerKey = None,
    audience: kit_identity.Audience = None,
    case: CaseIds = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help=tr("Write JUnit, evidence and pages here."))
    ] = None,
    json: Json = False,
) -> None:
    """Run cases; they need nothing but the endpoints named."""
    from conformance.run import all_cases
    from conformance.run import run as run_cases

    targets = _of_node(config, move_to, timeout)
    given: dict[str, Any] = {
        "registry": registry,
        "repository": repository,
        "imaging": imaging,
        "mllp": mllp,
        "identity_v3": identity_v3,
        "link_change": link_change or None,
        "multi_patient": multi_patient or None,
        "on_demand": on_demand or None,
        "on_demand_type": _code(on_demand_type),
        "administration": administration or None,
        "subscriptions": subscriptions,
        "listener": listener,
        "broker_restart": broker_restart,
        "assigning_authority": assigning_authority,
        "namespace": namespace,
        "patients": tuple(patient or ()) or None,
        "repository_unique_id": repository_id,
        "imaging_unique_id": imaging_id,
        "dicomweb": dicomweb,
        "wado_uri": wado_uri,
        "dicom": dicom,
        "move_to": move_to,
        "publishes": publishes or None,
        "repository_facing_simulator": repository_facing_simulator,
        "simulator_port": simulator_port or None,
        "crash": crash,
        "big_document": big_document and big_document * MIB,
        "mllp_tls": mllp_tls or None,
        "dicom_tls": dicom_tls or None,
        "ssl_context": kit_identity.tls_of(tls_certificate, tls_key, tls_trust),
        "authority": kit_identity.pair(
            ("--tls-authority", tls_authority), ("--tls-authority-key", tls_authority_key)
        ),
        "direct": kit_identity.pair(
            ("--direct-certificate", direct_certificate), ("--direct-key", direct_key)
        ),
        "access": kit_identity.table_of(policy),
        "treat": treat,
        "audit_listener": audit_listener,
        "audit_tls": kit_identity.door_of(tls_certificate, tls_key, tls_trust),
        "issuer": kit_identity.issuer_of(issuer, issuer_certificate, issuer_key, audience),
    }
    targets = replace(targets, **{key: value for key, value in given.items() if value is not None})
    targets = replace(targets, study=_study(study))
    if codes is not None:
        targets = replace(targets, domain=_domain(codes, targets.assigning_authority))
    results = run_cases(
        targets, _selected(all_cases(), case or []), report, progress=None if json else _show
    )
    _conclude(results.results, json, report)
    if not results.passed:
        raise typer.Exit(Exit.FAILED)


def consumer(
    command: Annotated[
        str,
        typer.Argument(
            help=tr(
                "Fetches {manifest} into {folder} from {url} of {source}, {dicomweb}, {wado} or"
                " {dicom}; 0: all."
            )
        ),
    ],
    timeout: Annotated[float, typer.Option(min=0.1, help=tr("Seconds for one run."))] = 60.0,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help=tr("Write JUnit, evidence and pages here."))
    ] = None,
    json: Json = False,
) -> None:
    """Judge a consumer of images, given as a command, by a source that lies."""
    from conformance.consumers import judge_consumer

    results = judge_consumer(command, report, timeout)
    for one in () if json else results.results:
        _show(one)
    _conclude(results.results, json, report)
    if not results.passed:
        raise typer.Exit(Exit.FAILED)


def manifest(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help=tr("KOS, MADO KOS or FHIR bundle."))
    ],
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help=tr("Write JUnit, evidence and pages here."))
    ] = None,
    json: Json = False,
) -> None:
    """Judge the content of a manifest file, rule by rule."""
    from conformance.manifests import judge_file
    from conformance.results import Verdict
    from manifest.model import ManifestError

    try:
        results = judge_file(file, report)
    except ManifestError as error:
        raise UsageError(tr("{file}: {error}", file=file, error=error)) from None
    judged = [one for one in results.results if one.verdict is not Verdict.NOT_RUN]
    for one in () if json else judged:
        _show(one)
    _conclude(judged, json, report)
    if not results.passed:
        raise typer.Exit(Exit.FAILED)


def _selected(cases: list[Case], ids: list[str]) -> list[Case]:
    from conformance.run import select

    try:
        return select(cases, ids)
    except KeyError as unknown:
        text = tr("no case {id}; `kosmos conformance list` shows them all", id=unknown.args[0])
        raise UsageError(text) from None


def _of_node(config: Path | None, move_to: str | None, timeout: float | None) -> Targets:
    """The targets that a node's configuration describes; the kit's defaults without one.

    Without a ``timeout`` there is time for the quiet after which the node publishes a study.
    """
    from conformance.dimse import CALLING
    from conformance.targets import Targets

    if config is None:
        return Targets(timeout=timeout or PATIENCE)
    from node.config_file import load
    from node.endpoints import Endpoints
    from node.wiring.common import affinity_domain, client_tls
    from node.wiring.tokens import own_issuer

    settings = load(config)
    timeout = timeout or PATIENCE + settings.imaging_source.quiet_seconds
    places = Endpoints.of(settings)
    tls: ssl.SSLContext | None = client_tls(settings)
    title = move_to.partition("@")[0] if move_to else CALLING
    return Targets(
        registry=places.registry,
        repository=places.repository,
        imaging=places.imaging,
        mllp=places.mllp,
        identity_v3=places.registry,
        dicomweb=places.dicomweb,
        wado_uri=places.wado_uri,
        dicom=f"{places.ae_title}@{places.dicom}" if _may_query(settings, title) else None,
        publishes=_publishes_here(settings, timeout),
        subscriptions=places.subscriptions,
        link_change=places.mllp is not None,
        multi_patient=places.registry is not None,
        on_demand=places.registry is not None,
        on_demand_type=_assembled_type(settings),
        administration=settings.registry.administration and settings.repository.administration,
        assigning_authority=settings.affinity_domain.assigning_authority,
        namespace=settings.affinity_domain.namespace or None,
        domain=affinity_domain(settings),
        repository_unique_id=settings.repository.unique_id or None,
        imaging_unique_id=settings.imaging_source.unique_id or None,
        ssl_context=tls,
        dicom_tls=settings.dicom_over_tls,
        issuer=own_issuer(settings) if settings.assertions.own.name else None,
        timeout=timeout,
    )


def _assembled_type(settings: Settings) -> Code | None:
    """The typeCode of what the node's repository assembles, if it does."""
    from metadata.model import Code

    section = settings.repository.on_demand
    if not (settings.repository.enabled and section.enabled):
        return None
    return Code(section.type_code.code, section.type_code.scheme)


def _may_query(settings: Settings, title: str) -> bool:
    """Whether the node's DICOM listener answers queries of ``title``."""
    source = settings.imaging_source
    known = {*source.peers, *source.query_titles}
    return source.enabled and not known.isdisjoint({title, "*"})


def _publishes_here(settings: Settings, timeout: float) -> bool:
    """Whether the node's manifests come to its own repository and registry while a case waits."""
    source = settings.imaging_source
    own = (source.repository, settings.repository.registry) == ("local", "local")
    return source.enabled and own and source.quiet_seconds < timeout


def _code(text: str | None) -> Code | None:
    from metadata.model import Code

    if text is None:
        return None
    code, separator, scheme = text.partition("^^")
    if not (code and separator and scheme):
        raise UsageError(tr("--on-demand-type is CODE^^SCHEME"))
    return Code(code, scheme)


def _domain(file: Path, authority: str) -> Any:
    from node import codes
    from node.config_file import ConfigError

    try:
        return codes.domain(file, {"assigning_authority": authority})
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _study(text: str | None) -> Any:
    from conformance.targets import Study

    if text is None:
        return None
    uids = text.split("/")
    if len(uids) != 3:
        raise UsageError(tr("--study is STUDY/SERIES/INSTANCE, three UIDs"))
    return Study(*uids)


def _show(result: Result) -> None:
    """A line for each case as it ends."""
    from conformance.results import Verdict

    marks = {
        Verdict.PASSED: "[green]✓[/green]",
        Verdict.FAILED: "[red]✗[/red]",
        Verdict.NOT_RUN: "[yellow]-[/yellow]",
    }
    console = output.console()
    title = _words(result.case.title)
    line = f"{result.case.id:<36} {title}"
    console.print(marks[result.verdict], end=" ")
    console.print(line, markup=False, soft_wrap=True)
    if result.verdict is Verdict.FAILED:
        console.print(tr("  expected: {text}", text=result.expected), markup=False, soft_wrap=True)
        console.print(tr("  seen: {text}", text=result.seen), markup=False, soft_wrap=True)
    elif result.verdict is Verdict.NOT_RUN:
        console.print(f"  {_words(result.reason)}", markup=False, soft_wrap=True)


def _conclude(results: list[Result], json: bool, report: Path | None) -> None:
    from conformance.results import Verdict

    counts = {verdict: sum(one.verdict is verdict for one in results) for verdict in Verdict}
    if json:
        output.show_json(
            [{**_told(one.case), "verdict": one.verdict.value, "seen": one.seen} for one in results]
        )
        return
    failed = [one for one in results if one.verdict is Verdict.FAILED]
    if len(failed) < len(results):
        for one in failed:  # again, at the end, where they are not lost among hundreds that passed
            _show(one)
    told = tr(
        "{passed} passed, {failed} failed, {not_run} not run",
        passed=counts[Verdict.PASSED],
        failed=counts[Verdict.FAILED],
        not_run=counts[Verdict.NOT_RUN],
    )
    output.console().print(told)
    if report is not None:
        page = report / ("index.fr.html" if language() == "fr" else "index.html")
        output.console().print(str(page), soft_wrap=True)


def _told(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "actor": _words(case.actor.value),
        "title": _words(case.title),
        "spec": case.spec,
        "expected": [one.describe(_language()) for one in case.expected],
        "needs": sorted(case.needs),
    }


def _language() -> Language:
    return "fr" if language() == "fr" else "en"


def _words(text: Any) -> str:
    return str(getattr(text, language()))
