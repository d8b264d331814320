"""The way in: which cases there are, and running them against targets.

    results = run(Targets(registry="https://…"), select(all_cases(), ["G01"]), Path("report"))

Each case runs on its own; none depends on another having run, nor on what the system under
test held before. Cases run one after the other, so that a report can be read in order.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path

from conformance.bench import Bench, Session
from conformance.case import NEEDS, Actor, Case, select
from conformance.cases import (
    audit_options,
    audit_trail,
    authorisation,
    every_query,
    identity_v3,
    imaging,
    link_change,
    metadata_levels,
    mllp_framing,
    on_demand,
    patient_feed,
    pull_points,
    query_faults,
    query_retrieve,
    registry_links,
    registry_query,
    registry_remove,
    registry_status,
    registry_submit,
    registry_update,
    rejection_notes,
    remove_documents,
    repository,
    response_headers,
    restricted_update,
    rules_administration,
    rules_attributes,
    rules_ebrim,
    rules_query,
    rules_registration,
    rules_repository,
    rules_structure,
    secure_nodes,
    simulated,
    subscription_delivery,
    subscription_faults,
    subscriptions,
    user_assertions,
    wado_rs,
    wado_uri,
    web_services,
)
from conformance.evidence import now
from conformance.expectation import Mismatch
from conformance.report import write_report
from conformance.results import Result, Results, Verdict
from conformance.rules import PREFIX
from conformance.targets import NotRun, Targets
from conformance.text import NO_TEXT, Text

__all__ = ["all_cases", "run", "select"]

log = logging.getLogger(__name__)

_COLLECTED = (
    registry_submit.CASES,
    registry_links.CASES,
    on_demand.ENTRIES,
    registry_query.CASES,
    every_query.CASES,
    query_faults.CASES,
    metadata_levels.CASES,
    on_demand.QUERIES,
    registry_update.CASES,
    registry_status.CASES,
    registry_remove.CASES,
    restricted_update.CASES,
    secure_nodes.CASES,
    user_assertions.CASES,
    authorisation.CASES,
    audit_trail.CASES,
    audit_options.CASES,
    repository.CASES,
    simulated.CASES,
    on_demand.ASSEMBLY,
    remove_documents.CASES,
    subscriptions.CASES,
    subscription_faults.CASES,
    subscription_delivery.CASES,
    pull_points.CASES,
    patient_feed.CASES,
    link_change.CASES,
    mllp_framing.CASES,
    identity_v3.CASES,
    web_services.CASES,
    response_headers.CASES,
    imaging.CASES,
    query_retrieve.CASES,
    wado_uri.CASES,
    wado_rs.CASES,
    rejection_notes.CASES,
    rules_ebrim.CASES,
    rules_attributes.CASES,
    rules_structure.CASES,
    rules_registration.CASES,
    rules_query.CASES,
    rules_administration.CASES,
    rules_repository.PROVIDE,
    rules_repository.RETRIEVE,
    rules_repository.IMAGING,
)

_ENDPOINTS = (
    "registry",
    "repository",
    "mllp",
    "imaging",
    "dicomweb",
    "wado_uri",
    "dicom",
    "identity_v3",
    "subscriptions",
    "repository_facing_simulator",
)


def all_cases() -> list[Case]:
    """Every case, by id within its actor; those made from the catalogue of rules come last."""
    actors = list(Actor)
    return sorted(
        chain(*_COLLECTED),
        key=lambda one: (actors.index(one.actor), one.id.startswith(PREFIX), one.id),
    )


def run(
    targets: Targets,
    cases: Iterable[Case] | None = None,
    report_dir: Path | None = None,
    *,
    progress: Callable[[Result], None] | None = None,
) -> Results:
    """Run ``cases`` (all by default); write the report into ``report_dir`` if given.

    ``progress`` is told of each result as it comes. Never raises for what a peer does.
    """
    session = Session(targets, secrets.token_hex(4).upper())
    started, clock = now(), time.monotonic()
    results = []
    with closing(session):
        if targets.gives("audit_listener"):
            with suppress(NotRun):  # told by the cases that need it
                session.audit_repository()  # at once: who finds nobody there asks ever more rarely
        for case in all_cases() if cases is None else cases:
            result = run_case(case, session)
            results.append(result)
            if progress is not None:
                progress(result)
    endpoints = {name: str(getattr(targets, name)) for name in _ENDPOINTS if targets.gives(name)}
    outcome = Results(session.run_id, started, time.monotonic() - clock, endpoints, results)
    if report_dir is not None:
        write_report(outcome, report_dir)
    return outcome


def run_case(case: Case, session: Session) -> Result:
    """Run one case and judge what it saw."""
    missing = [NEEDS[need] for need in sorted(case.needs) if not session.targets.gives(need)]
    if missing:
        reason = Text(
            "needs " + "; ".join(text.en for text in missing),
            "il faut " + " ; ".join(text.fr for text in missing),
        )
        return Result(case, Verdict.NOT_RUN, reason=reason)
    bench, clock = Bench(session), time.monotonic()
    verdict, expected, seen, reason = Verdict.PASSED, "", "", NO_TEXT
    try:
        expected, seen = _judge(case, bench)
    except Mismatch as mismatch:
        verdict, expected, seen = Verdict.FAILED, mismatch.expected, mismatch.seen
    except NotRun as not_run:
        verdict, reason = Verdict.NOT_RUN, not_run.reason
    except Exception as error:
        # A peer's nonsense can break assumptions anywhere; whatever it breaks is a failure.
        log.warning("KIT-BROKEN case %s: %s", case.id, type(error).__name__, exc_info=error)
        expected = "; ".join(one.describe() for one in case.expected)
        verdict, seen = Verdict.FAILED, f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - clock
    return Result(case, verdict, seconds, expected, seen, reason, bench.record.exchanges)


def _judge(case: Case, bench: Bench) -> tuple[str, str]:
    """Bring each expectation about; what was expected and seen at the end. Raises Mismatch."""
    waiting = list(case.expected)
    seen: list[str] = []
    for one in case.stimulus(bench):
        waiting.pop(0).judge(one)
        seen.append(one.describe())
    if waiting:
        raise Mismatch(waiting[0].describe(), "nothing: the case ended before")
    return "; ".join(one.describe() for one in case.expected), "; ".join(seen)
