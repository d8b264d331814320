"""The report of a run: JUnit XML, one JSON file of evidence a case, one HTML page a language.

DIR/junit.xml
DIR/evidence/G01.json …
DIR/index.html       English
DIR/index.fr.html    French
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lxml import etree

from conformance.evidence import Exchange, Side
from conformance.report.page import write_page
from conformance.results import Result, Results, Verdict
from conformance.text import Language

__all__ = ["write_report"]

PAGES: dict[Language, str] = {"en": "index.html", "fr": "index.fr.html"}


def write_report(results: Results, folder: Path) -> None:
    """Write all parts of the report into ``folder``, which is made if need be.

    Raises OSError when it cannot be written.
    """
    evidence = folder / "evidence"
    evidence.mkdir(parents=True, exist_ok=True)
    (folder / "junit.xml").write_bytes(junit(results))
    for result in results.results:
        text = json.dumps(evidence_of(result), ensure_ascii=False, indent=1)
        (evidence / f"{result.case.id}.json").write_text(text, "utf-8")
    for language, name in PAGES.items():
        (folder / name).write_text(write_page(results, language, PAGES), "utf-8")


def junit(results: Results) -> bytes:
    """The run as JUnit XML, one test case a case."""
    suite = etree.Element(
        "testsuite",
        name="kosmos-conformance",
        tests=str(len(results.results)),
        failures=str(results.count(Verdict.FAILED)),
        skipped=str(results.count(Verdict.NOT_RUN)),
        errors="0",
        time=f"{results.seconds:.3f}",
        timestamp=results.started.isoformat(timespec="seconds"),
    )
    for result in results.results:
        suite.append(_test_case(result))
    return etree.tostring(suite, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _test_case(result: Result) -> etree._Element:
    case = etree.Element(
        "testcase",
        classname=f"conformance.{result.case.actor.name.lower()}",
        name=f"{result.case.id} {result.case.title.en}",
        time=f"{result.seconds:.3f}",
    )
    if result.verdict is Verdict.FAILED:
        message = f"expected {result.expected}; seen {result.seen}"
        etree.SubElement(case, "failure", message=_printable(message))
    elif result.verdict is Verdict.NOT_RUN:
        etree.SubElement(case, "skipped", message=result.reason.en)
    return case


def _printable(text: str) -> str:
    """``text`` without what XML cannot carry: a peer's answer may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def evidence_of(result: Result) -> dict[str, Any]:
    """A result and every exchange behind it, as JSON."""
    return {
        "id": result.case.id,
        "title": result.case.title._asdict(),
        "spec": result.case.spec,
        "actor": result.case.actor.value.en,
        "expectations": [one.describe() for one in result.case.expected],
        "verdict": result.verdict.value,
        "expected": result.expected,
        "seen": result.seen,
        "reason": result.reason._asdict(),
        "seconds": round(result.seconds, 3),
        "exchanges": [_exchange(one) for one in result.exchanges],
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "transaction": exchange.name,
        "endpoint": exchange.endpoint,
        "started": exchange.started.isoformat(),
        "seconds": round(exchange.seconds, 3),
        "request": _side(exchange.request),
        "response": _side(exchange.response) if exchange.response else None,
        "problem": exchange.problem,
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "line": side.line,
        "headers": dict(side.headers),
        "bytes": side.size,
        "text": side.text,
    }
